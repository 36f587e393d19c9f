"""The probe's own structures against those of NVIDIA's binding: sizes, versions, numbers, names."""

from __future__ import annotations

import ctypes

import pynvml
import pytest

from gpuwarden.adapters.probe import events, layout
from gpuwarden.adapters.probe.limits import _Limits
from gpuwarden.adapters.probe.specs import FIELDS, NUMBERED, SPECS
from gpuwarden.adapters.probe.symbols import SYMBOLS


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (layout.MEMORY_RECORD.size, pynvml.c_nvmlMemory_v2_t),
        (layout.MEMORY_V1.size, pynvml.c_nvmlMemory_t),
        (layout.ROW.size, pynvml.c_nvmlProcessInfo_v2_t),
        (layout.FIELD_VALUE.size, pynvml.c_nvmlFieldValue_t),
        (layout.UTILIZATION_SAMPLE.size, pynvml.c_nvmlProcessUtilizationSample_t),
        (ctypes.sizeof(events._Event), pynvml.c_nvmlEventData_t),
        (ctypes.sizeof(_Limits), pynvml.c_nvmlGetMemoryLimits_v1_t),
    ],
)
def test_sizes(ours: int, theirs: type[ctypes.Structure]) -> None:
    assert ours == ctypes.sizeof(theirs)


def test_offsets_of_limits_and_events() -> None:
    pairs = zip(
        ("namespace", "soft", "hard", "used"),
        pynvml.c_nvmlGetMemoryLimits_v1_t._fields_,
        strict=True,
    )
    for name, (their_name, *_) in pairs:
        their = getattr(pynvml.c_nvmlGetMemoryLimits_v1_t, their_name)
        assert getattr(_Limits, name).offset == their.offset


@pytest.mark.parametrize("code", sorted(layout.CODE_NAMES))
def test_return_codes_carry_the_name_of_nvml_h(code: int) -> None:
    name = layout.code_name(code)
    theirs = "NVML_SUCCESS" if code == 0 else f"NVML_ERROR_{name}"
    assert getattr(pynvml, theirs) == code


def test_every_return_code_has_a_name() -> None:
    theirs = {
        v for k, v in vars(pynvml).items() if k.startswith("NVML_ERROR_") and isinstance(v, int)
    }
    assert theirs <= set(layout.CODE_NAMES)


def test_versions_of_structures() -> None:
    versions = {spec.symbol: spec.version for spec in SPECS if spec.version}
    assert pynvml.nvmlMemory_v2 == layout.MEMORY_V2_VERSION
    assert versions["nvmlDeviceGetTemperatureV"] == pynvml.nvmlTemperature_v1
    assert versions["nvmlDeviceGetMarginTemperature"] == pynvml.nvmlMarginTemperature_v1
    assert versions["nvmlDeviceGetSramEccErrorStatus"] == pynvml.nvmlEccSramErrorStatus_v1
    assert versions["nvmlDeviceGetGpuFabricInfoV"] == pynvml.nvmlGpuFabricInfo_v3
    older = {s.symbol: s.fallback.version for s in SPECS if s.fallback is not None}
    assert older["nvmlDeviceGetGpuFabricInfoV"] == pynvml.nvmlGpuFabricInfo_v2
    for spec in NUMBERED:
        if spec.version:
            assert spec.version & 0xFFFFFF == spec.size


def test_field_numbers_are_those_of_nvml_h() -> None:
    known = {v for k, v in vars(pynvml).items() if k.startswith("NVML_FI_")}
    assert {field.id for field in FIELDS} <= known
    assert pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION == 230


def test_event_bits() -> None:
    assert events.WANTED & pynvml.nvmlEventTypeXidCriticalError
    assert events.WANTED & pynvml.nvmlEventTypeGpuRecoveryAction
    assert events.WANTED & pynvml.nvmlEventTypeGpuUnavailableError
    assert not events.WANTED & pynvml.nvmlEventTypeClock, "a busy host changes clocks all day"
    assert events.WANTED & ~pynvml.nvmlEventTypeAll == 0


def test_every_symbol_is_one_the_binding_names() -> None:
    with open(pynvml.__file__, encoding="utf-8") as file:
        text = file.read()
    old = {
        "nvmlInit_v2",
        "nvmlDeviceGetGraphicsRunningProcesses_v2",
        "nvmlDeviceGetMPSComputeRunningProcesses_v2",
        "nvmlDeviceGetComputeRunningProcesses_v2",
    }
    missing = [name for name in SYMBOLS if name and name not in old and f'"{name}"' not in text]
    assert not missing
