"""What a health rule is: a judge of one class of samples, and what it claims."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gpuwarden.config import Config
from gpuwarden.config_health import HealthRule
from gpuwarden.model.device import Device
from gpuwarden.model.finding import Scope, Severity
from gpuwarden.model.health import Deep, Errors, Setup, Surroundings, Vitals
from gpuwarden.model.health_memory import DeviceHistory
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.policy.scene import Scene

Evidence = tuple[tuple[str, str], ...]


class Claim(NamedTuple):
    """One fault that a sample shows. ``summary`` goes on after ``GPU 3`` where it is a device's."""

    fault: str
    severity: Severity
    summary: str
    grace_s: float
    probation_s: float
    scope: Scope = Scope.GPU
    evidence: Evidence = ()
    subject: str = ""
    """Tells claims of one fault apart (a pid, a service)."""
    device: DeviceId | None = None
    """Of a claim that the host's samples make about a device."""
    tenant: TenantId | None = None


@dataclass(slots=True)
class Look:
    """One device with every class of its samples that still speaks for the present."""

    cfg: Config
    device: Device
    devices: Sequence[Device]
    """All of the node, this one too."""
    history: DeviceHistory
    wall: float
    vitals: Vitals | None = None
    errors: Errors | None = None
    setup: Setup | None = None
    deep: Deep | None = None

    def grown(self, counter: str) -> float:
        """By how much an error counter grew in the last whole window; 0 also where that is not known."""
        window = self.history.errors
        return window.grown.get(counter, 0.0) if window is not None else 0.0

    def span_s(self) -> float:
        """How long that window was."""
        return self.history.errors.span_s if self.history.errors is not None else 0.0


@dataclass(slots=True)
class HostLook:
    """The host. ``surroundings`` is None when they are not known or too old."""

    cfg: Config
    scene: Scene
    surroundings: Surroundings | None


class Judge(NamedTuple):
    """One question to one class of a device's samples.

    ``needs``: every fault it can claim, with the values without which nothing is known about that fault
    (dotted, from the ``Look``): a claim stays as it is while one of them is not told.
    """

    rule: str
    part: str
    """vitals, errors, setup or deep."""
    ask: Callable[[Look], Iterable[Claim]]
    needs: Mapping[str, tuple[str, ...]]


class HostJudge(NamedTuple):
    """The same about the host; asked every few seconds, and about each new sample."""

    rule: str
    ask: Callable[[HostLook], Iterable[Claim]]
    needs: Mapping[str, tuple[str, ...]]


def claim(
    cfg: HealthRule,
    fault: str,
    severity: Severity,
    summary: str,
    *,
    grace_s: float | None = None,
    scope: Scope = Scope.GPU,
    evidence: Evidence = (),
    subject: str = "",
    device: DeviceId | None = None,
    tenant: TenantId | None = None,
) -> Claim:
    """A claim with its rule's grace (or one of its own) and probation."""
    return Claim(
        fault=fault,
        severity=severity,
        summary=summary,
        grace_s=cfg.grace_s if grace_s is None else grace_s,
        probation_s=cfg.probation_s,
        scope=scope,
        evidence=evidence,
        subject=subject,
        device=device,
        tenant=tenant,
    )


def is_told(look: object, paths: str) -> bool:
    """Whether a value is known: none of the names on its path is None. ``a.b|a.c``: one of them."""
    return any(_is_there(look, path) for path in paths.split("|"))


def _is_there(look: object, path: str) -> bool:
    value: object = look
    for name in path.split("."):
        value = getattr(value, name, None)
        if value is None:
            return False
    return True
