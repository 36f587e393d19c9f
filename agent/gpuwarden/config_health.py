"""Settings of the health rules: when a fault is one, how long it must last, and who says so.

Every fault enters after its grace (each sample until then shows it) and leaves after its probation
(none does). Sources are named at the values; where no vendor states a figure, the text says whose it is.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from gpuwarden.config_types import Ratio, Seconds


class HealthRule(BaseModel):
    """What every health rule has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grace_s: Seconds = 0.0
    """How long a fault must show before it is claimed."""
    probation_s: Seconds = 300.0
    """How long it must be gone before it is over."""


class EccRule(HealthRule):
    """ECC. An uncorrected error since the driver was loaded is a fault (DCGM: volatile double-bit
    errors above 0 fail the memory watch)."""

    corrected_per_minute_max: float = Field(default=10.0, ge=0)
    """More corrected errors a minute than this are a storm: DCGM_LIMIT_MAX_SBE_RATE, which DCGM itself
    calls provisional. The driver's own storm event counts whatever the rate."""
    storm_grace_s: Seconds = 120.0
    aggregate_max: int = Field(default=20_000_000, ge=1)
    """Errors in a board's life beyond which it is worn: azurehpc-health-checks."""


class RemapRule(HealthRule):
    """Row remaps (NVIDIA GPU memory error management, RMA policy): a failed remap ends a board."""

    uncorrectable_max: int = Field(default=512, ge=1)
    """Rows remapped for uncorrectable errors at which the next one fails."""
    grace_s: Seconds = 30.0
    """A pending remap harms nobody (the page is off line): it waits for the next reset."""


class RetiredRule(HealthRule):
    """Retired pages of boards before Ampere (DCGM: the limits of the field diagnostic)."""

    pages_max: int = Field(default=63, ge=1)
    pages_soft_max: int = Field(default=15, ge=1)
    """More pages than this count once double-bit pages come in quick succession."""
    double_bit_week_max: int = Field(default=1, ge=0)
    """More pages retired for double-bit errors within ``week_s`` than this."""
    week_s: Seconds = 7 * 86400.0


class NvlinkRule(HealthRule):
    """NVLink (DCGM's NVLink watch): replay and recovery errors fail it at once, CRC errors at a rate."""

    crc_per_s_max: float = Field(default=100.0, gt=0)
    """CRC and receive errors a second that matter: DCGM_LIMIT_MAX_NVLINK_CRC_ERROR."""
    errors_min: int = Field(default=1, ge=1)
    """Replay or recovery errors within a minute: DCGM_LIMIT_MAX_NVLINK_ERROR."""
    down_grace_s: Seconds = 30.0
    """A link that trains again is down for seconds."""


class PcieRule(HealthRule):
    """The PCIe link."""

    replays_per_lane_minute: tuple[float, ...] = Field(
        default=(0.15, 0.30, 0.48, 0.96, 1.92, 3.84), min_length=1, max_length=12
    )
    """Replays a minute for each lane, from generation 1 on; more is a fault. DCGM's PCIe watch."""
    link_grace_s: Seconds = 60.0
    """How long the link must run below what device and slot can do."""
    busy_ratio: Ratio = 0.5
    """Generation is judged on a device at least this busy: an idle link slows down by design."""


class ThrottleRule(HealthRule):
    """Clocks held down by heat or by the power supply. DCGM warns at any such time within a minute,
    gpud from six events in ten minutes; here it is a share of the time."""

    hardware_ratio_max: Ratio = 0.05
    """Share of a minute slowed down by hardware: heat or the power brake."""
    software_ratio_max: Ratio = 0.25
    """Share of a minute slowed down by software for heat."""
    grace_s: Seconds = 60.0


class ThermalRule(HealthRule):
    """Temperatures against the device's own limits (gpud and nvidia-smi: NVML's thresholds)."""

    margin_min_c: float = 0.0
    """Degrees that must be left to the highest operating temperature."""
    grace_s: Seconds = 30.0


