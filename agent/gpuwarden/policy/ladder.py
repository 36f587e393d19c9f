"""The escalation ladder as a table: which rung follows which event, and what entering a rung
orders.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from gpuwarden.config import Config
from gpuwarden.model.action import Kind
from gpuwarden.model.device import Sight
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import Case, Rung
from gpuwarden.model.tenant import Tenant, TenantClass
from gpuwarden.policy.scene import NOISE_BYTES, Scene


class Event(StrEnum):
    """What can happen to a case."""

    NOTHING = "nothing"
    NOTICED = "noticed"
    """A hard overrun in one list, not yet confirmed; or a soft one held long enough."""
    PERSISTS = "persists"
    CONVICTED = "convicted"
    """Confirmed: the tenant has to go."""
    READY = "ready"
    """Held, and nothing will bring it back: TERM may follow."""
    NO_GRACE = "no-grace"
    GRACE_OVER = "grace-over"
    STILL_THERE = "still-there"
    GIVE_UP = "give-up"
    FREED = "freed"
    """Its cgroup is empty and its bytes are back (or, before TERM, it has cleared by itself)."""
    OBEYED = "obeyed"
    """Alive, and no longer in the way: it gave the bytes back, or nobody needs them any more."""
    GONE = "gone"
    """What stands under its name is not what was judged."""


TABLE: dict[tuple[Rung, Event], Rung] = {
    (Rung.WATCH, Event.NOTICED): Rung.WARNED,
    (Rung.WATCH, Event.CONVICTED): Rung.HELD,
    (Rung.WATCH, Event.FREED): Rung.DONE,
    (Rung.WATCH, Event.GONE): Rung.DONE,
    (Rung.WARNED, Event.PERSISTS): Rung.THROTTLED,
    (Rung.WARNED, Event.CONVICTED): Rung.HELD,
    (Rung.WARNED, Event.FREED): Rung.DONE,
    (Rung.WARNED, Event.GONE): Rung.DONE,
    (Rung.THROTTLED, Event.CONVICTED): Rung.HELD,
    (Rung.THROTTLED, Event.FREED): Rung.DONE,
    (Rung.THROTTLED, Event.GONE): Rung.DONE,
    (Rung.HELD, Event.READY): Rung.TERMED,
    (Rung.HELD, Event.NO_GRACE): Rung.KILLED,
    (Rung.HELD, Event.FREED): Rung.DONE,
    (Rung.HELD, Event.OBEYED): Rung.DONE,
    (Rung.HELD, Event.GONE): Rung.DONE,
    (Rung.TERMED, Event.GRACE_OVER): Rung.KILLED,
    (Rung.TERMED, Event.FREED): Rung.DONE,
    (Rung.TERMED, Event.OBEYED): Rung.DONE,
    (Rung.TERMED, Event.GONE): Rung.DONE,
    (Rung.KILLED, Event.STILL_THERE): Rung.STOPPED,
    (Rung.KILLED, Event.FREED): Rung.DONE,
    (Rung.KILLED, Event.GONE): Rung.DONE,
    (Rung.STOPPED, Event.GIVE_UP): Rung.STUCK,
    (Rung.STOPPED, Event.FREED): Rung.DONE,
    (Rung.STOPPED, Event.GONE): Rung.DONE,
    (Rung.STUCK, Event.FREED): Rung.DONE,
    (Rung.STUCK, Event.GONE): Rung.DONE,
}

STOP_WITH_TERM = frozenset(
    {"systemd-service", "systemd-scope", "nspawn", "slurm", "containerd", "crio", "kubernetes"}
)
"""Owners whose manager has to know that it ends: it is asked to stop at the same time as TERM is sent."""
STOPPED_BY_RESTART_OFF = frozenset({"systemd-service", "nspawn"})
"""Owners that are kept from being started again by the order to stop them. Of a unit with
``RestartSec=0`` the next one runs before anybody could ask systemd to stop it."""
HAS_RESTART_POLICY = frozenset({"docker", "podman", "unknown", "ecs"}) | STOPPED_BY_RESTART_OFF
"""Owners that may be started again as soon as they die, unless that is switched off before."""
STOP_IS_THE_SIGNAL = frozenset({"podman"})
"""Owners that start again at once who ends by a signal of ours, because nobody stands beside their
containers to be told before: while the restart policy stands, their own stop sends the signal."""


def step(rung: Rung, event: Event) -> Rung:
    """The next rung; an event that says nothing to a rung leaves it."""
    return TABLE.get((rung, event), rung)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the findings say of a tenant this tick."""

    is_noticed: bool = False
    is_convicted: bool = False
    is_emergency: bool = False
    is_soft: bool = False
    """Over soft without a dip for as long as a throttle needs."""


