"""What the join asks of a device's tenants: who grew there by himself and since when, and who uses its cores."""

from dataclasses import dataclass

from gpuwarden.model.ids import DeviceId, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One tenant whose bytes on a device rose lately (``tenant`` None: bytes that are nobody's)."""

    device: DeviceId
    tenant: TenantId | None
    watched_since: float
    """The first list of the device since which it has been listed without a break: an agent's start, a device that
    could not be seen, a list that failed or was late, and a driver that was loaded anew are breaks."""
    stirred_at: float
    """The newest list that showed it above its lowest of the window by more than noise, and higher than the list
    before. Whoever starts stirs too, and whoever has gone is kept for a while."""
    own_bytes: int = 0
    """By how much its processes have grown within the window that were on an earlier list already, each against its
    own earlier reading. A process' first listing is none; what others of the tenant gave back is taken off."""
    rose_at: float | None = None
    """The first list since which ``own_bytes`` has been a rise on every list; None: the newest shows none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreShare:
    """What part of a device's multiprocessors a tenant's processes kept busy, 0 to 1, by the driver's newest sample.
    A tenant of which the driver does not tell has none."""

    tenant: TenantId
    device: DeviceId
    sm_ratio: float
    at: float
