"""A snapshot with its indexes, built once a pass so that no rule searches."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from gpuwarden.config import Config
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.model.tenant import Standing, Tenant, TenantClass, Use

NOISE_BYTES = 64 * 2**20
"""Less than a list is taken for: no growth, no loss."""

_NEVER = 1 << 62
"""More bytes than any device has."""

SEARCHES = 4
"""An index of all uses costs as much as this many searches."""


class Limits(NamedTuple):
    """A tenant's limits of GPU memory on a device, bytes."""

    soft: int
    trip: int
    """Above this a hard overrun trips."""
    hard: int


@dataclass(slots=True)
class Scene:
    """Read-only indexes over one snapshot; those few passes need are made when first asked for."""

    cfg: Config
    snap: Snapshot
    tenants: dict[TenantId, Tenant]
    devices: dict[DeviceId, Device]
    standings: dict[TenantId, Standing]
    seen: frozenset[DeviceId]
    """Devices whose sight is OK."""
    claimable_since: float
    """Lists taken before this are too old to claim anything from."""
    limits: dict[TenantId, "Limits"]
    """Of every tenant with a quota that is known to be its own."""
    noteworthy: list[Use]
    """Uses over their soft limit, and uses with an open episode."""
    headroom: dict[DeviceId, int]
    """Smallest distance on a device from any tenant's use to its hard trip, bytes; only where it is
    under twice the list trigger."""
    pressing: set[DeviceId]
    """Devices where growth will cross a hard trip within ``sampling.urgent_headroom_s``."""
    _by_device: dict[DeviceId, list[Use]] | None = None
    _by_tenant: dict[TenantId, list[Use]] | None = None
    _searched: dict[TenantId, list[Use]] = field(default_factory=dict)
    _by_both: dict[tuple[TenantId, DeviceId], Use] | None = None
    _protected: dict[DeviceId, list[Tenant]] | None = None

    @staticmethod
    def of(
        cfg: Config,
        snap: Snapshot,
        episodes: AbstractSet[tuple[TenantId, DeviceId]] = frozenset(),
    ) -> "Scene":
        """Index a snapshot; ``episodes`` are the uses already under watch."""
        margin_bytes, margin_ratio = cfg.quota.hard_margin_bytes, cfg.quota.hard_margin_ratio
        limits = {
            t.id: _limits(t.soft_bytes, t.hard_bytes, margin_bytes, margin_ratio)
            for t in snap.tenants
            if t.hard_bytes is not None and is_known(cfg, t, snap.at)
        }
        scene = Scene(
            cfg=cfg,
            snap=snap,
            tenants={
                **{g.tenant.id: g.tenant for g in snap.guests},
                **{t.id: t for t in snap.tenants},
            },
            devices={d.id: d for d in snap.devices},
            standings={s.tenant: s for s in snap.standings},
            seen=frozenset(d.id for d in snap.devices if d.sight is Sight.OK),
            claimable_since=snap.at - 2 * cfg.sampling.list_every_s,
            limits=limits,
            noteworthy=[],
            headroom={},
            pressing=set(),
        )
        scene._scan(episodes)
        return scene

    def _scan(self, episodes: AbstractSet[tuple[TenantId, DeviceId]]) -> None:
        """The one pass over all uses that every tick pays for: most are quiet, and not heard."""
        limit_of, headroom, note = self.limits.get, self.headroom, self.noteworthy.append
        urgent_s = self.cfg.sampling.urgent_headroom_s
        near = 2 * self.cfg.sampling.list_trigger_bytes  # more room than this changes no trigger
        loud = min((min(lim.soft, lim.trip - near) for lim in self.limits.values()), default=_NEVER)
        heard = [use for use in self.snap.uses if use.used_bytes > loud or use.growth_bytes_s > 0.0]
        for use in heard:
            used = use.used_bytes
            known = limit_of(use.tenant)
            if known is None:
                continue
            if used > known.soft:
                note(use)
            room = known.trip - used
            if room < near and 0 < room < headroom.get(use.device, near):
                headroom[use.device] = room
            if 0 < room < use.growth_bytes_s * urgent_s:
                self.pressing.add(use.device)
        self._note_watched(episodes)

    def _note_watched(self, episodes: AbstractSet[tuple[TenantId, DeviceId]]) -> None:
        """Uses with an open episode that are under their limit now."""
        noted = {(use.tenant, use.device) for use in self.noteworthy}
        for tenant, device in episodes - noted:
            use = self.use_of(tenant, device)
            if use is not None and tenant in self.limits:
                self.noteworthy.append(use)
        self._by_both = None

    def uses_on(self, device: DeviceId) -> Sequence[Use]:
        """Who holds bytes on a device."""
        if self._by_device is None:
            self._by_device = {}
            for use in self.snap.uses:
                self._by_device.setdefault(use.device, []).append(use)
        return self._by_device.get(device, ())

    def slices_of(self, device: DeviceId) -> list[DeviceId]:
        """What a device has been cut into."""
        return [d.id for d in self.snap.devices if d.parent == device]

    def use_of(self, tenant: TenantId, device: DeviceId) -> Use | None:
        """What a tenant holds on a device; quick for those that stand out."""
        if self._by_both is None:
            self._by_both = {(use.tenant, use.device): use for use in self.noteworthy}
        found = self._by_both.get((tenant, device))
        if found is not None:
            return found
        return next((use for use in self.uses_of(tenant) if use.device == device), None)

    def uses_of(self, tenant: TenantId) -> Sequence[Use]:
        """Where a tenant holds bytes. The first few are searched for, more make an index."""
        if self._by_tenant is not None:
            return self._by_tenant.get(tenant, ())
        found = self._searched.get(tenant)
        if found is not None:
            return found
        if len(self._searched) < SEARCHES:
            found = [use for use in self.snap.uses if use.tenant == tenant]
            self._searched[tenant] = found
            return found
        self._by_tenant = {}
        for use in self.snap.uses:
            self._by_tenant.setdefault(use.tenant, []).append(use)
        return self._by_tenant.get(tenant, ())

    def is_claimable(self, use: Use) -> bool:
        """Whether a use is recent enough, and its device seen, to claim anything from it."""
        return use.device in self.seen and use.listed_at >= self.claimable_since

    def is_harm_fresh(self, use: Use) -> bool:
        """Whether a use is recent enough to begin or raise an eviction (never on stale data)."""
        if not self.is_claimable(use) or not self._is_read(self.devices[use.device]):
            return False
        return self.snap.at - use.listed_at <= self.cfg.sampling.harm_age_s

    def is_list_fresh(self, device: Device) -> bool:
        """The same of a whole device: what its last list leaves out is not there."""
        if device.id not in self.seen or device.listed_at is None or not self._is_read(device):
            return False
        return self.snap.at - device.listed_at <= self.cfg.sampling.harm_age_s

    def _is_read(self, device: Device) -> bool:
        """Whether its memory was read within two of the slowest intervals."""
        limit = 2 * self.cfg.sampling.fast_max_s
        return device.at is not None and self.snap.at - device.at <= limit

    def protected_on(self, device: DeviceId) -> Sequence[Tenant]:
        """Protected tenants that hold bytes on a device."""
        if self._protected is None:
            self._protected = {}
            guarded = {t.id: t for t in self.snap.tenants if t.cls is TenantClass.PROTECTED}
            for use in self.snap.uses if guarded else ():
                tenant = guarded.get(use.tenant)
                if tenant is not None:
                    self._protected.setdefault(use.device, []).append(tenant)
        return self._protected.get(device, ())

    def reserve_bytes(self, device: Device) -> int:
        """Bytes to keep free on a device: the larger of the two settings; 0 means none."""
        reserve = self.cfg.reserve
        return max(reserve.bytes, int(reserve.ratio * device.total_bytes))

    def free_bytes(self, device: Device) -> int | None:
        """Free bytes of a device, or ``None`` when its use is not known, or not any more."""
        if device.used_bytes is None or device.sight is not Sight.OK or not self._is_read(device):
            return None
        return max(0, device.total_bytes - device.reserved_bytes - device.used_bytes)


