"""Which slow calls there are: symbol, arguments, where the answers lie, how often, in what unit.

Shared by both ends: the child calls and copies bytes, the parent unpacks them with the same row.
Signatures and layouts: nvml.h; notes on single calls stand beside them.
"""

from typing import NamedTuple


class Out(NamedTuple):
    """One value in the answer: ``value = raw * scale``, dropped when it is outside low..high.

    With ``flags`` it is a mask: one value ``key:name`` of 0 or 1 for each. A key with a leading ``_``
    is for the probe itself.
    """

    key: str
    offset: int
    format: str
    scale: float = 1.0
    low: float = 0.0
    high: float = 1e18
    flags: tuple[tuple[str, int], ...] = ()


class Spec(NamedTuple):
    """One call: ``symbol(handle, *ints, *pointers)``, answers in a buffer of ``size`` bytes.

    ``pointers``: offsets in the buffer handed over as pointers. ``version`` is written at offset 0
    before each call (versioned structs). ``fallback``: asked instead when this one is not there.
    """

    symbol: str
    every_s: int
    size: int
    outs: tuple[Out, ...]
    ints: tuple[int, ...] = ()
    pointers: tuple[int, ...] = (0,)
    version: int = 0
    preset: tuple[tuple[int, int], ...] = ()
    fallback: "Spec | None" = None


class Text(NamedTuple):
    """A string: ``symbol(handle, buffer, size)``."""

    key: str
    symbol: str
    size: int


class Field(NamedTuple):
    """One entry of nvmlDeviceGetFieldValues."""

    key: str
    id: int
    every_s: int
    scale: float = 1.0
    high: float = 1e18
    scope: int = 0


FAST_S, MEDIUM_S, SLOW_S = 5, 15, 60
ALL_LINKS = 0xFFFFFFFF
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


def _engine(name: str, symbol: str) -> Spec:
    out = Out(f"engine_{name}_ratio", 0, "I", _PERCENT, high=1.0)
    return Spec(symbol, FAST_S, 8, (out,), pointers=(0, 4))


def _threshold(name: str, which: int) -> Spec:
    out = Out(f"temperature_threshold_c:{name}", 0, "I", high=200.0)
    return Spec("nvmlDeviceGetTemperatureThreshold", SLOW_S, 4, (out,), ints=(which,))


