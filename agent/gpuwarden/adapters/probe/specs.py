"""Which slow calls there are: symbol, arguments, where the answers lie, how often, in what unit.

Shared by both ends: the child calls and copies bytes, the parent unpacks them with the same row.
Signatures and layouts: nvml.h; notes on single calls stand beside them.
"""

from typing import NamedTuple


class Out(NamedTuple):
    """One value in the answer: ``value = raw * scale``, dropped when it is outside low..high.

    Format ``16s``: 1 when any of the bytes is set, else 0.
    """

    key: str
    offset: int
    format: str
    scale: float = 1.0
    low: float = 0.0
    high: float = 1e18


class Spec(NamedTuple):
    """One call: ``symbol(handle, *ints, *pointers)``, answers in a buffer of ``size`` bytes.

    ``pointers``: offsets in the buffer handed over as pointers. ``version`` is written at offset 0
    before each call (versioned structs). ``fallback``: asked instead when this one is not there.
    ``verdict``: a key and the return code that makes it 1, where success makes it 0.
    """

    symbol: str
    every_s: int
    size: int
    outs: tuple[Out, ...]
    ints: tuple[int, ...] = ()
    pointers: tuple[int, ...] = (0,)
    version: int = 0
    fallback: "Spec | None" = None
    verdict: tuple[str, int] | None = None


class Text(NamedTuple):
    """A string: ``symbol(handle, buffer, size)``."""

    key: str
    symbol: str
    size: int


class Metric(NamedTuple):
    """One metric of GPM, a percentage."""

    key: str
    id: int


class Field(NamedTuple):
    """One entry of nvmlDeviceGetFieldValues. Those of one key are added up (one for each link)."""

    key: str
    id: int
    every_s: int
    scale: float = 1.0
    high: float = 1e18
    scope: int = 0


FAST_S, MEDIUM_S, SLOW_S, DEEP_S = 5, 15, 60, 3600
ALL_LINKS = 0xFFFFFFFF
LINKS_MAX = 18  # NVML_NVLINK_MAX_LINKS
FANS_MAX = 4
CORRUPTED_INFOROM = 14
_MHZ = 1e6
_PERCENT = 0.01
_MILLI = 1e-3
_NS = 1e-9
_KIB = 1024.0


def _u32(key: str, symbol: str, every_s: int, scale: float = 1.0, high: float = 1e18) -> Spec:
    return Spec(symbol, every_s, 4, (Out(key, 0, "I", scale, high=high),))


def _indexed(key: str, symbol: str, index: int, every_s: int, scale: float = 1.0) -> Spec:
    return Spec(symbol, every_s, 4, (Out(key, 0, "I", scale, high=1e13),), ints=(index,))


def _ecc(key: str, kind: int, counter: int) -> Spec:
    return Spec(
        "nvmlDeviceGetTotalEccErrors", MEDIUM_S, 8, (Out(key, 0, "Q"),), ints=(kind, counter)
    )


_FABRIC = (
    Out("fabric_has_cluster", 4, "16s"),
    Out("fabric_status", 20, "I"),
    Out("fabric_state", 28, "B", high=16.0),
    Out("fabric_health_mask", 32, "I"),
)
"""The same places in the second and the third layout of nvmlGpuFabricInfo."""

