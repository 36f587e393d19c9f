"""The alias in a model registry follows a service's rollout, and what it pointed to is kept: registries forget."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Refused
from gpuwarden.log import get_log
from gpuwarden.model.ramp import Alias, Ramp, Stage
from gpuwarden.ports_evaluation import Documents
from gpuwarden.wire.convert_rollout import from_body, to_body

KIND = "alias"
RETRY_S = 60.0


class Registry(Protocol):
    """Implemented by ``adapters.mlflow``."""

    def read(self, model: str, alias: str) -> str | None: ...

    def write(self, model: str, alias: str, version: str) -> None: ...


@dataclass(slots=True)
class Aliases:
    """``look`` blocks; any one thread at a time."""

    documents: Documents
    registry: Registry
    clock: Clock
    ramps: Callable[[], Sequence[Ramp]]
    models: Mapping[str, str]
    """By service, the registered model."""
    alias: str
    failures: int = 0
    _tried: dict[str, float] = field(default_factory=dict)

    def look(self) -> None:
        """One pass: what others did to an alias is noted, and it is set where a rollout has ended."""
        for ramp in self.ramps():
            model, wanted = self.models.get(ramp.service), wanted_of(ramp)
            if (
                model is None
                or self.clock.now() - self._tried.get(ramp.service, -RETRY_S) < RETRY_S
            ):
                continue
            self._tried[ramp.service] = self.clock.now()
            try:
                self._one(ramp, model, wanted)
            except GpuwardenError as error:
                self.failures += 1
                get_log().warning("alias_waits", service=ramp.service, reason=str(error))

    def history(self, service: str) -> list[Alias]:
        """What it pointed to, newest first."""
        return [from_body(Alias, d.body) for d in self.documents.history(KIND, service, 1000)]

    def _one(self, ramp: Ramp, model: str, wanted: str | None) -> None:
        now = self.registry.read(model, self.alias)
        known = self.history(ramp.service)
        if now is not None and (not known or known[0].version != now):
            self._note(ramp.service, model, now, "somebody else")
        done = self.history(ramp.service)
        is_ours = any(each.rollout == ramp.id for each in done)
        if wanted is None or wanted == now or is_ours:
            return  # what a person pointed elsewhere after the rollout stays there
        self.registry.write(model, self.alias, wanted)
        self._note(ramp.service, model, wanted, f"rollout of {ramp.version}", ramp.id)

    def _note(self, service: str, model: str, version: str, by: str, rollout: str = "") -> None:
        document = self.documents.get(KIND, service)
        made = Alias(model=model, alias=self.alias, version=version, by=by, rollout=rollout)
        after = 0 if document is None else document.revision
        wall = self.clock.wall()
        self.documents.put(KIND, service, to_body(made), who=by, wall=wall, after=after)
        get_log().info("alias", service=service, model=model, version=version, by=by)


def wanted_of(ramp: Ramp) -> str | None:
    """The registry's number of the version that a rollout has ended with; None: it has not, or it has no number."""
    version = {Stage.DONE: ramp.version, Stage.UNDONE: ramp.base}.get(ramp.stage)
    if version is None:
        return None
    number = version.removeprefix("v")
    if not number.isdecimal():
        raise Refused(f"version {version} is no version of a registry: expected 7 or v7")
    return number
