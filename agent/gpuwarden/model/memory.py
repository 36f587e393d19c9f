"""What the agent remembers between ticks. Values only: a tick makes a new Memory from the old
one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gpuwarden.model.action import Kind, Outcome, Result, Target
from gpuwarden.model.device import Sight
from gpuwarden.model.ids import DeviceId, IncidentId, TenantId


class Rung(StrEnum):
    """A step of the escalation ladder, gentlest first. ``DONE`` and ``STUCK`` are rest."""

    WATCH = "watch"
    WARNED = "warned"
    THROTTLED = "throttled"
    HELD = "held"
    TERMED = "termed"
    KILLED = "killed"
    STOPPED = "stopped"
    STUCK = "stuck"
    DONE = "done"


IN_FLIGHT = frozenset({Rung.HELD, Rung.TERMED, Rung.KILLED, Rung.STOPPED})
"""Rungs of an eviction under way: at most one tenant a device may stand on one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One tenant's stay near or over its quota on one device. Times are monotonic seconds."""

    tenant: TenantId
    device: DeviceId
    soft_since: float | None = None
    """Since when it has been over soft without a list at or under the clear line."""
    over_since: float | None = None
    """Since when every list has shown it over soft."""
    hard_lists: int = 0
    """Consecutive lists over the hard trip; the second confirms."""
    hard_since: float | None = None
    confirmed_at: float | None = None
    last_listed_at: float = 0.0
    used_bytes: int = 0
    peak_bytes: int = 0
    limit_bytes: int = 0
    clear_since: float | None = None
    is_breach: bool = False
    """A breach was claimed (warned or more) and has not cleared yet: keeps one episode one
    episode.
    """


def episode_key(tenant: TenantId, device: DeviceId) -> str:
    """The key of a tenant's episode on a device (a string, so that it stands in JSON as it is)."""
    return f"{tenant} {device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One tenant on the ladder."""

    incident: IncidentId
    tenant: TenantId
    device: DeviceId
    rung: Rung
    since: float
    """When the rung was entered."""
    opened_at: float
    reason: str
    """quota-soft, quota-hard, reserve, unattributed, host-memory."""
    is_emergency: bool = False
    target: Target
    grace_s: float = 0.0
    bytes_at_open: int = 0
    limit_bytes: int = 0
    frozen_since: float | None = None
    is_throttled: bool = False
    is_restart_settled: bool = True
    """False while switching the restart policy off has been asked for and not answered."""
    old_restart: str | None = None
    acted: tuple[str, ...] = ()
    """Kinds already ordered on this rung: nothing is ordered twice on one rung."""
    withheld: tuple[str, ...] = ()
    """``kind/budget`` already reported as withheld: said once, not every tick."""
    devices: tuple[DeviceId, ...] = ()
    """Every device it held bytes on when the eviction began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """An evicted owner, by its name across re-creation. Wall seconds: survives a reboot."""

    owner_key: str
    evicted_wall: tuple[float, ...] = ()
    held_until_wall: float | None = None
    is_paged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """Something of somebody else's that we changed and owe back."""

    tenant: TenantId
    kind: Kind
    """The undo that settles it: restart-back, thaw, unthrottle, clear-limit."""
    target: Target
    incident: IncidentId
    device: DeviceId | None = None
    old: tuple[tuple[str, str], ...] = ()
    since_wall: float = 0.0
    due_wall: float | None = None
    """When to give it back; None: when its case ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """What is remembered of one device."""

    sight: Sight = Sight.OK
    sight_since: float = 0.0
    cooldown_until: float = 0.0
    """No new victim before this: the last eviction's bytes are still being counted back."""
    locked_since: float | None = None
    locked_why: str = ""
    recovery_asked_at: float | None = None
    """When the driver's event last asked for a recovery; None once one took it back."""
    unattributed_since: float | None = None
    unattributed_floor_bytes: int | None = None
    """Bytes nobody held when the device was first seen (display, other drivers): not news."""
    reserve_since: float | None = None
    """Since when free memory has been under the reserve."""
    cordoned_by: IncidentId | None = None
    last_resort: str = ""
    """What was ordered for the present lock-up once its offender was gone: relocate or cordon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The agent's memory. Mappings are replaced, never changed in place."""

    boot_id: str = ""
    started_at: float = 0.0
    last_at: float = 0.0
    serial: int = 0
    """Last number given to an incident or action of this boot."""
    episodes: Mapping[str, Episode] = field(default_factory=dict)
    """By ``episode_key``."""
    cases: Mapping[TenantId, Case] = field(default_factory=dict)
    tombstones: Mapping[str, Tombstone] = field(default_factory=dict)
    debts: tuple[Debt, ...] = ()
    devices: Mapping[DeviceId, DeviceMemory] = field(default_factory=dict)
    open_incidents: Mapping[str, IncidentId] = field(default_factory=dict)
    """Subject (``tenant/<id>``, ``device/<uuid>``, ``node``) -> its open incident."""
    joined: Mapping[str, str] = field(default_factory=dict)
    """Finding key -> subject of the incident it stands in."""
    claims: Mapping[str, float] = field(default_factory=dict)
    """Finding key -> since when it has been claimed without a break."""
    paged: Mapping[str, float] = field(default_factory=dict)
    """Finding key -> when somebody was last paged about it."""
    confirmed: frozenset[str] = frozenset()
    """Finding keys whose confirmation has been noted."""
    applied: Mapping[str, str] = field(default_factory=dict)
    """Preventive and host limits already ordered: ``limit <tenant> <device>`` -> value."""
    released: Mapping[DeviceId, float] = field(default_factory=dict)
    """Device -> when the last eviction on it ended."""

    def after(self, outcomes: tuple[Outcome, ...]) -> "Memory":
        """Fold what became of the actions. Unknown and failed outcomes settle nothing but the
        wait.
        """
        memory = self
        for outcome in outcomes:
            memory = _after_one(memory, outcome)
        return memory