_CLOCK_EVENTS = Out(
    "clock_event_active",
    0,
    "Q",
    flags=(
        ("idle", 0x1),
        ("app_clocks", 0x2),
        ("sw_power_cap", 0x4),
        ("hw_slowdown", 0x8),
        ("sync_boost", 0x10),
        ("sw_thermal", 0x20),
        ("hw_thermal", 0x40),
        ("hw_power_brake", 0x80),
        ("display", 0x100),
    ),
)
"""nvml.h, nvmlClocksEventReason*."""

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
        (Out("temperature_core_c", 8, "i", low=-50.0, high=200.0),),
        version=0x0100000C,
        fallback=Spec(
            "nvmlDeviceGetTemperature",
            FAST_S,
            4,
            (Out("temperature_core_c", 0, "I", high=200.0),),
            ints=(0,),
        ),
    ),
    _u32("power_w", "nvmlDeviceGetPowerUsage", FAST_S, _MILLI, 1e5),
    _indexed("clock_hz:graphics", "nvmlDeviceGetClockInfo", 0, FAST_S, _MHZ),
    _indexed("clock_hz:sm", "nvmlDeviceGetClockInfo", 1, FAST_S, _MHZ),
    _indexed("clock_hz:memory", "nvmlDeviceGetClockInfo", 2, FAST_S, _MHZ),
    _indexed("clock_hz:video", "nvmlDeviceGetClockInfo", 3, FAST_S, _MHZ),
    _u32("performance_state", "nvmlDeviceGetPerformanceState", FAST_S, high=15.0),
    Spec(
        "nvmlDeviceGetCurrentClocksEventReasons",
        FAST_S,
        8,
        (_CLOCK_EVENTS,),
        fallback=Spec(
            "nvmlDeviceGetCurrentClocksThrottleReasons",
            FAST_S,
            8,
            (_CLOCK_EVENTS,),
        ),
    ),
    _engine("encoder", "nvmlDeviceGetEncoderUtilization"),
    _engine("decoder", "nvmlDeviceGetDecoderUtilization"),
    _engine("jpeg", "nvmlDeviceGetJpgUtilization"),
    _engine("ofa", "nvmlDeviceGetOfaUtilization"),
    _u32("fan_speed_ratio:0", "nvmlDeviceGetFanSpeed", MEDIUM_S, _PERCENT, 2.0),
    Spec(
        "nvmlDeviceGetBAR1MemoryInfo",
        MEDIUM_S,
        24,
        (Out("bar1_used_bytes", 16, "Q"),),
    ),
    _ecc("ecc_corrected_volatile", 0, 0),
    _ecc("ecc_uncorrected_volatile", 1, 0),
    _ecc("ecc_corrected_aggregate", 0, 1),
    _ecc("ecc_uncorrected_aggregate", 1, 1),
    Spec(
        "nvmlDeviceGetRemappedRows",
        MEDIUM_S,
        16,
        (
            Out("row_remaps_correctable", 0, "I"),
            Out("row_remaps_uncorrectable", 4, "I"),
            Out("row_remap_pending", 8, "I", high=1.0),
            Out("row_remap_failed", 12, "I", high=1.0),
        ),
        pointers=(0, 4, 8, 12),
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
    Spec(
        "nvmlDeviceGetRowRemapperHistogram",
        SLOW_S,
        20,
        tuple(
            Out(f"row_remap_banks:{name}", 4 * place, "I")
            for place, name in enumerate(("max", "high", "partial", "low", "none"))
        ),
    ),
    _u32("power_limit_w:enforced", "nvmlDeviceGetEnforcedPowerLimit", SLOW_S, _MILLI, 1e5),
    Spec(
        "nvmlDeviceGetPowerManagementLimitConstraints",
        SLOW_S,
        8,
        (
            Out("power_limit_w:min", 0, "I", _MILLI, high=1e5),
            Out("power_limit_w:max", 4, "I", _MILLI, high=1e5),
        ),
        pointers=(0, 4),
    ),
    _indexed("clock_max_hz:graphics", "nvmlDeviceGetMaxClockInfo", 0, SLOW_S, _MHZ),
    _indexed("clock_max_hz:sm", "nvmlDeviceGetMaxClockInfo", 1, SLOW_S, _MHZ),
    _indexed("clock_max_hz:memory", "nvmlDeviceGetMaxClockInfo", 2, SLOW_S, _MHZ),
    _indexed("clock_max_hz:video", "nvmlDeviceGetMaxClockInfo", 3, SLOW_S, _MHZ),
    _threshold("shutdown", 0),
    _threshold("slowdown", 1),
    _threshold("memory_max", 2),
    _threshold("gpu_max", 3),
    _u32("pcie_link_generation:current", "nvmlDeviceGetCurrPcieLinkGeneration", SLOW_S, high=16),
    _u32("pcie_link_generation:max", "nvmlDeviceGetMaxPcieLinkGeneration", SLOW_S, high=16),
    _u32("pcie_link_width:current", "nvmlDeviceGetCurrPcieLinkWidth", SLOW_S, high=64),
    _u32("pcie_link_width:max", "nvmlDeviceGetMaxPcieLinkWidth", SLOW_S, high=64),
    _u32("persistence_enabled", "nvmlDeviceGetPersistenceMode", SLOW_S, high=1.0),
    Spec(
        "nvmlDeviceGetCudaComputeCapability",
        SLOW_S,
        8,
        (Out("_capability_major", 0, "i", high=99.0), Out("_capability_minor", 4, "i", high=99.0)),
        pointers=(0, 4),
    ),
    _u32("retired_pages_pending", "nvmlDeviceGetRetiredPagesPendingStatus", SLOW_S, high=1.0),
    Spec(
        "nvmlDeviceGetEccMode",
        SLOW_S,
        8,
        (Out("ecc_enabled", 0, "I", high=1.0),),
        pointers=(0, 4),
    ),
    Spec(
        "nvmlDeviceGetMigMode",
        SLOW_S,
        8,
        (Out("mig_enabled", 0, "I", high=1.0),),
        pointers=(0, 4),
    ),
    Spec(
        "nvmlDeviceGetGpuFabricInfoV",
        SLOW_S,
        40,
        (
            Out("fabric_state", 28, "B", high=16.0),
            Out("fabric_health_mask", 32, "I"),
        ),
        version=0x03000028,
    ),
)