SPECS: tuple[Spec, ...] = (
    Spec(
        "nvmlDeviceGetUtilizationRates",
        FAST_S,
        8,
        (
            Out("utilization_ratio", 0, "I", _PERCENT, high=1.0),
            Out("memory_activity_ratio", 4, "I", _PERCENT, high=1.0),
        ),
    ),
    Spec(
        "nvmlDeviceGetTemperatureV",
        FAST_S,
        12,
        (Out("temperature_c", 8, "i", low=-50.0, high=200.0),),
        version=0x0100000C,
        fallback=Spec(
            "nvmlDeviceGetTemperature",
            FAST_S,
            4,
            (Out("temperature_c", 0, "I", high=200.0),),
            ints=(0,),
        ),
    ),
    _u32("power_w", "nvmlDeviceGetPowerUsage", FAST_S, _MILLI, 1e5),
    _indexed("graphics_clock_hz", "nvmlDeviceGetClockInfo", 0, FAST_S, _MHZ),
    _indexed("sm_clock_hz", "nvmlDeviceGetClockInfo", 1, FAST_S, _MHZ),
    _indexed("mem_clock_hz", "nvmlDeviceGetClockInfo", 2, FAST_S, _MHZ),
    _indexed("video_clock_hz", "nvmlDeviceGetClockInfo", 3, FAST_S, _MHZ),
    _u32("pstate", "nvmlDeviceGetPerformanceState", FAST_S, high=32.0),
    Spec(
        "nvmlDeviceGetCurrentClocksEventReasons",
        FAST_S,
        8,
        (Out("clock_event_mask", 0, "Q"),),
        fallback=Spec(
            "nvmlDeviceGetCurrentClocksThrottleReasons",
            FAST_S,
            8,
            (Out("clock_event_mask", 0, "Q"),),
        ),
    ),
    Spec(
        "nvmlDeviceGetEncoderUtilization",
        FAST_S,
        8,
        (Out("encoder_ratio", 0, "I", _PERCENT, high=1.0),),
        pointers=(0, 4),
    ),
    Spec(
        "nvmlDeviceGetDecoderUtilization",
        FAST_S,
        8,
        (Out("decoder_ratio", 0, "I", _PERCENT, high=1.0),),
        pointers=(0, 4),
    ),
    *(
        Spec(
            f"nvmlDeviceGet{engine}Utilization",
            FAST_S,
            8,
            (Out(f"{engine.lower()}_ratio", 0, "I", _PERCENT, high=1.0),),
            pointers=(0, 4),
        )
        for engine in ("Jpg", "Ofa")
    ),
    *(
        Spec(
            "nvmlDeviceGetFanSpeed_v2",
            MEDIUM_S,
            4,
            (Out(f"fan_ratio:{fan}", 0, "I", _PERCENT, high=2.0),),
            ints=(fan,),
        )
        for fan in range(FANS_MAX)
    ),
    Spec(
        "nvmlDeviceGetBAR1MemoryInfo",
        MEDIUM_S,
        24,
        (Out("bar1_total_bytes", 0, "Q"), Out("bar1_used_bytes", 16, "Q")),
    ),
    _ecc("ecc_corrected_volatile_total", 0, 0),
    _ecc("ecc_uncorrected_volatile_total", 1, 0),
    _ecc("ecc_corrected_aggregate_total", 0, 1),
    _ecc("ecc_uncorrected_aggregate_total", 1, 1),
    Spec(
        "nvmlDeviceGetRemappedRows",
        MEDIUM_S,
        16,
        (
            Out("row_remaps_correctable_total", 0, "I"),
            Out("row_remaps_uncorrectable_total", 4, "I"),
            Out("row_remap_pending", 8, "I", high=1.0),
            Out("row_remap_failed", 12, "I", high=1.0),
        ),
        pointers=(0, 4, 8, 12),
    ),
    Spec(
        "nvmlDeviceGetRowRemapperHistogram",
        SLOW_S,
        20,
        tuple(
            Out(f"row_remap_banks:{left}", place * 4, "I")
            for place, left in enumerate(("max", "high", "partial", "low", "none"))
        ),
    ),
    _u32("pcie_replays_total", "nvmlDeviceGetPcieReplayCounter", MEDIUM_S),
    Spec(
        "nvmlDeviceGetMarginTemperature",
        MEDIUM_S,
        8,
        (Out("temperature_margin_c", 4, "i", low=-200.0, high=200.0),),
        version=0x01000008,
    ),
    Spec(
        "nvmlDeviceGetSramEccErrorStatus",
        SLOW_S,
        104,
        (Out("sram_ecc_threshold_exceeded", 96, "I", high=1.0),),
        version=0x01000068,
    ),
    _u32("power_limit_w", "nvmlDeviceGetEnforcedPowerLimit", SLOW_S, _MILLI, 1e5),
    _u32("power_limit_set_w", "nvmlDeviceGetPowerManagementLimit", SLOW_S, _MILLI, 1e5),
    _indexed("sm_clock_max_hz", "nvmlDeviceGetMaxClockInfo", 1, SLOW_S, _MHZ),
    _indexed("mem_clock_max_hz", "nvmlDeviceGetMaxClockInfo", 2, SLOW_S, _MHZ),
    _indexed("temperature_shutdown_c", "nvmlDeviceGetTemperatureThreshold", 0, SLOW_S),
    _indexed("temperature_slowdown_c", "nvmlDeviceGetTemperatureThreshold", 1, SLOW_S),
    _indexed("temperature_memory_max_c", "nvmlDeviceGetTemperatureThreshold", 2, SLOW_S),
    _u32("pcie_link_generation", "nvmlDeviceGetCurrPcieLinkGeneration", SLOW_S, high=16.0),
    _u32("pcie_link_width", "nvmlDeviceGetCurrPcieLinkWidth", SLOW_S, high=64.0),
    _u32("pcie_link_generation_max", "nvmlDeviceGetMaxPcieLinkGeneration", SLOW_S, high=16.0),
    _u32("pcie_link_width_max", "nvmlDeviceGetMaxPcieLinkWidth", SLOW_S, high=64.0),
    _u32("persistence_enabled", "nvmlDeviceGetPersistenceMode", SLOW_S, high=1.0),
    _u32("compute_mode", "nvmlDeviceGetComputeMode", SLOW_S, high=16.0),
    _u32("retired_pages_pending", "nvmlDeviceGetRetiredPagesPendingStatus", SLOW_S, high=1.0),
    Spec(
        "nvmlDeviceGetEccMode",
        SLOW_S,
        8,
        (Out("ecc_enabled", 0, "I", high=1.0), Out("ecc_pending", 4, "I", high=1.0)),
        pointers=(0, 4),
    ),
    _u32("ecc_default", "nvmlDeviceGetDefaultEccMode", SLOW_S, high=1.0),
    Spec(
        "nvmlDeviceGetMigMode",
        SLOW_S,
        8,
        (Out("mig_enabled", 0, "I", high=1.0), Out("mig_pending", 4, "I", high=1.0)),
        pointers=(0, 4),
    ),
    Spec(
        "nvmlDeviceGetGpuFabricInfoV",
        SLOW_S,
        40,
        _FABRIC,
        version=0x03000028,
        fallback=Spec("nvmlDeviceGetGpuFabricInfoV", SLOW_S, 36, _FABRIC, version=0x02000024),
    ),
    # Reads the flash: 70 ms on an H100, and hourly is what DCGM does.
    Spec(
        "nvmlDeviceValidateInforom",
        DEEP_S,
        4,
        (),
        pointers=(),
        verdict=("inforom_corrupted", CORRUPTED_INFOROM),
    ),
)

