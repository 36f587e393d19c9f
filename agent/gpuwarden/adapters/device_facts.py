"""Slow facts of a device: the one list of keys in ``View.device_details`` and what each is exported as.

The probe's slow classes fill values under these keys in the unit of the metric's name (bytes, seconds,
ratios 0..1, hertz, watts, joules, degrees Celsius; flags 0 or 1). What a device does not support is left
out or ``None``: never 0, -1 or NaN. A key of a fact with ``varying`` carries that label's value after a
colon: ``fan_speed_ratio:0``, ``clock_event_active:sw_power_cap``, ``nvlink_up:3``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

AT_KEY = "facts_at"
"""Monotonic seconds at which the facts were read; older ones than a minute are withdrawn."""

TEXTS: tuple[str, ...] = ("serial", "vbios_version", "inforom_version", "cuda_capability")
"""Keys whose value is text: labels of the info series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One number of a device. ``labels`` are constant; ``varying`` names the label in the key."""

    key: str
    metric: str
    help: str
    kind: str = "gauge"
    labels: tuple[tuple[str, str], ...] = ()
    varying: str | None = None


def _fact(
    key: str,
    metric: str,
    help_text: str,
    *,
    kind: str = "gauge",
    varying: str | None = None,
    **labels: str,
) -> Fact:
    return Fact(
        key=key,
        metric=metric,
        help=help_text,
        kind=kind,
        labels=tuple(labels.items()),
        varying=varying,
    )


_ENGINE = "gpu_engine_utilization_ratio", "Busy share of a fixed-function engine."
_TEMPERATURE = "gpu_temperature_celsius", "Temperature by sensor."
_ECC = "gpu_ecc_errors_total", "ECC errors; volatile since the driver loaded, aggregate for life."
_REMAPS = "gpu_row_remaps_total", "Rows of device memory that were remapped, by cause."

FACTS: tuple[Fact, ...] = (
    _fact("utilization_ratio", "gpu_utilization_ratio", "Share of time a kernel was running."),
    _fact(
        "memory_activity_ratio",
        "gpu_memory_activity_ratio",
        "Share of time device memory was read or written.",
    ),
    _fact("engine_encoder_ratio", *_ENGINE, engine="encoder"),
    _fact("engine_decoder_ratio", *_ENGINE, engine="decoder"),
    _fact("engine_jpeg_ratio", *_ENGINE, engine="jpeg"),
    _fact("engine_ofa_ratio", *_ENGINE, engine="ofa"),
    _fact("bar1_used_bytes", "gpu_bar1_used_bytes", "BAR1 memory in use."),
    _fact("temperature_core_c", *_TEMPERATURE, sensor="core"),
    _fact("temperature_memory_c", *_TEMPERATURE, sensor="memory"),
    _fact(
        "temperature_margin_c",
        "gpu_temperature_margin_celsius",
        "Degrees left before the device slows itself down.",
    ),
    _fact(
        "temperature_threshold_c",
        "gpu_temperature_threshold_celsius",
        "Temperature at which the device slows down or shuts down.",
        varying="threshold",
    ),
    _fact("power_w", "gpu_power_watts", "Power drawn by the board."),
    _fact("power_limit_w", "gpu_power_limit_watts", "Power limit by kind.", varying="limit"),
    _fact(
        "energy_joules_total",
        "gpu_energy_joules_total",
        "Energy drawn since the driver loaded.",
        kind="counter",
    ),
    _fact("clock_hz", "gpu_clock_hertz", "Clock by domain.", varying="domain"),
    _fact("clock_max_hz", "gpu_clock_max_hertz", "Highest clock by domain.", varying="domain"),
    _fact("performance_state", "gpu_performance_state", "P-state: 0 is the fastest, 15 idle."),
    _fact("fan_speed_ratio", "gpu_fan_speed_ratio", "Intended fan speed.", varying="fan"),
    _fact(
        "clock_event_active",
        "gpu_clock_event_active",
        "Whether this reason holds the clocks down now.",
        varying="reason",
    ),
    _fact(
        "clock_event_seconds_total",
        "gpu_clock_event_seconds_total",
        "Time for which this reason held the clocks down.",
        kind="counter",
        varying="reason",
    ),
    _fact(
        "pcie_link_generation",
        "gpu_pcie_link_generation",
        "PCIe generation: current and max.",
        varying="bound",
    ),
    _fact(
        "pcie_link_width", "gpu_pcie_link_width", "PCIe lanes: current and max.", varying="bound"
    ),
    _fact("pcie_replays_total", "gpu_pcie_replays_total", "PCIe replays.", kind="counter"),
    _fact(
        "pcie_errors_total",
        "gpu_pcie_errors_total",
        "PCIe errors by type.",
        kind="counter",
        varying="error",
    ),
    _fact(
        "pcie_bytes_total",
        "gpu_pcie_bytes_total",
        "Bytes over PCIe by direction.",
        kind="counter",
        varying="direction",
    ),
    _fact("nvlink_up", "gpu_nvlink_up", "Whether an NVLink is up.", varying="link"),
    _fact(
        "nvlink_errors_total",
        "gpu_nvlink_errors_total",
        "NVLink errors by type, all links.",
        kind="counter",
        varying="error",
    ),
    _fact(
        "nvlink_bytes_total",
        "gpu_nvlink_bytes_total",
        "Bytes over NVLink by direction.",
        kind="counter",
        varying="direction",
    ),
    _fact("fabric_state", "gpu_fabric_state", "Registration with the fabric: 3 is completed."),
    _fact("fabric_health_mask", "gpu_fabric_health_mask", "NVML's fabric health bits."),
    _fact("ecc_enabled", "gpu_ecc_enabled", "Whether ECC is on."),
    _fact("ecc_corrected_volatile", *_ECC, kind="counter", severity="corrected", scope="volatile"),
    _fact(
        "ecc_corrected_aggregate", *_ECC, kind="counter", severity="corrected", scope="aggregate"
    ),
    _fact(
        "ecc_uncorrected_volatile", *_ECC, kind="counter", severity="uncorrected", scope="volatile"
    ),
    _fact(
        "ecc_uncorrected_aggregate",
        *_ECC,
        kind="counter",
        severity="uncorrected",
        scope="aggregate",
    ),
    _fact(
        "sram_ecc_threshold_exceeded",
        "gpu_sram_ecc_threshold_exceeded",
        "Whether uncorrectable SRAM errors passed the driver's threshold.",
    ),
    _fact("row_remaps_correctable", *_REMAPS, kind="counter", cause="correctable"),
    _fact("row_remaps_uncorrectable", *_REMAPS, kind="counter", cause="uncorrectable"),
    _fact(
        "row_remap_pending", "gpu_row_remap_pending", "Whether a remap waits for the next reset."
    ),
    _fact("row_remap_failed", "gpu_row_remap_failed", "Whether a remap has failed: replace it."),
    _fact(
        "row_remap_banks",
        "gpu_row_remap_banks",
        "Memory banks by spare rows left.",
        varying="availability",
    ),
    _fact("retired_pages", "gpu_retired_pages", "Retired pages by cause.", varying="cause"),
    _fact("retired_pages_pending", "gpu_retired_pages_pending", "Whether a page waits to retire."),
    _fact("persistence_enabled", "gpu_persistence_enabled", "Whether the driver stays loaded."),
    _fact("mig_enabled", "gpu_mig_enabled", "Whether the device is cut into MIG slices."),
)

PROCESS_FACTS: tuple[Fact, ...] = (
    _fact(
        "process_memory_bytes",
        "process_gpu_memory_bytes",
        "Device memory of a process; the largest only, when asked for.",
        varying="pid",
    ),
    _fact(
        "process_sm_ratio",
        "process_gpu_sm_ratio",
        "Share of time a process kept multiprocessors busy; when asked for.",
        varying="pid",
    ),
)
"""One series a process: exported only when the operator asks, bounded to the largest."""

BY_KEY: Mapping[str, Fact] = {fact.key: fact for fact in (*FACTS, *PROCESS_FACTS)}