def is_known(cfg: Config, tenant: Tenant, at: float) -> bool:
    """Whether a tenant can be judged: its runtime has told what it is, never will, or had its time.

    Until then the default quota stands in for the tenant's own, and a protected service that starts
    (or that an agent finds when it starts) would be called an offender.
    """
    if tenant.is_described or tenant.cannot_act is not None:
        return True
    return at - tenant.first_seen >= cfg.quota.describe_wait_s


@lru_cache(maxsize=1024)  # asked for every tenant on every tick
def _limits(
    soft_bytes: int | None, hard_bytes: int, margin_bytes: int, margin_ratio: float
) -> Limits:
    trip = _trip(hard_bytes, margin_bytes, margin_ratio)
    return Limits(hard_bytes if soft_bytes is None else soft_bytes, trip, hard_bytes)


def hard_trip_bytes(cfg: Config, quota_bytes: int) -> int:
    """Bytes above which a hard overrun trips."""
    return _trip(quota_bytes, cfg.quota.hard_margin_bytes, cfg.quota.hard_margin_ratio)


def _trip(quota_bytes: int, margin_bytes: int, margin_ratio: float) -> int:
    """Quota + max(64 MiB, 2 %) by default (DESIGN 4.3)."""
    return quota_bytes + max(margin_bytes, int(margin_ratio * quota_bytes))
