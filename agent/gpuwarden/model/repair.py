"""Faults: what signs were folded into, and how far the repair of each subject has come."""

from dataclasses import dataclass
from enum import StrEnum

from gpuwarden.model.ids import DeviceId, IncidentId, TenantId

NODE = "node"
"""The subject of what concerns the whole host; every other subject is a device's id."""


class FaultClass(StrEnum):
    """What kind of fault: chooses the ladder of remedies, and the first steps of who is paged."""

    APPLICATION = "application"
    HANG = "hang"
    ECC = "ecc"
    REMAP = "remap"
    """Memory waits for a reset to be taken out of use."""
    REMAP_FAILED = "remap-failed"
    LOST = "lost"
    LINK = "link"
    FABRIC = "fabric"
    DRIVER = "driver"
    SERVICE = "service"
    """A service the hardware needs (fabric manager, persistence daemon, IMEX) is down."""
    HARDWARE = "hardware"
    PERFORMANCE = "performance"
    HOST = "host"
    ADVISORY = "advisory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """One thing that was said of a fault: a kernel line, a driver's event, a polled condition.

    ``scope``, ``severity`` and ``action`` are the catalogue's words. ``code`` is ``xid 79``,
    ``sxid 20034``, ``fallen-off``, ``recovery 2`` or the key of a polled condition.
    """

    code: str
    at: float
    scope: str
    severity: str
    action: str
    cls: FaultClass
    device: DeviceId | None = None
    tenant: TenantId | None = None
    """Whose process it names; ``None``: nobody's, or nobody's any more that is known."""
    pid: int | None = None
    process: str = ""
    caused_by: str | None = None
    """The code that it says it follows from."""
    is_condition: bool = False
    """It is polled: it stands as long as it is told, and is over when it is not told any more."""
    is_trusted: bool = True
    """False from a source that others can write: it is shown, and nothing is done about it."""
    text: str = ""

    @property
    def subject(self) -> str:
        """The device it is about, or the node."""
        return NODE if self.device is None else str(self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Signs of one cause on one subject. ``root`` is the sign that stands for all of them."""

    root: Sign
    first_at: float
    last_at: float
    first_wall: float
    count: int = 1
    followers: tuple[tuple[str, int], ...] = ()
    """What else was said that follows from it, and how often; bounded."""
    tenants: tuple[TenantId, ...] = ()
    """Whose processes the signs name, the first first; bounded."""
    accused: TenantId | None = None
    """Who set it off, by a sign that names it or by being the only one that grew at the onset."""
    recovery: int = 0
    """The driver's recovery number while it stood, the highest; 0: it asked for nothing."""
    is_excused: bool = False
    """The driver, asked since, says that no recovery is needed."""
    told_at: float = 0.0
    """When a condition was last told."""
    repairs: int = 0
    """Repairs of the same fault before, that did not last."""

    @property
    def key(self) -> str:
        """Names it while it lasts."""
        return fault_key(self.root.subject, self.root.cls)


def fault_key(subject: str, cls: FaultClass) -> str:
    """The key of a fault in ``Memory.faults``."""
    return f"{subject}/{cls}"


class Step(StrEnum):
    """A remedy: one rung of a fault class's ladder."""

    RESTART_SERVICES = "restart-services"
    RESET_GPU = "reset-gpu"
    RELOAD_DRIVER = "reload-driver"
    REBOOT = "reboot"
    HAND_OVER = "hand-over"
    """People: the page says what was tried."""


class Phase(StrEnum):
    """Where a repair stands."""

    OPEN = "open"
    """A step is chosen; nothing of it has begun."""
    EMPTYING = "emptying"
    """Out of use; waits until nobody is left on it."""
    ACTING = "acting"
    VERIFYING = "verifying"
    PROBATION = "probation"
    """Verified; back in use once it has been well for long."""
    HANDED_OVER = "handed-over"
    REST = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One step that was tried. Wall seconds: budgets and history outlast a reboot."""

    step: Step
    wall: float
    result: str = ""
    """``done``, ``failed``, ``refused``, ``unverified``, ``verified``, ``unknown``; empty: under way."""
    cls: FaultClass = FaultClass.HARDWARE
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """The repair of one subject: at most one a device, and one of the node."""

    subject: str
    device: DeviceId | None
    cls: FaultClass
    incident: IncidentId
    ladder: tuple[Step, ...]
    phase: Phase
    rung: int = 0
    """Index in ``ladder``."""
    since: float
    """When the phase was entered."""
    opened_at: float
    attempts: tuple[Attempt, ...] = ()
    is_unsure: bool = False
    """The agent ended before it knew whether its step was done: it is measured, then done again."""
    boot_id: str = ""
    """The boot in which a reboot was ordered: another one proves it."""
    withheld: tuple[str, ...] = ()
    """``step/budget`` already reported: said once."""
    is_polled: bool = False
    """It began with a polled condition, which may pass."""
    is_overdue: bool = False
    """It was said that the subject does not empty."""

    @property
    def step(self) -> Step:
        """The remedy it stands on."""
        return self.ladder[min(self.rung, len(self.ladder) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a repair or a cordon is about: a device, or (``device`` None) the node."""

    device: DeviceId | None = None
    index: int | None = None
    pci: str = ""