class PowerRule(HealthRule):
    """Power against the limit in force. Nobody states a figure: a regulated board stays within a few
    percent, averaged over a second."""

    over_ratio: float = Field(default=1.1, ge=1)
    held_ratio: Ratio = 0.98
    """A limit in force below this share of the one that was set is held down by somebody else."""
    grace_s: Seconds = 60.0


class PersistenceRule(HealthRule):
    """Persistence mode (azurehpc and gpud check it): without it the driver unloads its state with the last
    client, and limits and counters with it."""

    grace_s: Seconds = 120.0


class FabricRule(HealthRule):
    """The NVLink fabric: registration must be complete (nvml.h), and none of its conditions true."""

    grace_s: Seconds = 120.0
    """A fabric manager that starts takes a minute or two to bring every GPU in."""


class RecoveryRule(HealthRule):
    """The driver asks for a recovery (NVML field 230, Xid 154): its word is above every table."""

    probation_s: Seconds = 30.0


class CountRule(HealthRule):
    """Fewer devices than ``agent.expected_devices``, or without that than the PCI bus holds."""

    grace_s: Seconds = 30.0
    probation_s: Seconds = 60.0


class MismatchRule(HealthRule):
    """Kernel module and library of different versions: what starts now fails (nvml.h,
    LIB_RM_VERSION_MISMATCH)."""

    grace_s: Seconds = 60.0
    """An upgrade in progress replaces one after the other."""
    probation_s: Seconds = 60.0


class InforomRule(HealthRule):
    """InfoROM checksums (nvmlDeviceValidateInforom, which DCGM asks hourly too)."""

    probation_s: Seconds = 0.0


class DstateRule(HealthRule):
    """Tasks stuck in the kernel that hold a GPU. The kernel's own hung-task watch waits 120 s."""

    grace_s: Seconds = 60.0
    probation_s: Seconds = 30.0


class ZombieRule(HealthRule):
    """Device memory that stays under a process that has ended. The driver takes it back within a
    second."""

    grace_s: Seconds = 30.0
    probation_s: Seconds = 15.0


class ServicesRule(HealthRule):
    """nvidia-persistenced, nvidia-fabricmanager, nvidia-imex where the hardware needs them."""

    grace_s: Seconds = 60.0
    probation_s: Seconds = 60.0


class WallClockRule(HealthRule):
    """The wall clock: certificates, journals and schedulers go by it."""

    grace_s: Seconds = 900.0
    """How long it may run unsynchronised (the kernel's STA_UNSYNC): a start takes minutes."""
    jump_s: Seconds = 2.0
    """Set by more than this at once; slewing (500 ppm) never looks like it."""


class HealthConfig(BaseModel):
    """The table ``[health]``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_s: Seconds = 60.0
    """Counters are judged by how much they grew in so long: DCGM judges a minute too."""
    root: Path = Path("/")
    """Where the host's /proc, /sys, /dev and /etc are seen: an agent in a container says /host."""
    surroundings_every_s: Seconds = 15.0
    clock_events: bool = False
    """Ask the driver for clock events. An H100 at work sends ten a second and they say no more than
    the clock-event reasons read every 5 s; at most one a second and device is passed on."""

    ecc: EccRule = EccRule()
    remap: RemapRule = RemapRule()
    retired: RetiredRule = RetiredRule()
    nvlink: NvlinkRule = NvlinkRule()
    pcie: PcieRule = PcieRule()
    throttle: ThrottleRule = ThrottleRule()
    thermal: ThermalRule = ThermalRule()
    power: PowerRule = PowerRule()
    persistence: PersistenceRule = PersistenceRule()
    fabric: FabricRule = FabricRule()
    recovery: RecoveryRule = RecoveryRule()
    count: CountRule = CountRule()
    mismatch: MismatchRule = MismatchRule()
    inforom: InforomRule = InforomRule()
    dstate: DstateRule = DstateRule()
    zombie: ZombieRule = ZombieRule()
    services: ServicesRule = ServicesRule()
    wallclock: WallClockRule = WallClockRule()
