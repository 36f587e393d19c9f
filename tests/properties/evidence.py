"""What could be known in a play at some moment, by the lists that had been handed to the agent, and what
its operator allowed. Nothing here is read from the agent's own code or memory."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise

from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.sim.node.ledger import Entry
from gpuwarden.sim.node.probe import Listed
from tests.properties.play import MIB, Play

CLASSES = {"best-effort": 0, "low": 1, "normal": 2, "high": 3, "protected": 4}
BEYOND_APPLICATION = frozenset({48, 79, 95, 119})
"""Xids of these worlds whose scope is the device or more (NVIDIA's catalogue)."""
NOISE = 64 * MIB
SLACK_S = 0.12
"""From a list to the effect decided on it: a tick, a worker's call."""


@dataclass(slots=True)
class Evidence:
    """Questions about one play."""

    play: Play
    _by_device: dict[DeviceId, list[Listed]] = field(default_factory=dict)
    _sorted: int = 0
    _by_action: dict[str, list[Entry]] = field(default_factory=dict)
    _indexed: int = 0

    # --- what was known ---

    def taken(self, device: DeviceId) -> list[Listed]:
        """Every list of a device, oldest first."""
        history = self.play.world.probe.history
        for one in history[self._sorted :]:
            self._by_device.setdefault(one.device, []).append(one)
        self._sorted = len(history)
        return self._by_device.get(device, [])

    def known(self, device: DeviceId, when: float) -> list[Listed]:
        """The lists of a device that had been handed to the agent by then: what is still in the pipe, or
        was overtaken in it, has not been seen by anybody."""
        handed = self.play.world.probe.handed_over.get(device, [])
        count = bisect_right(handed, when + 1e-9, key=lambda one: one[0])
        taken = self.taken(device)
        return [taken[one] for _, at in handed[:count] if (one := _found(taken, at)) is not None]

    def listed_on(self, tenant: TenantId, when: float) -> set[DeviceId]:
        """Devices on which the newest known list shows a tenant."""
        return {
            device
            for device in self.play.world.cards.cards
            for one in self.known(device, when)[-1:]
            if one.truth.get(tenant, 0) > one.left_out.get(tenant, 0)
        }

    def newest(self, device: DeviceId, when: float) -> float | None:
        """When the newest list known at a moment had been taken."""
        handed = self.play.world.probe.handed_over.get(device, [])
        count = bisect_right(handed, when + 1e-9, key=lambda one: one[0])
        return handed[count - 1][1] if count else None

    def age_s(self, device: DeviceId, when: float) -> float:
        """How old the newest known list of a device was; infinite where there was none."""
        newest = self.newest(device, when)
        return float("inf") if newest is None else when - newest

    def intents(self, action: str) -> list[Entry]:
        """The journal's lines about an action, oldest first."""
        entries = self.play.world.ledger.entries
        for line in entries[self._indexed :]:
            if line.kind == "intent":
                self._by_action.setdefault(line.action, []).append(line)
        self._indexed = len(entries)
        return self._by_action.get(action, [])

    def decided_at(self, entry: Entry) -> float:
        """When an effect was decided; a worker's turn may come later."""
        intents = self.intents(entry.action)
        return intents[0].at if intents else entry.at

    # --- what was allowed ---

    def class_of(self, tenant: TenantId) -> str:
        allowance = self.play.world.allowances.get(tenant)
        return allowance.cls if allowance is not None else "unknown"

    def trip_bytes(self, tenant: TenantId) -> int | None:
        """Above this a tenant is over its hard quota; None: it has no quota."""
        allowance = self.play.world.allowances.get(tenant)
        if allowance is None or allowance.quota_mib is None:
            return None
        quota = allowance.quota_mib * MIB
        return quota + max(64 * MIB, quota * 2 // 100)

    def convicts(self, tenant: TenantId, device: DeviceId, when: float) -> bool:
        """Whether the two newest lists of a device that are about a tenant both show it over its hard
        trip: over in one, or over earlier and down again since, is no fault."""
        trip = self.trip_bytes(tenant)
        if trip is None:
            return False
        about = [x for x in self.known(device, when)[-4:] if _tells(x, tenant, trip)]
        return len(about) >= 2 and all(x.truth.get(tenant, 0) > trip for x in about[-2:])

    def is_chosen(self, tenant: TenantId, device: DeviceId, when: float) -> bool:
        """Somebody protected is there, less than the reserve is free, and nobody comes before him."""
        world = self.play.world
        reserve = world.config().reserve
        card = world.cards.cards[device]
        least = max(reserve.bytes, int(reserve.ratio * card.total_bytes))
        known = self.known(device, when)
        if not known or least == 0:
            return False
        last = known[-1]
        mine = last.truth.get(tenant, 0)
        if last.free_bytes >= least or mine == 0:
            return False
        if not any(self.class_of(t) == "protected" for t in last.truth):
            return False
        if CLASSES.get(self.class_of(tenant), 9) >= CLASSES["high"]:
            return False
        rank = self._rank(tenant, mine)
        if rank[1] == 1 and not reserve.evict_within_quota:
            return False
        others = [t for t in last.truth if t != tenant and self._is_eligible(t, when)]
        ranks = [self._rank(t, last.truth[t]) for t in others]
        return all(r >= rank for r in ranks if r[1] == 0 or reserve.evict_within_quota)

    def _is_eligible(self, tenant: TenantId, when: float) -> bool:
        world = self.play.world
        allowance = world.allowances.get(tenant)
        if (
            allowance is None
            or allowance.is_never_victim
            or CLASSES[allowance.cls] >= CLASSES["high"]
        ):
            return False
        container = world.docker.by_tenant(tenant)
        if tenant.startswith("docker:") and container is None:
            return False
        if tenant in self.play.heirs:
            return False  # has a dead process's pid: its bytes may be in doubt
        late = container is not None and when - container.started_at < world.docker.describe_s + 2.5
        return not late  # not described yet, or seen only since the last list

    def _rank(self, tenant: TenantId, used: int) -> tuple[int, int]:
        """Lower class first, then over quota; finer steps are the unit tests' business."""
        allowance = self.play.world.allowances[tenant]
        quota = (allowance.quota_mib or 0) * MIB
        return CLASSES[allowance.cls], 0 if quota and used > quota else 1

    def is_accused(self, tenant: TenantId, device: DeviceId, when: float) -> bool:
        """Whether an Xid beyond its application speaks against a tenant: the driver named a process of
        its, or it alone grew on the device when that was told."""
        for told_at, event in self.play.world.probe.told:
            if event.kind != "xid" or event.device != device or told_at > when:
                continue
            if event.code not in BEYOND_APPLICATION:
                continue
            if event.pid is None and self._growers(device, told_at) == {tenant}:
                return True
            if event.pid is not None and self.play.named[event.at, event.pid] == tenant:
                return True
        return False

    def is_neighbour(self, tenant: TenantId, device: DeviceId, when: float) -> bool:
        """Whether a protected service there had turned red lately, and before it did the tenant alone had really
        grown: by what the processes held, moment by moment, not by what any list said."""
        window = self.play.world.config().quota.growth_window_s
        red = [
            at
            for at, d in self.play.chronicle.turned_red
            if d == device and when - window - SLACK_S <= at <= when + 1e-9
        ]
        return any(self._did(tenant, device, at, when, window) for at in red)

    def _did(
        self, tenant: TenantId, device: DeviceId, red_at: float, when: float, window: float
    ) -> bool:
        chronicle, every = self.play.chronicle, self.play.world.config().sampling.list_every_s
        begun = red_at - window
        known = self.known(device, when)
        seen = [x.at for x in known if x.at >= begun - 2 * every]
        pairs = list(pairwise(seen))
        is_watched = bool(seen) and seen[0] <= begun and chronicle.agent_ran(begun, when)
        if not is_watched or any(late - early > 2 * every for early, late in pairs):
            return False
        # What a list before the window shows is the nearest that anybody could know of how it began.
        if chronicle.grew_by_itself(tenant, device, begun - every, red_at) < 4 * NOISE:
            return False
        looks = [at for at in seen if at >= begun]
        rivals: set[TenantId | None] = {None}
        rivals |= chronicle.others(tenant, device, begun, when)
        return not any(self._rose(who, device, looks) for who in rivals) and not any(
            self.convicts(who, device, when) for who in rivals if who is not None
        )

    def _rose(self, who: TenantId | None, device: DeviceId, looks: list[float]) -> bool:
        """Whether somebody held more than noise more at one moment at which the driver was asked than at an
        earlier one."""
        lowest: int | None = None
        for at in looks:
            held = self.play.chronicle.total(who, device, at)
            if lowest is not None and held - lowest >= NOISE:
                return True
            lowest = held if lowest is None else min(lowest, held)
        return False

    def _growers(self, device: DeviceId, when: float) -> set[TenantId]:
        """Who had grown by more than noise in the last seconds, and was still growing."""
        window = self.play.world.config().quota.growth_window_s
        known = [x for x in self.known(device, when) if x.at >= when - window - 2.0]
        if len(known) < 2:
            return set()
        first, before, last = known[0].truth, known[-2].truth, known[-1].truth
        return {
            t
            for t, held in last.items()
            if held > before.get(t, 0) and held - first.get(t, 0) >= NOISE
        }

    def is_throttled_rightly(self, tenant: TenantId, when: float) -> bool:
        """Over its soft quota on some device by every list for as long as a throttle takes."""
        allowance = self.play.world.allowances[tenant]
        soft = (allowance.soft_mib or allowance.quota_mib or 0) * MIB
        cfg = self.play.world.config()
        hold, interval = cfg.quota.throttle_after_s, cfg.sampling.list_every_s
        for device in self.play.world.cards.cards:
            past = self.known(device, when)
            recent = [x for x in past if when - x.at <= 2 * interval + SLACK_S]
            ends = [when, *(x.at for x in recent)] if recent else []
            if soft and any(_held(past, end, tenant, soft, hold) for end in ends):
                return True
        return False

    def tempts(self, device: DeviceId, when: float) -> bool:
        """Whether the newest known list shows somebody over his hard trip: who looks less closely would
        act on it."""
        return any(
            used > trip
            for tenant, used in (self.known(device, when)[-1:] or [_NOTHING])[0].truth.items()
            if (trip := self.trip_bytes(tenant)) is not None
        )


_NOTHING = Listed(at=0.0, device=DeviceId(""), truth={}, free_bytes=0)


def _found(taken: list[Listed], at: float) -> int | None:
    place = bisect_right(taken, at, key=lambda one: one.at) - 1
    return place if place >= 0 and taken[place].at == at else None


def _tells(listed: Listed, tenant: TenantId, trip: int) -> bool:
    """Whether a list says on which side of his limit a tenant is: not if it leaves out what decides."""
    held = listed.truth.get(tenant, 0)
    return held <= trip or held - listed.left_out.get(tenant, 0) > trip


def _held(past: list[Listed], end: float, tenant: TenantId, soft: int, hold: float) -> bool:
    """Whether every list of so long a time, up to a moment, shows him over."""
    early = [x for x in past if x.at <= end - hold + SLACK_S][-1:]
    since = [x for x in past if end - hold + SLACK_S < x.at <= end]
    return all(x.truth.get(tenant, 0) > soft for x in (*early, *since))