def _after_one(memory: Memory, outcome: Outcome) -> Memory:
    if outcome.tenant is None or outcome.result is Result.STARTED:
        return memory
    case = memory.cases.get(outcome.tenant)
    debts = memory.debts
    done = outcome.result is Result.DONE
    settles = {
        Kind.RESTART_BACK: Kind.RESTART_BACK,
        Kind.THAW: Kind.THAW,
        Kind.UNTHROTTLE: Kind.UNTHROTTLE,
        Kind.CLEAR_LIMIT: Kind.CLEAR_LIMIT,
    }.get(outcome.kind)
    gone = outcome.result in (Result.REFUSED, Result.UNSUPPORTED)
    if settles is not None and (done or gone):
        debts = tuple(d for d in debts if not (d.tenant == outcome.tenant and d.kind is settles))
    owed = {
        Kind.RESTART_OFF: Kind.RESTART_BACK,
        Kind.FREEZE: Kind.THAW,
        Kind.THROTTLE: Kind.UNTHROTTLE,
        Kind.SET_LIMIT: Kind.CLEAR_LIMIT,
    }.get(outcome.kind)
    if owed is not None and (done or outcome.result is Result.UNKNOWN):
        debts = tuple(
            replace(d, old=outcome.old or d.old)
            if d.tenant == outcome.tenant and d.kind is owed
            else d
            for d in debts
        )
    elif owed is not None:
        debts = tuple(d for d in debts if not (d.tenant == outcome.tenant and d.kind is owed))
    if case is not None and outcome.kind is Kind.RESTART_OFF:
        old = dict(outcome.old).get("restart_policy", case.old_restart)
        case = replace(case, is_restart_settled=True, old_restart=old)
    if case is not None and outcome.kind is Kind.FREEZE and not done:
        case = replace(case, frozen_since=None)
    cases = memory.cases
    if case is not None and case is not cases.get(outcome.tenant):
        cases = {**cases, outcome.tenant: case}
    if cases is memory.cases and debts is memory.debts:
        return memory
    return replace(memory, cases=cases, debts=debts)


def _is_for(debt: Debt, outcome: Outcome, kind: Kind) -> bool:
    if debt.tenant != outcome.tenant or debt.kind is not kind:
        return False
    return debt.device is None or debt.device == outcome.device
