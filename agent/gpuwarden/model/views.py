"""What a port hands over when it is drained."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuwarden.model.device import Device, DriverEvent, Listing
from gpuwarden.model.health import DriverVersions
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.kernel_record import KernelForgery, KernelRecord, KernelTrust
from gpuwarden.model.snapshot import Gap


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeView:
    """The newest thing the probe knows of every device. ``listings``: newest per device."""

    devices: tuple[Device, ...]
    listings: tuple[Listing, ...]
    events: tuple[DriverEvent, ...] = ()
    """Events since the last drain."""
    gaps: tuple[Gap, ...] = ()
    epoch: int = 0
    """Changes when the driver was reloaded or the set of devices changed."""
    driver: DriverVersions | None = None
    utilization: Mapping[DeviceId, tuple[float, Mapping[int, float]]] = field(default_factory=dict)
    """When the driver last told how busy processes keep a device's cores, and the ratio by raw pid; a device of which
    it has not told is not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelView:
    """What the kernel log has brought since the last drain, not judged."""

    records: tuple[KernelRecord, ...] = ()
    """Oldest first, bounded; more come with the next drain."""
    trust: KernelTrust = KernelTrust.NONE
    """``NONE`` while nothing can be read; ``gaps`` then say why."""
    gaps: tuple[Gap, ...] = ()
    forgery: KernelForgery | None = None
