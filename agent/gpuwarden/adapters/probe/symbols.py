"""Numbers for the symbols a mark may name: the parent says which call hung, in the driver's words."""

from gpuwarden.adapters.probe.specs import SPECS, TEXTS

_OTHERS = (
    "nvmlInitWithFlags",
    "nvmlInit_v2",
    "nvmlShutdown",
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetNVMLVersion",
    "nvmlSystemGetCudaDriverVersion_v2",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetMinorNumber",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v2",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v2",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetProcessUtilization",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetSupportedEventTypes",
    "nvmlEventSetCreate",
    "nvmlDeviceRegisterEvents",
    "nvmlEventSetWait_v2",
    "nvmlEventSetFree",
    "nvmlDeviceGetGpuInstanceId",
    "nvmlGpmQueryDeviceSupport",
    "nvmlGpmSampleAlloc",
    "nvmlGpmSampleGet",
    "nvmlGpmMigSampleGet",
    "nvmlGpmMetricsGet",
    "nvmlDeviceSetMemoryLimits_v1",
    "nvmlDeviceGetMemoryLimits_v1",
)


def _names() -> tuple[str, ...]:
    found = dict.fromkeys(_OTHERS)
    for spec in SPECS:
        found[spec.symbol] = None
        if spec.fallback is not None:
            found[spec.fallback.symbol] = None
    found.update(dict.fromkeys(text.symbol for text in TEXTS))
    return ("", *found)


SYMBOLS: tuple[str, ...] = _names()
"""By number; 0 is no symbol."""
NUMBERS: dict[str, int] = {name: number for number, name in enumerate(SYMBOLS)}


def symbol_name(number: int) -> str:
    """The symbol of a mark; a number out of range (torn or foreign memory) stays a number."""
    return SYMBOLS[number] if 0 <= number < len(SYMBOLS) else f"symbol {number}"
