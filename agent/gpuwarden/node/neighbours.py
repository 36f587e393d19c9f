"""Who grew by himself, and since when: the readings of every process on a device, each against its own past.

What the loop's attribution says of sizes counts a tenant's start as growth. Here a first listing is none, and a break in
what could be seen ends everything that was known.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpuwarden.model.device import Listing, ProcessUse, Sight
from gpuwarden.model.growth import CoreShare, Growth
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.snapshot import Gap, GapKind, Health, ServiceState
from gpuwarden.model.views import ProbeView
from gpuwarden.node.attribution import Attribution, Key, Row
from gpuwarden.policy.neighbour import RISE_BYTES
from gpuwarden.policy.scene import NOISE_BYTES

MAX_READINGS = 128
"""Of one process or tenant: more are thinned out, the oldest and the newest stay."""
LATE = 1.75
"""A list that comes later than so many regular intervals after the one before is a break: one was missed."""
SAMPLE_MAX_S = 15.0
"""How long a sample of the cores stands: three of the driver's passes of 5 s."""


class Lowest:
    """The lowest of a value within a window that moves: readings that can still be the lowest, ascending, each with
    when another followed it."""

    __slots__ = ("_points",)

    def __init__(self, value: int) -> None:
        self._points: list[tuple[float, int]] = [(math.inf, value)]

    def rise(self, at: float, value: int, window_s: float) -> int:
        """Take a reading; how far it stands above the lowest of the window before it."""
        points = self._points
        points[-1] = (at, points[-1][1])
        while (
            len(points) > 1 and points[0][0] <= at - window_s
        ):  # never the newest: it stood until now
            points.pop(0)
        rise = value - points[0][1]
        while points and points[-1][1] >= value:
            points.pop()
        points.append((math.inf, value))
        if len(points) > MAX_READINGS:
            self._points = [points[0], *points[2:-1:2], points[-1]]
        return max(0, rise)

    @property
    def is_level(self) -> bool:
        return len(self._points) == 1


@dataclass(slots=True)
class Watch:
    """One device, listed without a break."""

    since: float
    at: float
    listed: tuple[ProcessUse, ...] = ()
    listed_once: bool = False
    processes: dict[Key, Lowest] = field(default_factory=dict)
    tenants: dict[TenantId | None, tuple[int, Lowest]] = field(default_factory=dict)
    """With the size by the newest list."""
    growths: dict[TenantId | None, Growth] = field(default_factory=dict)

    @property
    def is_level(self) -> bool:
        """Whether a list with the same rows changes nothing."""
        return (
            not self.growths
            and all(p.is_level for p in self.processes.values())
            and all(lowest.is_level for _, lowest in self.tenants.values())
        )


