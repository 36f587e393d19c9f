"""What a tick decided, and the incident as a person reads it."""

from dataclasses import dataclass, field
from enum import StrEnum

from gpuwarden.model.action import Action, Withheld
from gpuwarden.model.command import Answer
from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId, IncidentId, TenantId
from gpuwarden.model.memory import Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePlan:
    """How the probe should look until told otherwise (pure result of ``policy.cadence``).

    ``period_s`` of the fast loop; ``list_trigger_bytes`` per device: growth since the last list
    that
    makes the probe list processes in the same pass; ``list_now``: devices to list at once.
    """

    period_s: float
    list_trigger_bytes: tuple[tuple[DeviceId, int], ...] = ()
    list_now: tuple[DeviceId, ...] = ()
    list_every_s: float = 2.0
    list_gap_s: float = 0.1
    slow_every_s: float = 5.0
    """How often what moves fastest of the slow facts is read, the driver's recovery number among it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Result of one pure pass: what is claimed, what to do, what was withheld, what to remember."""

    memory: Memory
    findings: tuple[Finding, ...] = ()
    actions: tuple[Action, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    plan: ProbePlan | None = None
    incidents: tuple["IncidentNote", ...] = ()
    """What this tick adds to which incident (opened, evidence, closed)."""
    wake_at: float | None = None
    """Monotonic seconds at which something becomes due by itself (grace over, hold expired)."""
    answers: tuple[Answer, ...] = ()
    """To the commands of this tick."""

    @property
    def is_notable(self) -> bool:
        """Whether the journal must keep this tick."""
        return bool(self.actions or self.withheld or self.incidents or self.answers)


class NoteKind(StrEnum):
    """What a note says of its incident."""

    OPENED = "opened"
    EVIDENCE = "evidence"
    DECIDED = "decided"
    JOINED = "joined"
    """Goes on in another incident."""
    RUNG = "rung"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentNote:
    """One line added to an incident by a decision."""

    incident: IncidentId
    kind: NoteKind
    text: str
    rule: str = ""
    tenant: TenantId | None = None
    device: DeviceId | None = None
    used_bytes: int | None = None
    limit_bytes: int | None = None
    evidence: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentStep:
    """One line of an incident's history: ``kind`` is a NoteKind, an action kind or ``withheld``."""

    at: float
    wall: float
    kind: str
    text: str
    result: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Everything that belongs together, under one id. ``points`` are (monotonic s, bytes),
    bounded.
    """

    id: IncidentId
    rule: str
    summary: str
    opened_at: float
    opened_wall: float
    tenant: TenantId | None = None
    tenant_name: str = ""
    tenant_class: str = ""
    runtime: str = ""
    device: DeviceId | None = None
    quota_bytes: int | None = None
    peak_bytes: int | None = None
    noticed_at: float | None = None
    decided_at: float | None = None
    closed_at: float | None = None
    closed_wall: float | None = None
    outcome: str = "open"
    mode: str = "observe"
    kernel_log: str = "none"
    advice: tuple[str, ...] = ()
    harmed: tuple[str, ...] = ()
    evidence: tuple[tuple[str, str], ...] = ()
    points: tuple[tuple[float, int], ...] = ()
    steps: tuple[IncidentStep, ...] = field(default=())
