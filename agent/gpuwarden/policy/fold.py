"""What a tick adds to memory before anything is judged: episodes, device states, silences."""

from collections.abc import Mapping
from dataclasses import replace

from gpuwarden.config import Config
from gpuwarden.model.action import Kind
from gpuwarden.model.device import Device
from gpuwarden.model.ids import DeviceId, IncidentId
from gpuwarden.model.memory import DeviceMemory, Episode, Memory, episode_key
from gpuwarden.model.tenant import Use
from gpuwarden.policy import lockup, probe
from gpuwarden.policy.health import watch
from gpuwarden.policy.scene import Limits, Scene


def remember(cfg: Config, memory: Memory, scene: Scene) -> Memory:
    """Memory with this tick's facts folded in. A new boot keeps only what wall time and owners
    carry.
    """
    snap = scene.snap
    if memory.boot_id != snap.boot_id:
        memory = _reborn(cfg, memory, scene)
    memory = _rebased(memory, snap.at, snap.wall)
    memory = probe.fold(cfg, memory, scene)
    if snap.at - memory.last_at > cfg.sampling.gap_s:
        memory = replace(memory, episodes=_unconfirmed(memory), devices=unbreached(memory.devices))
    return replace(
        memory,
        last_at=snap.at,
        last_wall=snap.wall,
        episodes=_episodes(cfg, memory, scene),
        devices=_devices(cfg, memory, scene),
        health=watch.fold(cfg, memory, scene),
    )


def _reborn(cfg: Config, memory: Memory, scene: Scene) -> Memory:
    """First tick, or first after a reboot: pids, grace clocks and cooldowns mean nothing any more.

    How long the host was down is not known for certain: nothing waits longer than its window again.
    """
    latest = scene.snap.wall + cfg.ladder.tombstone_window_s
    return Memory(
        boot_id=scene.snap.boot_id,
        started_at=scene.snap.at,
        last_at=scene.snap.at,
        last_wall=scene.snap.wall,
        serial=memory.serial,
        tombstones={
            key: replace(
                stone,
                evicted_wall=tuple(min(w, scene.snap.wall) for w in stone.evicted_wall),
                held_until_wall=_at_most(stone.held_until_wall, latest),
            )
            for key, stone in memory.tombstones.items()
        },
        debts=tuple(
            replace(d, due_wall=_at_most(d.due_wall, latest))
            for d in memory.debts
            if d.kind is Kind.RESTART_BACK
        ),
        devices={
            device: DeviceMemory(
                cordoned_by=old.cordoned_by,
                cordoned_wall=old.cordoned_wall,
                held_by=old.held_by,
                uncordon_owed=old.uncordon_owed,
                is_cordon_told=old.is_cordon_told,
                cordon_tried_at=None if old.cordon_tried_at is None else scene.snap.at,
            )
            for device, old in memory.devices.items()
            if old.cordoned_by is not None or old.uncordon_owed is not None
        },
        health=watch.reborn(memory.health),
        open_incidents=_going_on(memory),
        paged=_told(memory, scene.snap.at),
        repairs={
            subject: replace(repair, since=scene.snap.at, opened_at=scene.snap.at)
            for subject, repair in memory.repairs.items()
        },
        mended=_mended_by_reboot(memory, scene.snap.wall),
        spent=memory.spent,
        cares=probe.reborn(memory.cares, scene.snap.wall),
    )


def _going_on(memory: Memory) -> dict[str, IncidentId]:
    """Incidents of what a reboot does not end: a repair, of which it may be a step, and a cordon."""
    kept = {repair.incident for repair in memory.repairs.values()}
    kept |= {state.cordoned_by for state in memory.devices.values() if state.cordoned_by}
    return {k: incident for k, incident in memory.open_incidents.items() if incident in kept}


def _told(memory: Memory, at: float) -> dict[str, float]:
    """Pages about what is being repaired: a reboot that does not help is no new reason to wake anybody, the
    repair says what it has come to."""
    return {key: at for key in memory.paged if any(subject in key for subject in memory.repairs)}


def _mended_by_reboot(memory: Memory, wall: float) -> dict[str, tuple[float, ...]]:
    """What a reboot clears, it clears, whoever ordered it; that it was there counts when it comes back.
    What is polled tells itself again if it still stands."""
    mended = {key: tuple(min(w, wall) for w in at) for key, at in memory.mended.items()}
    for key, fault in memory.faults.items():
        if not fault.root.is_condition and fault.root.action in REPAIRED:
            mended[key] = (*mended.get(key, ()), wall)[-16:]
    return mended