def event_of(cfg: Config, case: Case, said: Judgement, scene: Scene) -> Event:
    """The one event that counts for a case now; the strongest first."""
    now = scene.snap.at
    standing = scene.standings.get(case.tenant)
    if case.rung in (Rung.WATCH, Rung.WARNED, Rung.THROTTLED):
        return _early(cfg, case, said, scene)
    if standing is not None and not standing.identity_holds:
        return Event.GONE
    if has_gone(cfg, case, scene):
        return Event.FREED
    is_free = case.rung in (Rung.HELD, Rung.TERMED) and not is_told_to_stop(case)
    if is_free and has_obeyed(cfg, case, scene):
        return Event.OBEYED
    if case.rung is Rung.HELD:
        if now - case.since < hold_s(cfg, case):
            return Event.NOTHING
        return Event.NO_GRACE if case.grace_s <= 0 else Event.READY
    if case.rung is Rung.TERMED:
        return Event.GRACE_OVER if now - case.since >= case.grace_s else Event.NOTHING
    if case.rung is Rung.KILLED:
        return Event.STILL_THERE if now - case.since >= cfg.ladder.verify_s else Event.NOTHING
    if case.rung is Rung.STOPPED:
        return Event.GIVE_UP if now - case.since >= stuck_after_s(cfg, case) else Event.NOTHING
    return Event.NOTHING


def _early(cfg: Config, case: Case, said: Judgement, scene: Scene) -> Event:
    tenant = scene.tenants.get(case.tenant)
    if tenant is None:
        return Event.NOTHING if _is_unseen(case, scene) else Event.GONE
    if said.is_convicted:
        return Event.CONVICTED
    if said.is_noticed and case.rung is Rung.WATCH:
        return Event.NOTICED
    if said.is_soft and scene.snap.at - case.since >= cfg.quota.throttle_after_s:
        return Event.PERSISTS
    if said.is_noticed or said.is_soft or not tenant.is_described:
        return Event.NOTHING  # what is not described has no quota (again) yet
    return Event.FREED


def _is_unseen(case: Case, scene: Scene) -> bool:
    """Whether nobody can have seen the tenant: the agent has just started, or its device is blind."""
    device = scene.devices.get(case.device)
    if device is None:
        return not scene.devices
    return device.sight is Sight.BLIND or (device.sight is Sight.OK and device.listed_at is None)


def has_gone(cfg: Config, case: Case, scene: Scene) -> bool:
    """Its cgroup is empty and, on each device it held when its eviction began or is listed on now, a list
    taken since shows none of its bytes, and not as many more that belong to nobody.

    A device that cannot be seen proves nothing: then the empty cgroup alone has to do once the
    driver itself has lost the device, and nothing does while it is merely blind.
    """
    standing = scene.standings.get(case.tenant)
    if standing is None or standing.is_populated is None:
        return False
    if standing.is_populated or standing.live_pids:
        return False
    if case.reason in ("arrival", "placement") and not case.held:
        return True  # it had nothing yet
    holding = {use.device for use in scene.uses_of(case.tenant)}
    for device_id in (*(case.devices or (case.device,)), *holding):
        device = scene.devices.get(device_id)
        if device is None or device.sight is Sight.LOST:
            continue
        if device.sight is Sight.BLIND:
            return False
        if device_id in holding or device.listed_at is None or device.listed_at <= case.since:
            return False
        if _are_leaked(cfg, case, device_id, scene):
            return False
    return True


