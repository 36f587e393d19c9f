"""A snapshot with its indexes, built once a pass so that no rule searches."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gpuwarden.config import Config
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.model.tenant import Standing, Tenant, TenantClass, Use


@dataclass(slots=True)
class Scene:
    """Read-only indexes over one snapshot; the per-device index is made when first asked for."""

    cfg: Config
    snap: Snapshot
    tenants: dict[TenantId, Tenant]
    devices: dict[DeviceId, Device]
    standings: dict[TenantId, Standing]
    _by_device: dict[DeviceId, list[Use]] | None = None
    _by_tenant: dict[TenantId, list[Use]] | None = field(default=None)

    @staticmethod
    def of(cfg: Config, snap: Snapshot) -> "Scene":
        """Index a snapshot."""
        return Scene(
            cfg=cfg,
            snap=snap,
            tenants={t.id: t for t in snap.tenants},
            devices={d.id: d for d in snap.devices},
            standings={s.tenant: s for s in snap.standings},
        )

    def uses_on(self, device: DeviceId) -> Sequence[Use]:
        """Who holds bytes on a device."""
        if self._by_device is None:
            self._by_device = {}
            for use in self.snap.uses:
                self._by_device.setdefault(use.device, []).append(use)
        return self._by_device.get(device, ())

    def uses_of(self, tenant: TenantId) -> Sequence[Use]:
        """Where a tenant holds bytes."""
        if self._by_tenant is None:
            self._by_tenant = {}
            for use in self.snap.uses:
                self._by_tenant.setdefault(use.tenant, []).append(use)
        return self._by_tenant.get(tenant, ())

    def is_claimable(self, use: Use) -> bool:
        """Whether a use is recent enough, and its device seen, to claim anything from it."""
        device = self.devices.get(use.device)
        if device is None or device.sight is not Sight.OK:
            return False
        return self.snap.at - use.listed_at <= 2 * self.cfg.sampling.list_every_s

    def is_harm_fresh(self, use: Use) -> bool:
        """Whether a use is recent enough to begin or raise an eviction (never on stale data)."""
        if not self.is_claimable(use):
            return False
        device = self.devices[use.device]
        if (
            device.at is None
            or self.snap.at - device.at > 2 * self.cfg.sampling.fast_max_s
        ):
            return False
        return self.snap.at - use.listed_at <= self.cfg.sampling.harm_age_s

    def protected_on(self, device: DeviceId) -> Sequence[Tenant]:
        """Protected tenants that hold bytes on a device."""
        return [
            tenant
            for use in self.uses_on(device)
            if (tenant := self.tenants.get(use.tenant)) is not None
            and tenant.cls is TenantClass.PROTECTED
        ]

    def reserve_bytes(self, device: Device) -> int:
        """Bytes to keep free on a device: the larger of the two settings; 0 means none."""
        reserve = self.cfg.reserve
        return max(reserve.bytes, int(reserve.ratio * device.total_bytes))

    def free_bytes(self, device: Device) -> int | None:
        """Free bytes of a device, or ``None`` when its use is not known."""
        if device.used_bytes is None or device.sight is not Sight.OK:
            return None
        return max(0, device.total_bytes - device.reserved_bytes - device.used_bytes)


def hard_trip_bytes(cfg: Config, quota_bytes: int) -> int:
    """Bytes above which a hard overrun trips: quota + max(64 MiB, 2 %) by default (DESIGN 4.3)."""
    margin = max(
        cfg.quota.hard_margin_bytes, int(cfg.quota.hard_margin_ratio * quota_bytes)
    )
    return quota_bytes + margin