TEXTS: tuple[Text, ...] = (
    Text("serial", "nvmlDeviceGetSerial", 30),
    Text("vbios_version", "nvmlDeviceGetVbiosVersion", 32),
    Text("inforom_version", "nvmlDeviceGetInforomImageVersion", 16),
    Text("board_part_number", "nvmlDeviceGetBoardPartNumber", 80),
    Text("gsp_firmware_version", "nvmlDeviceGetGspFirmwareVersion", 64),
)
"""Asked once a child: they do not change while the driver is loaded."""

FIELDS: tuple[Field, ...] = (
    Field("recovery_action", 230, FAST_S, high=64.0),
    Field("memory_temperature_c", 82, FAST_S, high=200.0),
    Field("energy_joules_total", 83, FAST_S, _MILLI),
    Field("power_instant_w", 186, FAST_S, _MILLI, 1e5),
    Field("clock_event_sw_power_cap_s_total", 74, FAST_S, _NS),
    Field("clock_event_sync_boost_s_total", 76, FAST_S, _NS),
    Field("clock_event_sw_thermal_s_total", 269, FAST_S, _NS),
    Field("clock_event_hw_thermal_s_total", 270, FAST_S, _NS),
    Field("clock_event_hw_power_brake_s_total", 271, FAST_S, _NS),
    Field("nvlink_links", 91, MEDIUM_S, high=1024.0),
    Field("nvlink_transmit_bytes_total", 138, MEDIUM_S, _KIB, scope=ALL_LINKS),
    Field("nvlink_receive_bytes_total", 139, MEDIUM_S, _KIB, scope=ALL_LINKS),
    # Counters, not the two 20 ms windows of nvmlDeviceGetPcieThroughput.
    Field("pcie_transmit_bytes_total", 197, MEDIUM_S),
    Field("pcie_receive_bytes_total", 198, MEDIUM_S),
    Field("nvlink_crc_flit_errors_total", 38, MEDIUM_S),
    Field("nvlink_crc_data_errors_total", 45, MEDIUM_S),
    Field("nvlink_replay_errors_total", 52, MEDIUM_S),
    Field("nvlink_recovery_errors_total", 59, MEDIUM_S),
    *(Field("nvlink_receive_errors_total", 208, MEDIUM_S, scope=n) for n in range(LINKS_MAX)),
    *(Field("nvlink_integrity_errors_total", 211, MEDIUM_S, scope=n) for n in range(LINKS_MAX)),
    *(Field("nvlink_recovery_failures_total", 214, MEDIUM_S, scope=n) for n in range(LINKS_MAX)),
    Field("pcie_correctable_errors_total", 173, MEDIUM_S),
    Field("pcie_non_fatal_errors_total", 179, MEDIUM_S),
    Field("pcie_fatal_errors_total", 180, MEDIUM_S),
    Field("pending_bank_remapping", 307, MEDIUM_S),
    *(Field(f"nvlink_up:{link}", 165, MEDIUM_S, high=1.0, scope=link) for link in range(LINKS_MAX)),
    Field("power_limit_min_w", 187, SLOW_S, _MILLI, 1e5),
    Field("power_limit_max_w", 188, SLOW_S, _MILLI, 1e5),
    Field("power_limit_default_w", 189, SLOW_S, _MILLI, 1e5),
    Field("retired_pages_single_bit", 29, SLOW_S),
    Field("retired_pages_double_bit", 30, SLOW_S),
)