TEXTS: tuple[Text, ...] = (
    Text("serial", "nvmlDeviceGetSerial", 30),
    Text("vbios_version", "nvmlDeviceGetVbiosVersion", 32),
    Text("inforom_version", "nvmlDeviceGetInforomImageVersion", 16),
)
"""Asked once a child: they do not change while the driver is loaded."""

LINKS = 18
"""NVLinks of the largest board there is (Hopper, Blackwell)."""

FIELDS: tuple[Field, ...] = (
    Field("_recovery_action", 230, FAST_S, high=64.0),
    Field("temperature_memory_c", 82, FAST_S, high=200.0),
    Field("energy_joules_total", 83, FAST_S, _MILLI),
    Field("clock_event_seconds_total:sw_power_cap", 74, FAST_S, _NS),
    Field("clock_event_seconds_total:sync_boost", 76, FAST_S, _NS),
    Field("clock_event_seconds_total:sw_thermal", 269, FAST_S, _NS),
    Field("clock_event_seconds_total:hw_thermal", 270, FAST_S, _NS),
    Field("clock_event_seconds_total:hw_power_brake", 271, FAST_S, _NS),
    *(Field(f"nvlink_up:{link}", 165, MEDIUM_S, high=1.0, scope=link) for link in range(LINKS)),
    Field("nvlink_bytes_total:transmit", 138, MEDIUM_S, _KIB, scope=ALL_LINKS),
    Field("nvlink_bytes_total:receive", 139, MEDIUM_S, _KIB, scope=ALL_LINKS),
    Field("nvlink_errors_total:crc_flit", 38, MEDIUM_S),
    Field("nvlink_errors_total:crc_data", 45, MEDIUM_S),
    Field("nvlink_errors_total:replay", 52, MEDIUM_S),
    Field("nvlink_errors_total:recovery", 59, MEDIUM_S),
    Field("nvlink_errors_total:receive", 208, MEDIUM_S),
    Field("nvlink_errors_total:recovery_failed", 214, MEDIUM_S),
    # Counters, not the two 20 ms windows of nvmlDeviceGetPcieThroughput.
    Field("pcie_bytes_total:transmit", 197, MEDIUM_S),
    Field("pcie_bytes_total:receive", 198, MEDIUM_S),
    Field("pcie_errors_total:correctable", 173, MEDIUM_S),
    Field("pcie_errors_total:non_fatal", 179, MEDIUM_S),
    Field("pcie_errors_total:fatal", 180, MEDIUM_S),
    Field("retired_pages:single_bit", 29, SLOW_S),
    Field("retired_pages:double_bit", 30, SLOW_S),
)

CLASSES_S = (FAST_S, MEDIUM_S, SLOW_S)

NUMBERED: tuple[Spec, ...] = SPECS + tuple(s.fallback for s in SPECS if s.fallback is not None)
"""Every specification, fallbacks last: a frame names one by its place here."""
