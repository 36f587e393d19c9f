"""What is known of a GPU or a MIG slice."""

from dataclasses import dataclass
from enum import StrEnum

from gpuwarden.model.health import DeviceHealth
from gpuwarden.model.ids import DeviceId, Pid


class Sight(StrEnum):
    """Whether a device can be seen. Only ``OK`` may be judged; the others are never healthy."""

    OK = "ok"
    BLIND = "blind"
    """A call on it did not return in time; its values are withdrawn, not repeated."""
    LOST = "lost"
    """The driver says the device is gone (GPU_IS_LOST or missing from the list)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device as of ``at`` (monotonic seconds of the sample, not of its reading).

    ``used_bytes`` excludes ``reserved_bytes`` (NVML memory v2). ``parent`` names the GPU of a MIG
    slice; a GPU with MIG enabled has ``is_mig_parent`` and holds no tenants itself.
    """

    id: DeviceId
    index: int
    name: str
    total_bytes: int
    reserved_bytes: int = 0
    used_bytes: int | None = None
    at: float | None = None
    listed_at: float | None = None
    """When its processes were last listed."""
    sight: Sight = Sight.OK
    pci: str | None = None
    parent: DeviceId | None = None
    is_mig_parent: bool = False
    recovery_action: int | None = None
    """NVML field 230: 0 none, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset; None = not
    told.
    """
    health: DeviceHealth | None = None
    """How well it is; None: nothing is told of it now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUse:
    """One row of a driver's process list. ``used_bytes`` None: the driver does not say (never
    0).
    """

    pid: Pid | None
    """None when the pid was gone before its start time could be read."""
    raw_pid: int
    device: DeviceId
    used_bytes: int | None
    is_mps: bool = False
    """A client of an MPS server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One process list of one device, taken at ``at`` beside ``used_bytes`` of the same pass."""

    device: DeviceId
    at: float
    used_bytes: int
    rows: tuple[ProcessUse, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverEvent:
    """An event the driver reported.

    ``kind``: xid, recovery-action, lost, mig, clock, or of memory: ecc-corrected, ecc-uncorrected,
    ecc-storm, retirement, retirement-failed, poison-contained, poison. ``code``: the Xid, or the
    recovery action.
    """

    kind: str
    at: float
    device: DeviceId | None
    code: int | None = None
    pid: int | None = None
    source: str = "nvml"
