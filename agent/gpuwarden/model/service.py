"""A service's probe, and how far its healing has come."""

from dataclasses import dataclass, replace
from enum import StrEnum

from gpuwarden.model.action import Kind, Outcome, Result, Target
from gpuwarden.model.ids import DeviceId, IncidentId, TenantId


class ProbeKind(StrEnum):
    """How a service is asked whether it is well."""

    HTTP = "http"
    HEALTHCHECK = "healthcheck"
    """Docker asks it, by the image's own HEALTHCHECK."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReading:
    """What a service's probe has said, newest first. ``is_well`` None: nothing yet, or nothing that counts
    (a container that is starting)."""

    service: str
    kind: ProbeKind
    tenant: TenantId | None
    """Who carries the service now, as far as is seen."""
    is_well: bool | None
    since: float
    """Monotonic seconds at which ``is_well`` began."""
    failures: int = 0
    """In a row."""
    limit: int = 3
    """So many are a claim."""
    every_s: float = 10.0
    at: float | None = None
    """When it was last told, well or not; None: never."""
    detail: str = ""

    @property
    def is_failing(self) -> bool:
        """Whether it has failed so often in a row that it counts."""
        return self.is_well is False and self.failures >= self.limit


class CarePhase(StrEnum):
    """Where the healing of a service stands."""

    WELL = "well"
    FAILING = "failing"
    """Its probe fails; nothing has been done about it in this episode."""
    RESTARTING = "restarting"
    VERIFYING = "verifying"
    """It was restarted: it has until a deadline to answer."""
    PROBATION = "probation"
    """It answers again; over once it has for long."""
    HANDED_OVER = "handed-over"
    """People were told: nothing more is tried until it answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """What is remembered of one probed service."""

    service: str
    phase: CarePhase = CarePhase.WELL
    since: float = 0.0
    """When the phase was entered."""
    target: Target | None = None
    """Who carried it when it was last seen."""
    devices: tuple[DeviceId, ...] = ()
    """On which devices it held bytes then."""
    grace_s: float = 10.0
    incident: IncidentId | None = None
    restarts_wall: tuple[float, ...] = ()
    """When restarts were ordered: what the budget an hour counts."""
    ordered: str = ""
    """Id of the restart that is under way, or was the last."""
    result: str = ""
    """What became of it; empty: under way."""
    detail: str = ""
    is_unsure: bool = False
    """The agent ended before it knew whether its restart was done: ordered once more for the same
    identity, which is refused if it was."""
    is_paged: bool = False
    withheld: tuple[str, ...] = ()
    """Budgets already reported: said once an episode."""


def after(care: Care, outcome: Outcome) -> Care:
    """A care with what became of the restart it waits for."""
    if outcome.kind is not Kind.RESTART_TENANT or outcome.action != care.ordered:
        return care
    if care.phase is not CarePhase.RESTARTING or outcome.result is Result.STARTED:
        return care
    return replace(
        care,
        result=outcome.result.value,
        detail=outcome.detail,
        is_unsure=outcome.result is Result.UNKNOWN,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """Whether an instance may be sent work, and everything that speaks against it."""

    name: str
    is_fit: bool
    service: str = ""
    tenant: TenantId | None = None
    reasons: tuple[str, ...] = ()