def _are_leaked(cfg: Config, case: Case, device: DeviceId, scene: Scene) -> bool:
    """Whether so much more of the device is nobody's now that it must be what the tenant held."""
    now = dict(scene.snap.unattributed).get(device)
    held = dict(case.held).get(device, 0)
    if now is None or held < 2 * NOISE_BYTES:
        return False
    margin = min(cfg.quota.unattributed_margin_bytes, held // 2)
    return now - dict(case.nobodys).get(device, 0) > margin


def is_told_to_stop(case: Case) -> bool:
    """Whether its manager has the order to stop it, which nobody takes back: it will not go on."""
    if case.rung is not Rung.HELD:
        return case.rung is Rung.TERMED and case.target.runtime in STOP_WITH_TERM
    is_restarted = case.old_restart not in (None, "", "no")
    return (
        case.target.runtime in STOPPED_BY_RESTART_OFF
        and is_restarted
        and case.is_restart_settled
        and case.is_restart_off
    )


def has_obeyed(cfg: Config, case: Case, scene: Scene) -> bool:
    """Alive, and nothing speaks for ending it any more, by a list taken since its rung began.

    In an emergency nothing but its end counts.
    """
    device = scene.devices.get(case.device)
    if case.is_emergency or device is None or not scene.is_list_fresh(device):
        return False
    if case.is_mps and (case.is_detached or Kind.DETACH in case.acted):
        return False  # what it held went with its server's side of it: it cannot go on
    if device.listed_at is None or device.listed_at <= case.since:
        return False
    if case.reason == "reserve":
        free = scene.free_bytes(device)
        return free is not None and free >= scene.reserve_bytes(device)
    if case.reason != "quota-hard":
        return False
    tenant = scene.tenants.get(case.tenant)
    limit: int | None = case.limit_bytes
    if tenant is not None and tenant.is_described:
        limit = tenant.hard_bytes
    used = sum(u.used_bytes for u in scene.uses_of(case.tenant) if u.device == case.device)
    return limit is None or used <= cfg.quota.clear_ratio * limit


def hold_s(cfg: Config, case: Case) -> float:
    """How long a hold waits for the answers that are still out."""
    restart_s = 0.0 if case.is_restart_settled else cfg.ladder.restart_wait_s
    return max(restart_s, 0.0 if case.is_detached else cfg.ladder.mps_wait_s)


def stuck_after_s(cfg: Config, case: Case) -> float:
    """How long the runtime may take: who is stopped because its owner is held, or to empty a device, has its
    grace; another one has been killed before."""
    grace = case.grace_s if case.reason in ("tombstone", "drain", "arrival", "placement") else 0.0
    return cfg.ladder.stuck_s + grace


def grace_s(cfg: Config, tenant: Tenant, *, is_emergency: bool) -> float:
    """Seconds between TERM and KILL; an emergency shortens it and never lengthens it."""
    grace = min(tenant.grace_s, cfg.ladder.grace_max_s)
    return min(grace, cfg.ladder.emergency_grace_s) if is_emergency else grace


def class_grace_s(cfg: Config, cls: TenantClass) -> float:
    """Grace of a class when neither label nor policy says otherwise."""
    ladder = cfg.ladder
    return {
        TenantClass.HIGH: ladder.grace_high_s,
        TenantClass.NORMAL: ladder.grace_normal_s,
        TenantClass.LOW: ladder.grace_low_s,
        TenantClass.BEST_EFFORT: ladder.grace_best_effort_s,
        TenantClass.PROTECTED: ladder.grace_max_s,
    }[cls]


def orders(case: Case) -> tuple[Kind, ...]:
    """What entering the case's rung orders, in order of execution."""
    rung, runtime = case.rung, case.target.runtime
    thaw = (Kind.THAW,) if case.frozen_since is not None else ()
    stop = (Kind.STOP,) if runtime in STOP_WITH_TERM else ()
    if rung is Rung.WARNED:
        return (Kind.WARN,)
    if rung is Rung.THROTTLED:
        return (Kind.THROTTLE,) if case.target.cgroup is not None else ()
    if rung is Rung.HELD:
        freeze = (Kind.FREEZE,) if _can_hold(case) else ()
        settle = () if case.is_restart_settled else (Kind.RESTART_OFF,)
        detach = () if case.is_detached else (Kind.DETACH,)
        return freeze + detach + settle
    may_come_back = runtime in HAS_RESTART_POLICY and not case.is_restart_off
    if rung is Rung.TERMED:
        if may_come_back and runtime in STOP_IS_THE_SIGNAL:
            return (*thaw, Kind.STOP)
        return (Kind.TERM, *thaw, *stop)
    if rung is Rung.KILLED:
        if may_come_back:
            stop = (Kind.STOP,)  # what is stopped through the runtime is not started again by it
        return (Kind.KILL, *thaw, *stop)
    if rung is Rung.STOPPED:
        return (Kind.STOP,)
    if rung is Rung.STUCK:
        return (Kind.CORDON, Kind.PAGE)
    return ()


def _can_hold(case: Case) -> bool:
    """What somebody else has paused is not held: giving the hold back would let it run. Nor is a client of
    MPS: the other clients of its server may wait for it."""
    return case.target.cgroup is not None and not case.is_paused and not case.is_mps


def enter(case: Case, rung: Rung, now: float) -> Case:
    """The case on its new rung."""
    return replace(
        case,
        rung=rung,
        since=now,
        frozen_since=now if rung is Rung.HELD and _can_hold(case) else case.frozen_since,
        is_throttled=case.is_throttled or rung is Rung.THROTTLED,
    )
