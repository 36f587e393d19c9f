"""Actions: what to do, with the reason and the undo; and what became of them."""

from dataclasses import dataclass
from enum import StrEnum

from gpuwarden.model.ids import CgroupId, DeviceId, IncidentId, Pid, TenantId


class Kind(StrEnum):
    """Everything the agent can do to the world. ``HARMFUL`` lists what may hurt a tenant."""

    WARN = "warn"
    THROTTLE = "throttle"
    UNTHROTTLE = "unthrottle"
    FREEZE = "freeze"
    THAW = "thaw"
    RESTART_OFF = "restart-off"
    RESTART_BACK = "restart-back"
    DETACH = "detach"
    """Its processes are taken off the MPS server they are clients of: a signal could take it along."""
    TERM = "term"
    KILL = "kill"
    STOP = "stop"
    SET_LIMIT = "set-limit"
    CLEAR_LIMIT = "clear-limit"
    SET_HOST_LIMITS = "set-host-limits"
    CORDON = "cordon"
    UNCORDON = "uncordon"
    RELOCATE = "relocate"
    RESTART_TENANT = "restart-tenant"
    ROLL_BACK = "roll-back"
    """A service's container is made again from the recorded specification of another version."""
    PAGE = "page"
    RESTART_SERVICES = "restart-services"
    RESET_GPU = "reset-gpu"
    RELOAD_DRIVER = "reload-driver"
    REBOOT = "reboot"
    KEEP_EVIDENCE = "keep-evidence"
    """What a repair that failed leaves to be looked at is put on disk before the next one is tried."""


HARMFUL = frozenset(
    {
        Kind.THROTTLE,
        Kind.FREEZE,
        Kind.RESTART_OFF,
        Kind.DETACH,
        Kind.TERM,
        Kind.KILL,
        Kind.STOP,
        Kind.SET_LIMIT,
        Kind.SET_HOST_LIMITS,
        Kind.CORDON,
        Kind.RELOCATE,
        Kind.RESTART_TENANT,
        Kind.ROLL_BACK,
        Kind.RESTART_SERVICES,
        Kind.RESET_GPU,
        Kind.RELOAD_DRIVER,
        Kind.REBOOT,
    }
)
"""Withheld in observe mode. Undo (thaw, unthrottle, restart-back, clear-limit, uncordon) never
is.
"""

BLOCKING = frozenset(
    {
        Kind.RESTART_OFF,
        Kind.RESTART_BACK,
        Kind.DETACH,
        Kind.STOP,
        Kind.RELOCATE,
        Kind.RESTART_TENANT,
        Kind.ROLL_BACK,
        Kind.PAGE,
        Kind.SET_LIMIT,
        Kind.CLEAR_LIMIT,
        Kind.CORDON,
        Kind.UNCORDON,
        Kind.RESTART_SERVICES,
        Kind.RESET_GPU,
        Kind.RELOAD_DRIVER,
        Kind.REBOOT,
        Kind.KEEP_EVIDENCE,
    }
)
"""Calls that may block (runtime, driver, network): they run on a worker, never in the loop."""


REPAIRS = frozenset({Kind.RESTART_SERVICES, Kind.RESET_GPU, Kind.RELOAD_DRIVER, Kind.REBOOT})
"""Steps of a repair: each belongs to the device it names, or to the node."""
ENDS_SIGHT = frozenset({Kind.RESET_GPU, Kind.RELOAD_DRIVER})
"""While these run the agent itself may have no device open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom an action is for: compared with the world again just before acting."""

    tenant: TenantId
    runtime: str
    cgroup: CgroupId | None = None
    pids: tuple[Pid, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing to do. ``id`` is unique and follows it through log, journal, metric and page."""

    id: str
    kind: Kind
    incident: IncidentId
    why: str
    target: Target | None = None
    device: DeviceId | None = None
    undo: Kind | None = None
    ttl_s: float | None = None
    """How long the effect may last without being renewed (freeze)."""
    params: tuple[tuple[str, str], ...] = ()


class Result(StrEnum):
    """What became of an action."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"
    STARTED = "started"
    """Handed to a worker; its outcome follows."""
    UNKNOWN = "unknown"
    """The agent died between intent and outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of an action. ``old`` keeps what the undo needs (old limits, old restart policy)."""

    action: str
    kind: Kind
    incident: IncidentId
    tenant: TenantId | None
    device: DeviceId | None
    result: Result
    at: float
    wall: float
    detail: str = ""
    old: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """An action not taken, and the budget or mode that stopped it."""

    kind: Kind
    incident: IncidentId
    tenant: TenantId | None
    device: DeviceId | None
    budget: str
    detail: str