GPM_METRICS: tuple[Metric, ...] = (
    Metric("graphics_active_ratio", 1),
    Metric("sm_active_ratio", 2),
    Metric("sm_occupancy_ratio", 3),
    Metric("tensor_active_ratio", 5),
    Metric("dram_active_ratio", 10),
    Metric("pipe_active_ratio:fp64", 11),
    Metric("pipe_active_ratio:fp32", 12),
    Metric("pipe_active_ratio:fp16", 13),
)
"""NVML_GPM_METRIC_*: what profilers show, without a profiler's lock on the device."""

OF_SLICES = frozenset({"nvmlDeviceGetBAR1MemoryInfo"})
"""All that a MIG slice has of its own; the rest it answers with its GPU's numbers, or not at all."""

CLASSES_S = (FAST_S, MEDIUM_S, SLOW_S)
"""Those that are polled; ``DEEP_S`` is asked of one device after the other."""
_PART_MAX = 255


def part_of(every_s: int) -> int:
    """How a frame names a class: its seconds, as far as they fit into a byte."""
    return min(every_s, _PART_MAX)


def period_s(part: int) -> int:
    """The seconds of the class that a frame names."""
    return DEEP_S if part == _PART_MAX else part


NUMBERED: tuple[Spec, ...] = SPECS + tuple(s.fallback for s in SPECS if s.fallback is not None)
"""Every specification, fallbacks last: a frame names one by its place here."""