class Neighbours:
    """Folds every list of every device. The loop's thread only."""

    def __init__(self, window_s: float, list_every_s: float) -> None:
        self.window_s, self.list_every_s = window_s, list_every_s
        self._watched: dict[DeviceId, Watch] = {}
        self._epoch = -1
        self._began = math.inf

    def take(self, view: ProbeView, attribution: Attribution, now: float) -> None:
        """Fold in what the probe has handed over and the attribution has read. A list from before the first look is a
        reading, and nobody watched then."""
        self._began = min(self._began, now)
        if view.epoch != self._epoch:
            self._epoch, self._watched = view.epoch, {}
        unseen = {d.id for d in view.devices if d.sight is not Sight.OK}
        unseen |= {DeviceId(gap.subject) for gap in view.gaps}
        known = {d.id for d in view.devices}
        for device in [d for d in self._watched if d in unseen or d not in known]:
            del self._watched[device]
        for listing in view.listings:
            device = listing.device
            if device not in unseen and attribution.listed_at.get(device) == listing.at:
                nobodys = attribution.unattributed.get(device)
                self._list(listing, attribution.rows.get(device, {}), nobodys)

    def growths(self) -> tuple[Growth, ...]:
        """Everybody who stirred within two windows."""
        return tuple(g for watch in self._watched.values() for g in watch.growths.values())

    def _list(self, listing: Listing, rows: Mapping[Key, Row], nobodys: int | None) -> None:
        watch, at = self._watched.get(listing.device), listing.at
        if watch is not None and at <= watch.at:
            return
        if watch is None or at - watch.at > LATE * self.list_every_s:
            watch = self._watched[listing.device] = Watch(since=max(at, self._began), at=at)
        elif watch.listed is listing.rows and watch.is_level:
            watch.at = at
            return
        sizes: dict[TenantId | None, int] = {None: nobodys or 0}
        own: dict[TenantId | None, int] = {}
        withheld: set[TenantId | None] = set() if nobodys is not None else {None}
        for key, row in rows.items():
            sizes[row.tenant] = sizes.get(row.tenant, 0) + (row.used_bytes or 0)
            if row.used_bytes is None:
                withheld.add(row.tenant)
            elif row.pid is not None and row.seen_at is None:
                risen = self._rise(watch, key, at, row.used_bytes)
                own[row.tenant] = own.get(row.tenant, 0) + risen
        for tenant, size in sizes.items():
            self._fold(listing, watch, tenant, size, own.get(tenant, 0), tenant in withheld)
        self._forget(watch, rows, sizes, at)
        watch.at, watch.listed, watch.listed_once = at, listing.rows, True

    def _rise(self, watch: Watch, key: Key, at: float, size: int) -> int:
        known = watch.processes.get(key)
        if known is None:
            watch.processes[key] = Lowest(size)
            return 0
        return known.rise(at, size, self.window_s)

    def _fold(
        self,
        listing: Listing,
        watch: Watch,
        tenant: TenantId | None,
        size: int,
        own: int,
        is_withheld: bool,
    ) -> None:
        """One tenant by one list. Of whom the driver withholds a size nobody can say that he did not grow."""
        at = listing.at
        if tenant not in watch.tenants:
            is_first = not watch.listed_once or tenant is None
            begun = (size, Lowest(size)) if is_first else (0, Lowest(0))
            watch.tenants[tenant] = begun
        before, lowest = watch.tenants[tenant]
        rise = lowest.rise(at, size, self.window_s)
        watch.tenants[tenant] = (size, lowest)
        own = min(own, rise)
        old = watch.growths.get(tenant)
        is_stirring = is_withheld or (rise >= NOISE_BYTES and size > before)
        if old is None and not is_stirring:
            return
        is_risen = own >= RISE_BYTES and not is_withheld
        began = at if old is None or old.rose_at is None else old.rose_at
        watch.growths[tenant] = Growth(
            device=listing.device,
            tenant=tenant,
            watched_since=watch.since,
            stirred_at=at if is_stirring or old is None else old.stirred_at,
            own_bytes=own,
            rose_at=began if is_risen else None,
        )

    def _forget(
        self,
        watch: Watch,
        rows: Mapping[Key, Row],
        sizes: Mapping[TenantId | None, int],
        at: float,
    ) -> None:
        for key in [k for k in watch.processes if k not in rows]:
            del watch.processes[key]
        for tenant in [t for t in watch.tenants if t not in sizes]:
            del watch.tenants[tenant]
        for tenant, growth in list(watch.growths.items()):
            is_gone = tenant not in sizes
            if at - growth.stirred_at > 2 * self.window_s and (is_gone or growth.rose_at is None):
                del watch.growths[tenant]
            elif is_gone and growth.rose_at is not None:
                watch.growths[tenant] = Growth(
                    device=growth.device,
                    tenant=tenant,
                    watched_since=growth.watched_since,
                    stirred_at=growth.stirred_at,
                )


def core_shares(
    view: ProbeView, attribution: Attribution, services: Sequence[ServiceState], now: float
) -> tuple[tuple[CoreShare, ...], tuple[Gap, ...]]:
    """Who keeps the cores busy on the devices of services that are red, and where the driver does not say. Of a node
    whose services are well nothing is asked."""
    red = {s.tenant for s in services if s.health is Health.RED and s.tenant is not None}
    if not red:
        return (), ()
    shares: list[CoreShare] = []
    gaps: list[Gap] = []
    for device, rows in attribution.rows.items():
        if red.isdisjoint(row.tenant for row in rows.values()):
            continue
        at, ratios = view.utilization.get(device, (0.0, {}))
        if not ratios or now - at > SAMPLE_MAX_S:
            detail = "the driver does not tell which processes use its cores"
            gaps.append(
                Gap(source="core-share", subject=device, kind=GapKind.UNSUPPORTED, detail=detail)
            )
            continue
        by_tenant: dict[TenantId, float] = {}
        for row in rows.values():
            if row.raw_pid in ratios:
                by_tenant[row.tenant] = by_tenant.get(row.tenant, 0.0) + ratios[row.raw_pid]
        shares += [
            CoreShare(tenant=tenant, device=device, sm_ratio=min(1.0, ratio), at=at)
            for tenant, ratio in by_tenant.items()
        ]
    return tuple(shares), tuple(gaps)