def _at_most(wall: float | None, latest: float) -> float | None:
    return None if wall is None else min(wall, latest)


REPAIRED = frozenset({"reset_gpu", "reboot_node", "restart_fabric", "workflow"})
"""Actions of faults that a reboot repairs; the others were nothing to repair."""
CLOCK_SET_S = 2.0
"""The wall clock differing by more from what has gone by was set, not slewed (500 ppm by adjtime)."""


def _rebased(memory: Memory, at: float, wall: float) -> Memory:
    """What is kept in wall time moves with the wall clock when somebody sets it, or the host slept."""
    jump = (wall - memory.last_wall) - (at - memory.last_at)
    if abs(jump) <= CLOCK_SET_S or memory.last_wall == 0.0:
        return memory
    stones = {
        key: replace(
            stone,
            evicted_wall=tuple(w + jump for w in stone.evicted_wall),
            held_until_wall=None if stone.held_until_wall is None else stone.held_until_wall + jump,
        )
        for key, stone in memory.tombstones.items()
    }
    debts = tuple(
        d if d.due_wall is None else replace(d, due_wall=d.due_wall + jump) for d in memory.debts
    )
    mended = {key: tuple(w + jump for w in at) for key, at in memory.mended.items()}
    spent = tuple((subject, step, w + jump) for subject, step, w in memory.spent)
    health = watch.moved(memory.health, jump)
    return replace(
        memory,
        tombstones=stones,
        debts=debts,
        mended=mended,
        spent=spent,
        health=health,
        cares=probe.moved(memory.cares, jump),
    )


def _unconfirmed(memory: Memory) -> dict[str, Episode]:
    """After a silence nobody looked: what was confirmed before it must be confirmed again."""
    return {
        key: replace(
            e,
            hard_lists=0,
            hard_since=None,
            confirmed_at=None,
            soft_since=None,
            over_since=None,
            clear_since=None,
        )
        for key, e in memory.episodes.items()
    }


def unbreached(devices: Mapping[DeviceId, DeviceMemory]) -> dict[DeviceId, DeviceMemory]:
    """Nobody has looked for a while: whether a reserve was breached all the time is not known, and a list
    taken meanwhile confirms nothing."""
    return {
        device: state if state.reserve_since is None else replace(state, reserve_since=None)
        for device, state in devices.items()
    }


def _episodes(cfg: Config, memory: Memory, scene: Scene) -> dict[str, Episode]:
    fresh: dict[str, Episode] = {}
    now = scene.snap.at
    for use in scene.noteworthy:
        key = episode_key(use.tenant, use.device)
        episode = memory.episodes.get(key)
        if not scene.is_claimable(use):
            if episode is not None:  # not seen now: neither better nor worse, but not confirmed
                fresh[key] = replace(episode, hard_lists=0, confirmed_at=None, over_since=None)
            continue
        if episode is None:
            episode = Episode(tenant=use.tenant, device=use.device)
        kept = _advance(cfg, episode, use, scene.limits[use.tenant], now)
        if kept is not None:
            fresh[key] = kept
    return fresh


