"""What the slow facts of a device are exported as: one row for every key of ``View.device_details``.

The probe reads the facts (``probe.specs`` says how) in the unit that the key names: bytes, seconds, ratios
0..1, hertz, watts, joules, degrees Celsius; flags are 0 or 1. What a device does not support, and what is
too old, is ``None`` or left out: never 0, -1 or NaN. A key of a fact with ``varying`` carries that
label's value after a colon: ``process_memory_bytes:4711``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

TEXTS: tuple[str, ...] = (
    "serial",
    "vbios_version",
    "inforom_version",
    "board_part_number",
    "gsp_firmware_version",
)
"""Keys whose value is text: labels of the info series."""

ELSEWHERE = frozenset({"recovery_action", "collected_at"})
"""Keys that are not exported from here: ``Device`` itself carries them, or they are times."""

REASONS: tuple[tuple[int, str], ...] = (
    (0x1, "gpu_idle"),
    (0x2, "applications_clocks_setting"),
    (0x4, "sw_power_cap"),
    (0x8, "hw_slowdown"),
    (0x10, "sync_boost"),
    (0x20, "sw_thermal_slowdown"),
    (0x40, "hw_thermal_slowdown"),
    (0x80, "hw_power_brake_slowdown"),
    (0x100, "display_clock_setting"),
)
"""nvmlClocksEventReason* of nvml.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One number of a device. ``labels`` are constant, ``varying`` names the label in the key,
    ``bits`` makes one 0/1 sample a bit in label ``reason``.
    """

    key: str
    metric: str
    help: str
    kind: str = "gauge"
    labels: tuple[tuple[str, str], ...] = ()
    varying: str | None = None
    bits: tuple[tuple[int, str], ...] = ()


def _gauge(key: str, metric: str, help_text: str, **labels: str) -> Fact:
    return Fact(key=key, metric=metric, help=help_text, labels=tuple(labels.items()))


def _total(key: str, metric: str, help_text: str, **labels: str) -> Fact:
    return Fact(
        key=key, metric=metric, help=help_text, labels=tuple(labels.items()), kind="counter"
    )


_GPM = "of the last 15 s in which the device's"
_GPM_MEAN = "mean of the last 15 s"
_ENGINE = "gpu_engine_utilization_ratio", "Busy share of a fixed-function engine."
_TEMPERATURE = "gpu_temperature_celsius", "Temperature by sensor."
_THRESHOLD = "gpu_temperature_threshold_celsius", "Where the device slows or shuts itself down."
_CLOCK = "gpu_clock_hertz", "Clock by domain."
_CLOCK_MAX = "gpu_clock_max_hertz", "Highest clock by domain."
_HELD = "gpu_clock_event_seconds_total", "Time for which this reason held the clocks down."
_GENERATION = "gpu_pcie_link_generation", "PCIe generation, now and at most."
_WIDTH = "gpu_pcie_link_width", "PCIe lanes, now and at most."
_PCIE_BYTES = "gpu_pcie_bytes_total", "Bytes over PCIe by direction."
_PCIE_ERRORS = "gpu_pcie_errors_total", "PCIe errors by type."
_NVLINK_BYTES = "gpu_nvlink_bytes_total", "Bytes over NVLink by direction, all links."
_NVLINK_ERRORS = "gpu_nvlink_errors_total", "NVLink errors by type, all links."
_ECC = "gpu_ecc_errors_total", "ECC errors; volatile since the driver loaded, aggregate for life."
_REMAPS = "gpu_row_remaps_total", "Rows of device memory that were remapped, by cause."
_RETIRED = "gpu_retired_pages", "Retired pages of device memory, by cause."
_LIMIT = "gpu_power_limit_watts", "The power limit in force, and what it may be set to."

FACTS: tuple[Fact, ...] = (
    _gauge("utilization_ratio", "gpu_utilization_ratio", "Share of time a kernel was running."),
    _gauge(
        "memory_activity_ratio",
        "gpu_memory_activity_ratio",
        "Share of time device memory was read or written.",
    ),
    _gauge("encoder_ratio", *_ENGINE, engine="encoder"),
    _gauge("decoder_ratio", *_ENGINE, engine="decoder"),
    _gauge("jpg_ratio", *_ENGINE, engine="jpeg"),
    _gauge("ofa_ratio", *_ENGINE, engine="ofa"),
    _gauge("graphics_active_ratio", "gpu_graphics_active_ratio", f"Share {_GPM} was busy at all."),
    _gauge("sm_active_ratio", "gpu_sm_active_ratio", f"Share {_GPM} multiprocessors had work."),
    _gauge("sm_occupancy_ratio", "gpu_sm_occupancy_ratio", f"Share of warps in use, {_GPM_MEAN}."),
    _gauge("tensor_active_ratio", "gpu_tensor_active_ratio", f"Share {_GPM} tensor cores worked."),
    _gauge("dram_active_ratio", "gpu_dram_active_ratio", f"Share {_GPM} memory moved data."),
    Fact(
        key="pipe_active_ratio",
        metric="gpu_pipe_active_ratio",
        help=f"Share {_GPM} an arithmetic pipe worked.",
        varying="pipe",
    ),
    _gauge("bar1_total_bytes", "gpu_bar1_total_bytes", "BAR1 memory."),
    _gauge("bar1_used_bytes", "gpu_bar1_used_bytes", "BAR1 memory in use."),
    _gauge("temperature_c", *_TEMPERATURE, sensor="core"),
    _gauge("memory_temperature_c", *_TEMPERATURE, sensor="memory"),
    _gauge(
        "temperature_margin_c",
        "gpu_temperature_margin_celsius",
        "Degrees left before the device slows itself down.",
    ),
    _gauge("temperature_slowdown_c", *_THRESHOLD, kind="slowdown"),
    _gauge("temperature_shutdown_c", *_THRESHOLD, kind="shutdown"),
    _gauge("temperature_memory_max_c", *_THRESHOLD, kind="memory_max"),
    _gauge("power_w", "gpu_power_watts", "Power drawn by the board, averaged by the driver."),
    _gauge("power_instant_w", "gpu_power_instant_watts", "Power drawn by the board right now."),
    _gauge("power_limit_w", *_LIMIT, kind="enforced"),
    _gauge("power_limit_set_w", *_LIMIT, kind="set"),
    _gauge("power_limit_min_w", *_LIMIT, kind="min"),
    _gauge("power_limit_max_w", *_LIMIT, kind="max"),
    _gauge("power_limit_default_w", *_LIMIT, kind="default"),
    _total("energy_joules_total", "gpu_energy_joules_total", "Energy since the driver loaded."),
    _gauge("graphics_clock_hz", *_CLOCK, domain="graphics"),
    _gauge("sm_clock_hz", *_CLOCK, domain="sm"),
    _gauge("mem_clock_hz", *_CLOCK, domain="memory"),
    _gauge("video_clock_hz", *_CLOCK, domain="video"),
    _gauge("sm_clock_max_hz", *_CLOCK_MAX, domain="sm"),
    _gauge("mem_clock_max_hz", *_CLOCK_MAX, domain="memory"),
    _gauge("pstate", "gpu_performance_state", "P-state: 0 is the fastest, 15 idle."),
    Fact(key="fan_ratio", metric="gpu_fan_speed_ratio", help="Intended fan speed.", varying="fan"),
    Fact(
        key="clock_event_mask",
        metric="gpu_clock_event_active",
        help="Whether this reason holds the clocks down now.",
        bits=REASONS,
    ),
    _total("clock_event_sw_power_cap_s_total", *_HELD, reason="sw_power_cap"),
    _total("clock_event_sync_boost_s_total", *_HELD, reason="sync_boost"),
    _total("clock_event_sw_thermal_s_total", *_HELD, reason="sw_thermal_slowdown"),
    _total("clock_event_hw_thermal_s_total", *_HELD, reason="hw_thermal_slowdown"),
    _total("clock_event_hw_power_brake_s_total", *_HELD, reason="hw_power_brake_slowdown"),
    _gauge("pcie_link_generation", *_GENERATION, kind="current"),
    _gauge("pcie_link_generation_max", *_GENERATION, kind="max"),
    _gauge("pcie_link_width", *_WIDTH, kind="current"),
    _gauge("pcie_link_width_max", *_WIDTH, kind="max"),
    _total("pcie_replays_total", "gpu_pcie_replays_total", "PCIe replays."),
    _total("pcie_correctable_errors_total", *_PCIE_ERRORS, type="correctable"),
    _total("pcie_non_fatal_errors_total", *_PCIE_ERRORS, type="non_fatal"),
    _total("pcie_fatal_errors_total", *_PCIE_ERRORS, type="fatal"),
    _total("pcie_transmit_bytes_total", *_PCIE_BYTES, direction="transmit"),
    _total("pcie_receive_bytes_total", *_PCIE_BYTES, direction="receive"),
    _gauge("nvlink_links", "gpu_nvlink_links", "NVLinks of the device."),
    Fact(key="nvlink_up", metric="gpu_nvlink_up", help="Whether a link is up.", varying="link"),
    _total("nvlink_transmit_bytes_total", *_NVLINK_BYTES, direction="transmit"),
    _total("nvlink_receive_bytes_total", *_NVLINK_BYTES, direction="receive"),
    _total("nvlink_crc_flit_errors_total", *_NVLINK_ERRORS, type="crc_flit"),
    _total("nvlink_crc_data_errors_total", *_NVLINK_ERRORS, type="crc_data"),
    _total("nvlink_replay_errors_total", *_NVLINK_ERRORS, type="replay"),
    _total("nvlink_recovery_errors_total", *_NVLINK_ERRORS, type="recovery"),
    _total("nvlink_receive_errors_total", *_NVLINK_ERRORS, type="receive"),
    _total("nvlink_integrity_errors_total", *_NVLINK_ERRORS, type="integrity"),
    _total("nvlink_recovery_failures_total", *_NVLINK_ERRORS, type="recovery_failed"),
    _gauge(
        "fabric_status", "gpu_fabric_status", "NVML code of the fabric registration: 0 is good."
    ),
    _gauge("fabric_state", "gpu_fabric_state", "Fabric registration: 3 is completed."),
    _gauge("fabric_health_mask", "gpu_fabric_health_mask", "NVML's fabric health bits."),
    _gauge(
        "fabric_has_cluster",
        "gpu_fabric_has_cluster",
        "Whether it belongs to an NVLink domain of several hosts.",
    ),
    _gauge("ecc_enabled", "gpu_ecc_enabled", "Whether ECC is on."),
    _gauge("ecc_default", "gpu_ecc_default", "Whether ECC is on when nobody changed it."),
    _gauge("ecc_pending", "gpu_ecc_pending", "Whether ECC will be on after the next reset."),
    _total("ecc_corrected_volatile_total", *_ECC, severity="corrected", scope="volatile"),
    _total("ecc_corrected_aggregate_total", *_ECC, severity="corrected", scope="aggregate"),
    _total("ecc_uncorrected_volatile_total", *_ECC, severity="uncorrected", scope="volatile"),
    _total("ecc_uncorrected_aggregate_total", *_ECC, severity="uncorrected", scope="aggregate"),
    _gauge(
        "sram_ecc_threshold_exceeded",
        "gpu_sram_ecc_threshold_exceeded",
        "Whether uncorrectable SRAM errors passed the driver's threshold.",
    ),
    _total("row_remaps_correctable_total", *_REMAPS, cause="correctable"),
    _total("row_remaps_uncorrectable_total", *_REMAPS, cause="uncorrectable"),
    _gauge(
        "row_remap_pending", "gpu_row_remap_pending", "Whether a remap waits for the next reset."
    ),
    _gauge("row_remap_failed", "gpu_row_remap_failed", "Whether a remap has failed: replace it."),
    Fact(
        key="row_remap_banks",
        metric="gpu_row_remap_banks",
        help="Banks of device memory by how many of their spare rows are left.",
        varying="availability",
    ),
    _gauge(
        "pending_bank_remapping",
        "gpu_bank_remap_pending",
        "Whether a bank remap waits for the next reset.",
    ),
    _gauge("retired_pages_single_bit", *_RETIRED, cause="single_bit"),
    _gauge("retired_pages_double_bit", *_RETIRED, cause="double_bit"),
    _gauge("retired_pages_pending", "gpu_retired_pages_pending", "Whether a page waits to retire."),
    _gauge("inforom_corrupted", "gpu_inforom_corrupted", "Whether the InfoROM does not check."),
    _gauge("persistence_enabled", "gpu_persistence_enabled", "Whether the driver stays loaded."),
    _gauge("compute_mode", "gpu_compute_mode", "0 default, 2 prohibited, 3 exclusive process."),
    _gauge("mig_enabled", "gpu_mig_enabled", "Whether the device is cut into MIG slices."),
    _gauge("mig_pending", "gpu_mig_pending", "Whether it will be after the next reset."),
    Fact(
        key="processes", metric="gpu_processes", help="Processes the driver lists.", varying="type"
    ),
)

PROCESS_FACTS: tuple[Fact, ...] = (
    Fact(
        key="process_memory_bytes",
        metric="process_gpu_memory_bytes",
        help="Device memory of a process; the largest only, when asked for.",
        varying="pid",
    ),
    Fact(
        key="process_sm_ratio",
        metric="process_gpu_sm_ratio",
        help="Share of time a process kept multiprocessors busy; when asked for.",
        varying="pid",
    ),
)
"""One series a process: exported only when the operator asks, bounded to the largest."""

BY_KEY: Mapping[str, Fact] = {fact.key: fact for fact in (*FACTS, *PROCESS_FACTS)}
