"""What is known of how well a GPU, its links and its host are: facts alone, nothing judged.

A GPU tells its facts in classes, each asked for at its own pace and with the time of its own sample. A
field is ``None`` when the driver does not tell it (this board has none of it, this driver is too old);
a class is ``None`` when it was never told or its newest sample is too old to speak for the present.
Names and units are those of ``adapters.device_facts``. Counters named ``volatile`` begin again at 0
with the driver or a reset, ``aggregate`` ones last as long as the board; both may go back.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gpuwarden.model.ids import DeviceId, Pid, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What changes by the second; asked for every 5 s."""

    at: float
    utilization_ratio: float | None = None
    temperature_c: float | None = None
    memory_temperature_c: float | None = None
    power_w: float | None = None
    pstate: int | None = None
    """0 is the fastest; 8 and above is idle."""
    clock_event_mask: int | None = None
    """nvmlClocksEventReason*: what holds the clocks down now."""
    clock_event_sw_thermal_s_total: float | None = None
    clock_event_hw_thermal_s_total: float | None = None
    clock_event_hw_power_brake_s_total: float | None = None
    recovery_action: int | None = None
    """As ``Device.recovery_action``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Error counters and what follows from them; asked for every 15 s."""

    at: float
    temperature_margin_c: float | None = None
    """Degrees left to the highest temperature the device is made to run at; negative beyond it."""
    ecc_corrected_volatile_total: int | None = None
    ecc_uncorrected_volatile_total: int | None = None
    ecc_corrected_aggregate_total: int | None = None
    ecc_uncorrected_aggregate_total: int | None = None
    row_remaps_correctable_total: int | None = None
    row_remaps_uncorrectable_total: int | None = None
    row_remap_pending: bool | None = None
    row_remap_failed: bool | None = None
    pending_bank_remapping: bool | None = None
    pcie_replays_total: int | None = None
    pcie_correctable_errors_total: int | None = None
    pcie_non_fatal_errors_total: int | None = None
    pcie_fatal_errors_total: int | None = None
    nvlink_up_mask: int | None = None
    """Bit n: link n is up. Links in neither mask are not told of."""
    nvlink_down_mask: int | None = None
    nvlink_crc_flit_errors_total: int | None = None
    nvlink_crc_data_errors_total: int | None = None
    nvlink_replay_errors_total: int | None = None
    nvlink_recovery_errors_total: int | None = None
    nvlink_receive_errors_total: int | None = None
    """This and the following two: fifth generation, all links together."""
    nvlink_integrity_errors_total: int | None = None
    nvlink_recovery_failures_total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Modes, limits, links and lifetime wear; asked for every 60 s."""

    at: float
    power_limit_w: float | None = None
    """In force, after everything that limits it."""
    power_limit_set_w: float | None = None
    """What it was told to keep to."""
    temperature_shutdown_c: float | None = None
    temperature_slowdown_c: float | None = None
    temperature_memory_max_c: float | None = None
    pcie_link_generation: int | None = None
    pcie_link_width: int | None = None
    pcie_link_generation_max: int | None = None
    """Of this device in this slot, as are ``pcie_link_width_max`` lanes."""
    pcie_link_width_max: int | None = None
    persistence_enabled: bool | None = None
    ecc_enabled: bool | None = None
    ecc_pending: bool | None = None
    """What ECC will be after the next reset."""
    ecc_default: bool | None = None
    """What it is when nobody changed it."""
    sram_ecc_threshold_exceeded: bool | None = None
    row_remap_banks_low: int | None = None
    """Banks with few spare rows left."""
    row_remap_banks_none: int | None = None
    """Banks without a spare row."""
    retired_pages_single_bit: int | None = None
    retired_pages_double_bit: int | None = None
    retired_pages_pending: bool | None = None
    fabric_state: int | None = None
    """0 not supported, 1 not started, 2 in progress, 3 completed."""
    fabric_status: int | None = None
    """NVML return code of the registration; says something once the state is 3."""
    fabric_health_mask: int | None = None
    """Pairs of bits from bit 0: degraded bandwidth, route recovery, route unhealthy, access time-out
    recovery (1 is true, 2 is false, 0 not supported); bits 8-11: incorrect configuration (2 and
    above)."""
    fabric_has_cluster: bool | None = None
    """Whether it belongs to an NVLink domain of several hosts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deep:
    """What takes the driver tens of milliseconds to find out; asked for every hour."""

    at: float
    inforom_corrupted: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceHealth:
    """All classes of one GPU; a slice has none of its own. The very same object while nothing new came."""

    vitals: Vitals | None = None
    errors: Errors | None = None
    setup: Setup | None = None
    deep: Deep | None = None


EVERY_S: Mapping[str, float] = {"vitals": 5.0, "errors": 15.0, "setup": 60.0, "deep": 3600.0}
"""How often each class is asked for."""
SPEAKS_PERIODS = 2.5
"""A sample speaks for the present for so many periods of its class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverVersions:
    """As the library says; empty: not told."""

    driver: str = ""
    """Of the driver it talks to."""
    library: str = ""
    """Its own, with the CUDA generation before it: ``13.580.95.05``."""
    is_refused: bool = False
    """The library will not talk to the loaded module: their versions differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuTask:
    """A task that keeps a GPU from being let go of."""

    pid: Pid
    comm: str
    since: float
    """Monotonic seconds of the first of the samples that show it without a break."""
    holds: str = ""
    """How it is known to hold a GPU: a device file, or ``listed`` by the driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """Bytes on a device under the pid of a process that has ended."""

    device: DeviceId
    raw_pid: int
    used_bytes: int
    is_zombie: bool
    """It waits to be reaped; otherwise there is no such process any more."""
    comm: str = ""
    parent: int | None = None
    """Of a zombie: who has to reap it."""
    tenant: TenantId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemService:
    """A service of NVIDIA's on this host."""

    name: str
    is_installed: bool
    is_enabled: bool
    """Started with the host."""
    is_running: bool | None
    """None: the processes of the host cannot be seen."""
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the host says about its GPUs' surroundings, as of ``at`` (monotonic seconds)."""

    at: float
    every_s: float = 15.0
    stuck: tuple[GpuTask, ...] = ()
    """In uninterruptible sleep, without any CPU time since ``since``."""
    remains: tuple[Remains, ...] = ()
    services: tuple[SystemService, ...] = ()
    module_version: str | None = None
    """Of the kernel module that is loaded."""
    library_version: str | None = None
    """Of the library that new programs will load."""
    pci_gpus: int | None = None
    """NVIDIA GPUs on the bus that are the driver's, or nobody's."""
    nvswitches: int | None = None
    imex_channels: int | None = None
    is_clock_synchronised: bool | None = None
    clock_error_s: float | None = None
    """The kernel's bound on how far the wall clock may be off."""