def _advance(
    cfg: Config,
    episode: Episode,
    use: Use,
    limit: Limits,
    now: float,
) -> Episode | None:
    """One episode by one tick; ``None`` once it has cleared."""
    soft, trip, hard = limit
    if use.listed_at <= episode.last_listed_at and episode.limit_bytes == hard:
        if episode.hard_lists > 0 and use.used_bytes <= trip:
            # One of its processes was left out, and what the others hold is less: at most so much.
            episode = replace(episode, hard_lists=0, hard_since=None, confirmed_at=None)
        return _aged(cfg, episode, now)
    if (
        episode.confirmed_at is not None
        and use.used_bytes == episode.used_bytes > trip
        and episode.limit_bytes == hard
    ):
        return episode  # known, confirmed and unchanged: one more list adds nothing
    if episode.limit_bytes not in (0, hard):
        # The quota was changed live: what was judged under the old one is not held against it.
        episode = Episode(
            tenant=episode.tenant,
            device=episode.device,
            last_listed_at=episode.last_listed_at,
            used_bytes=episode.used_bytes,
            peak_bytes=episode.peak_bytes,
        )
    is_new_list = use.listed_at > episode.last_listed_at
    hard_lists, hard_since = episode.hard_lists, episode.hard_since
    soft_since, over_since = episode.soft_since, episode.over_since
    clear_since, confirmed_at = episode.clear_since, episode.confirmed_at
    if is_new_list:
        if use.used_bytes > trip:
            hard_lists += 1
            hard_since = use.listed_at if hard_since is None else hard_since
        else:
            hard_lists, hard_since, confirmed_at = 0, None, None
        is_over = use.used_bytes > soft
        is_clear = use.used_bytes <= cfg.quota.clear_ratio * soft
        soft_since = _kept(soft_since, use.listed_at, is_over, is_broken=is_clear)
        over_since = _kept(over_since, use.listed_at, is_over, is_broken=not is_over)
        clear_since = _kept(clear_since, use.listed_at, is_clear, is_broken=not is_clear)
    if hard_lists >= 2 and confirmed_at is None:
        confirmed_at = now
    if clear_since is not None and now - clear_since >= cfg.quota.clear_hold_s:
        return None
    is_held = soft_since is not None and now - soft_since >= cfg.quota.soft_hold_s
    is_breach = episode.is_breach or hard_lists > 0 or (is_held and over_since is not None)
    if not is_breach and use.used_bytes <= cfg.quota.clear_ratio * soft:
        return None
    return (
        Episode(  # every field is given: three times faster than a copy, and this is the hot path
            tenant=episode.tenant,
            device=episode.device,
            soft_since=soft_since,
            over_since=over_since,
            hard_lists=hard_lists,
            hard_since=hard_since,
            confirmed_at=confirmed_at,
            last_listed_at=max(use.listed_at, episode.last_listed_at),
            used_bytes=use.used_bytes,
            peak_bytes=max(episode.peak_bytes, use.used_bytes),
            limit_bytes=hard,
            clear_since=clear_since,
            is_breach=is_breach,
        )
    )


def _kept(since: float | None, at: float, is_so: bool, *, is_broken: bool) -> float | None:
    """Since when something has been so: begun where it is so, ended where it is broken."""
    if is_broken:
        return None
    return at if is_so and since is None else since


def _aged(cfg: Config, episode: Episode, now: float) -> Episode | None:
    """An episode without a new list: only time has passed."""
    clear, soft = episode.clear_since, episode.soft_since
    if clear is not None and now - clear >= cfg.quota.clear_hold_s:
        return None
    is_held = soft is not None and now - soft >= cfg.quota.soft_hold_s
    if is_held and episode.over_since is not None and not episode.is_breach:
        return replace(episode, is_breach=True)
    return episode


def _devices(cfg: Config, memory: Memory, scene: Scene) -> dict[DeviceId, DeviceMemory]:
    result = dict(memory.devices)
    unattributed = dict(scene.snap.unattributed)
    for device in scene.snap.devices:
        old = result.get(device.id)
        new = old or DeviceMemory(sight=device.sight, sight_since=scene.snap.at)
        if device.pci and new.pci != device.pci:
            new = replace(new, pci=device.pci)
        if new.sight is not device.sight:
            new = replace(new, sight=device.sight, sight_since=scene.snap.at)
        new = _fold_reserve(new, device, scene)
        new = lockup.fold(cfg, new, device, scene)
        if device.id in unattributed:
            new = _fold_unattributed(cfg, new, unattributed[device.id], scene.snap.at)
        if new is not old:
            result[device.id] = new
    return result


def _fold_reserve(old: DeviceMemory, device: Device, scene: Scene) -> DeviceMemory:
    reserve = scene.reserve_bytes(device)
    if reserve == 0:
        return old if old.reserve_since is None else replace(old, reserve_since=None)
    free = scene.free_bytes(device)
    if free is None:
        return old if old.reserve_since is None else replace(old, reserve_since=None)
    if free < reserve and old.reserve_since is None:
        return replace(old, reserve_since=scene.snap.at)
    if free >= reserve and old.reserve_since is not None:
        return replace(old, reserve_since=None)
    return old


def _fold_unattributed(cfg: Config, old: DeviceMemory, size: int, now: float) -> DeviceMemory:
    floor = old.unattributed_floor_bytes
    if floor is None or size < floor:
        return replace(old, unattributed_floor_bytes=size, unattributed_since=None)
    if size - floor > cfg.quota.unattributed_margin_bytes:
        if old.unattributed_since is None:
            return replace(old, unattributed_since=now)
    elif old.unattributed_since is not None:
        return replace(old, unattributed_since=None)
    return old
