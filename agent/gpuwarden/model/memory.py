"""What the agent remembers between ticks. Values only: a tick makes a new Memory of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gpuwarden.model.action import REPAIRS, Kind, Outcome, Result, Target
from gpuwarden.model.device import Sight
from gpuwarden.model.health_memory import HealthMemory
from gpuwarden.model.ids import DeviceId, IncidentId, TenantId
from gpuwarden.model.repair import NODE, Fault, Phase, Repair
from gpuwarden.model.rollback import Back
from gpuwarden.model.rollback import after as backed
from gpuwarden.model.service import Care
from gpuwarden.model.service import after as cared


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


def limit_key(tenant: TenantId, device: DeviceId) -> str:
    """The key of a tenant's preventive limit on a device in ``Memory.applied``."""
    return f"limit {tenant} {device}"


def host_key(tenant: TenantId) -> str:
    """The key of a tenant's host limits in ``Memory.applied``."""
    return f"host {tenant}"


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
    began_at: float | None = None
    """When its eviction began."""
    frozen_since: float | None = None
    is_throttled: bool = False
    is_restart_settled: bool = True
    """False while switching the restart policy off has been asked for and not answered."""
    is_restart_off: bool = True
    """Whether its runtime is known not to start it again by itself."""
    old_restart: str | None = None
    is_mps: bool = False
    """Whether processes of it were clients of an MPS server when the eviction began."""
    is_detached: bool = True
    """False while they are to be taken off it, and whether they are has not been answered."""
    is_unsure: bool = False
    """An agent died before it knew what became of what this hold had ordered."""
    is_paused: bool = False
    """Frozen by somebody else when the eviction began: it must not run again in between."""
    owner_key: str | None = None
    acted: tuple[str, ...] = ()
    """What may have reached it: kinds of orders to end it that were not refused."""
    withheld: tuple[str, ...] = ()
    """``kind/budget`` already reported as withheld: said once, not every tick."""
    devices: tuple[DeviceId, ...] = ()
    """Every device it held bytes on when the eviction began."""
    held: tuple[tuple[DeviceId, int], ...] = ()
    """How much there, in bytes."""
    nobodys: tuple[tuple[DeviceId, int], ...] = ()
    """Bytes nobody was listed with on those devices then: they must not become more by what it held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """An evicted owner, by its name across re-creation. Wall seconds: survives a reboot."""

    owner_key: str
    evicted_wall: tuple[float, ...] = ()
    held_until_wall: float | None = None
    is_paged: bool = False
    bystanders: tuple[TenantId, ...] = ()
    """Tenants under the same name that were there when one was evicted: they have not come back."""


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
    """What the undo needs: as known when it was ordered, then as its outcome told."""
    since_wall: float = 0.0
    due_wall: float | None = None
    """When to give it back (again); None: when its case ends. Moves when the wall clock is set."""
    ordered: str = ""
    """Id of the newest action about it, the deed or its undo: what became of an older one, told late by
    a slow worker, neither settles nor unmakes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """What is remembered of one device."""

    pci: str = ""
    """Where it is, or was while the driver still counted it."""
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
    cordoned_wall: float = 0.0
    """Unix seconds at which the cordon began."""
    held_by: str = ""
    """The operator who wants it cordoned: it is lifted by an operator, and by nobody else."""
    is_cordon_told: bool = False
    """Whether everybody who places jobs here has been told of the cordon."""
    uncordon_owed: IncidentId | None = None
    """The incident of a cordon of whose end somebody has still to be told."""
    cordon_tried_at: float | None = None
    """When that, or the cordon itself, was last told or tried."""
    cordon_tries: int = 0
    """How often in a row that has failed."""
    well_since: float | None = None
    """Of a cordoned device: since when nothing has spoken against it."""
    drained_wall: float = 0.0
    """Unix seconds at which an operator asked that what is cordoned be emptied, too; 0: nobody has."""
    is_drain_late: bool = False
    """Whether people were told who is still there."""
    drain_withheld: tuple[str, ...] = ()
    """What of a drain is withheld and has been said: action and budget."""
    last_resort: str = ""
    """What was ordered for the present lock-up once its offender was gone: relocate or cordon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The agent's memory. Mappings are replaced, never changed in place."""

    boot_id: str = ""
    started_at: float = 0.0
    last_at: float = 0.0
    last_wall: float = 0.0
    """Unix seconds at ``last_at``: tells when the wall clock was set in between."""
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
    """Preventive and host limits already ordered, by ``limit_key`` and ``host_key``; the value, or
    ``failed <at>``."""
    released: Mapping[DeviceId, float] = field(default_factory=dict)
    """Device -> when the last eviction on it ended."""
    health: HealthMemory = field(default_factory=HealthMemory)
    kernel_heard: tuple[int, int] | None = None
    """Number and stamp (microseconds since boot) of the newest kernel record that was folded in; of this boot."""
    faults: Mapping[str, Fault] = field(default_factory=dict)
    """By ``fault_key``."""
    repairs: Mapping[str, Repair] = field(default_factory=dict)
    """By subject: a device's id, or ``NODE``."""
    mended: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Fault key -> wall seconds of the repairs that were verified; outlasts a reboot."""
    spent: tuple[tuple[str, str, float], ...] = ()
    """(subject, step, wall seconds) of each step ordered: what the budgets a day count."""
    cares: Mapping[str, Care] = field(default_factory=dict)
    """By service: every one that is probed."""
    backs: Mapping[str, Back] = field(default_factory=dict)
    """By service: those on their way to another version."""

    def after(self, outcomes: tuple[Outcome, ...]) -> "Memory":
        """Fold what became of the actions. Unknown and failed outcomes settle nothing but the wait."""
        memory = self
        for outcome in outcomes:
            memory = _after_one(memory, outcome)
        return memory


SETTLES = frozenset({Kind.RESTART_BACK, Kind.THAW, Kind.UNTHROTTLE, Kind.CLEAR_LIMIT})
OWES = {
    Kind.RESTART_OFF: Kind.RESTART_BACK,
    Kind.FREEZE: Kind.THAW,
    Kind.THROTTLE: Kind.UNTHROTTLE,
    Kind.SET_LIMIT: Kind.CLEAR_LIMIT,
}
"""What an action changes has to be given back by this."""
ENDS = frozenset({Kind.DETACH, Kind.TERM, Kind.KILL, Kind.STOP})
RESUMES = {Kind.KILL: Rung.TERMED, Kind.STOP: Rung.KILLED}
"""A case whose agent died before it knew what became of this stands again on the rung before it: the
world is measured first, and what still lives meets the same rung."""


def _after_one(memory: Memory, outcome: Outcome) -> Memory:
    if outcome.kind in REPAIRS:
        return _after_step(memory, outcome)
    if outcome.kind in (Kind.CORDON, Kind.UNCORDON):
        return _after_cordon(memory, outcome)
    if outcome.kind is Kind.ROLL_BACK:
        backs = {name: backed(back, outcome) for name, back in memory.backs.items()}
        return replace(memory, backs=backs)
    if outcome.kind is Kind.RESTART_TENANT:
        cares = {name: cared(care, outcome) for name, care in memory.cares.items()}
        return replace(memory, cares=cares)
    if outcome.tenant is None:
        return memory
    debts = tuple(d for d in memory.debts if not _is_settled(d, outcome))
    if outcome.kind in SETTLES and outcome.result is Result.UNKNOWN:
        # It was due when it was ordered: nobody waits for the time of another try.
        debts = tuple(
            replace(d, due_wall=None) if _is_for(d, outcome, outcome.kind) else d for d in debts
        )
    if outcome.kind in OWES and outcome.old:
        # What was there first is what is owed: a second time finds our own setting.
        debts = tuple(
            replace(d, old=tuple({**dict(outcome.old), **dict(d.old)}.items()))
            if _is_for(d, outcome, OWES[outcome.kind])
            else d
            for d in debts
        )
    cases = memory.cases
    case = cases.get(outcome.tenant)
    if case is not None:
        moved = _case_after(case, outcome)
        if moved is not case:
            cases = {**cases, outcome.tenant: moved}
    applied = memory.applied
    key = _limit_of(outcome.tenant, outcome)
    if key in applied and outcome.result is Result.FAILED:
        applied = {**applied, key: f"failed {outcome.at:.3f}"}
    if key in applied and outcome.result is Result.UNKNOWN:  # set again at once: twice is the same
        applied = {k: v for k, v in applied.items() if k != key}
    if cases is memory.cases and debts == memory.debts and applied is memory.applied:
        return memory
    return replace(memory, cases=cases, debts=debts, applied=applied)


def _after_step(memory: Memory, outcome: Outcome) -> Memory:
    """A repair learns what became of the step it waits for."""
    subject = NODE if outcome.device is None else str(outcome.device)
    repair = memory.repairs.get(subject)
    if repair is None or repair.phase is not Phase.ACTING or outcome.result is Result.STARTED:
        return memory
    if not repair.attempts or repair.attempts[-1].step != outcome.kind.value:
        return memory
    told = replace(repair.attempts[-1], result=outcome.result.value, detail=outcome.detail)
    repair = replace(
        repair,
        attempts=(*repair.attempts[:-1], told),
        is_unsure=outcome.result is Result.UNKNOWN,
    )
    return replace(memory, repairs={**memory.repairs, subject: repair})


def _after_cordon(memory: Memory, outcome: Outcome) -> Memory:
    """Whether others know of a cordon; one that could not be told is told again later."""
    state = memory.devices.get(outcome.device) if outcome.device is not None else None
    if outcome.device is None or state is None or outcome.result is Result.STARTED:
        return memory
    is_told = outcome.result in (Result.DONE, Result.UNSUPPORTED)
    state = replace(state, cordon_tries=0 if is_told else state.cordon_tries + 1)
    # Where nobody knows whether it was told, it is told once more at once: twice is the same.
    tried_at = 0.0 if outcome.result is Result.UNKNOWN else outcome.at
    if outcome.kind is Kind.CORDON:
        state = replace(state, is_cordon_told=is_told, cordon_tried_at=tried_at)
    else:
        owed = None if is_told else state.uncordon_owed
        state = replace(state, uncordon_owed=owed, cordon_tried_at=tried_at)
    return replace(memory, devices={**memory.devices, outcome.device: state})


def _limit_of(tenant: TenantId, outcome: Outcome) -> str:
    if outcome.kind is Kind.SET_LIMIT and outcome.device is not None:
        return limit_key(tenant, outcome.device)
    return host_key(tenant) if outcome.kind is Kind.SET_HOST_LIMITS else ""


def _is_settled(debt: Debt, outcome: Outcome) -> bool:
    """Given back; or its target is another thing now; or it turned out that nothing was changed.

    A call that failed may still have had its effect, or have it later: what it owes stays owed.
    """
    is_final = outcome.result in (Result.REFUSED, Result.UNSUPPORTED)
    if debt.ordered not in ("", outcome.action):
        return False
    if outcome.kind in SETTLES and (is_final or outcome.result is Result.DONE):
        return _is_for(debt, outcome, outcome.kind)
    return outcome.kind in OWES and is_final and _is_for(debt, outcome, OWES[outcome.kind])


def _case_after(case: Case, outcome: Outcome) -> Case:
    is_refused = outcome.result in (Result.REFUSED, Result.UNSUPPORTED)
    if outcome.kind in ENDS and not is_refused and outcome.kind not in case.acted:
        case = replace(case, acted=(*case.acted, outcome.kind.value))
    if outcome.result is Result.STARTED:
        return case
    if outcome.kind is Kind.RESTART_OFF:
        if outcome.result is Result.UNKNOWN and case.rung is Rung.HELD and case.is_mps:
            # What it held may be gone by now: nothing seen could convict it again.
            return replace(case, is_unsure=True)
        old = dict(outcome.old).get("restart_policy", case.old_restart)
        is_off = outcome.result is Result.DONE
        case = replace(case, is_restart_settled=True, is_restart_off=is_off, old_restart=old)
        if outcome.result is Result.UNKNOWN and case.rung is Rung.HELD:
            # Held again, and asked again, once it is convicted by what is seen now.
            return replace(case, rung=Rung.WARNED, frozen_since=None)
        return case
    if outcome.kind is Kind.DETACH:
        if outcome.result is Result.UNKNOWN and case.rung is Rung.HELD:
            return replace(case, is_unsure=True)
        return replace(case, is_detached=True)
    if outcome.kind is Kind.FREEZE and outcome.result is not Result.DONE:
        return replace(case, frozen_since=None)
    if outcome.result is Result.UNKNOWN and outcome.kind in RESUMES:
        after = {Kind.KILL: Rung.KILLED, Kind.STOP: Rung.STOPPED}[outcome.kind]
        if case.rung is after:
            return replace(case, rung=RESUMES[outcome.kind])
    return case


def _is_for(debt: Debt, outcome: Outcome, kind: Kind) -> bool:
    if debt.tenant != outcome.tenant or debt.kind is not kind:
        return False
    return debt.device is None or debt.device == outcome.device
