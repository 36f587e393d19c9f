"""One look at the node: everything a decision may know."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gpuwarden.model.command import Command
from gpuwarden.model.device import Device, DriverEvent
from gpuwarden.model.growth import CoreShare, Growth
from gpuwarden.model.health import DriverVersions, Surroundings
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.kernel_record import KernelForgery, KernelRecord, KernelTrust
from gpuwarden.model.rollback import Recorded
from gpuwarden.model.service import ProbeReading
from gpuwarden.model.tenant import Standing, Tenant, Use


class GapKind(StrEnum):
    """Why something could not be seen."""

    HUNG = "hung"
    GONE = "gone"
    UNSUPPORTED = "unsupported"
    DENIED = "denied"
    UNAVAILABLE = "unavailable"
    STALE = "stale"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """What could not be seen, and why; ``subject`` is a device, tenant, path or port name."""

    source: str
    subject: str
    kind: GapKind
    detail: str = ""


class Health(StrEnum):
    """A service's objective. ``UNKNOWN`` is neither: it convicts nobody and clears nobody."""

    GREEN = "green"
    RED = "red"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """A protected tenant's own measure of itself, judged over the last window."""

    service: str
    tenant: TenantId | None
    health: Health
    since: float
    """Monotonic seconds at which ``health`` began."""
    p99_s: float | None = None
    limit_s: float | None = None
    at: float | None = None
    late_since: float | None = None
    """The first reading over the limit since the last one within it; None: there is none, or how it was before was not
    seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSample:
    """The host itself (psutil and /proc/pressure); rates are per second over the last interval."""

    at: float
    cpu_ratio: float | None = None
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    swap_used_bytes: int | None = None
    disk_read_bytes_total: int | None = None
    disk_write_bytes_total: int | None = None
    network_receive_bytes_total: int | None = None
    network_transmit_bytes_total: int | None = None
    filesystem_free_ratio: float | None = None
    memory_full_avg10: float | None = None
    """PSI: percent of the last 10 s in which all non-idle tasks stalled on memory."""
    memory_some_avg10: float | None = None
    cpu_some_avg10: float | None = None
    io_full_avg10: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReading:
    """What the preventive limiter says of one tenant on one device (the auditor compares)."""

    tenant: TenantId
    device: DeviceId
    hard_bytes: int | None
    used_bytes: int | None
    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A container that was given a GPU, whether or not it uses it yet."""

    tenant: Tenant
    devices: tuple[str, ...]
    """As its creator named them: ``all``, an index, a UUID, a CDI name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One look. ``at`` is monotonic seconds, ``wall`` Unix seconds of the same tick."""

    at: float
    wall: float
    boot_id: str
    devices: tuple[Device, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    uses: tuple[Use, ...] = ()
    standings: tuple[Standing, ...] = ()
    events: tuple[DriverEvent, ...] = ()
    kernel: tuple[KernelRecord, ...] = ()
    """Records of the kernel log since the last look, not judged."""
    kernel_log: KernelTrust = KernelTrust.NONE
    """Where kernel lines come from now."""
    kernel_forgery: KernelForgery | None = None
    """Lines that pretend to be the driver's: told at most once a minute."""
    named: Mapping[int, TenantId] = field(default_factory=dict)
    """Whose the processes are, or were, that this look's events and lines name, by pid."""
    services: tuple[ServiceState, ...] = ()
    probes: tuple[ProbeReading, ...] = ()
    """The newest of every service that is probed."""
    host: HostSample | None = None
    limits: tuple[LimitReading, ...] = ()
    limiter: str = "none"
    gaps: tuple[Gap, ...] = ()
    unattributed: tuple[tuple[DeviceId, int], ...] = ()
    """Bytes on a device that no listed process holds: used minus the sum of its rows, by its
    last list.
    """
    driver: DriverVersions | None = None
    surroundings: Surroundings | None = None
    """What the host says about its GPUs' surroundings; None: not known (yet)."""
    guests: tuple[Guest, ...] = ()
    """Docker's containers with a GPU; looked for while anything is cordoned."""
    commands: tuple[Command, ...] = ()
    """What operators have asked for since the last look."""
    growths: tuple[Growth, ...] = ()
    """Who has grown on a device of late, and who may have: each by its own readings."""
    shares: tuple[CoreShare, ...] = ()
    """Who uses the cores of the devices of services that are red."""
    versions: tuple[Recorded, ...] = ()
    """Versions of services that are on record here, with who runs them now."""
    can_record: bool = True
    """Whether the journal can be written: without it nothing harmful is decided."""
    fleet_permit: bool = True
    """False while the fleet demands a permit for each harmful action on the node."""
    permits: tuple[tuple[str, str], ...] = ()
    """What it has given leave for: kind of action, and device or ``node``."""

    def has_leave(self, kind: str, subject: str) -> bool:
        """Whether the fleet lets this be done now."""
        return self.fleet_permit or (kind, subject) in self.permits
