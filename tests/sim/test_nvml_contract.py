"""The ABI as clients rely on it: every trap that a client of NVML has met."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from typing import Any

import pynvml
import pytest

from gpuwarden.sim.driver.build import Built
from gpuwarden.sim.host import SimHost, SimOptions
from tests.sim.sight import GIB, code, library, seen, until

INSUFFICIENT_SIZE = 7
VERSION_MISMATCH = 25
NOT_FOUND = 6
INVALID_ARGUMENT = 2


def _device(index: int = 0) -> Any:
    return pynvml.nvmlDeviceGetHandleByIndex(index)


def test_first_memory_version_counts_what_the_driver_keeps(nvml: SimHost) -> None:
    nvml.start_workload("hold", "--size", "3GiB")
    old = pynvml.nvmlDeviceGetMemoryInfo(_device())
    new = pynvml.nvmlDeviceGetMemoryInfo(_device(), version=pynvml.nvmlMemory_v2)
    assert new.used == 3 * GIB
    assert new.reserved > 0
    assert old.used == new.used + new.reserved
    assert old.total == new.total == new.used + new.free + new.reserved


@pytest.mark.parametrize(
    "name",
    [
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetMarginTemperature",
        "nvmlDeviceGetSramEccErrorStatus",
        "nvmlDeviceGetSramUniqueUncorrectedEccErrorCounts",
        "nvmlDeviceGetRunningProcessDetailList",
        "nvmlDeviceGetProcessesUtilizationInfo",
        "nvmlDeviceGetPlatformInfo",
        "nvmlDeviceGetRepairStatus",
        "nvmlDeviceGetAddressingMode",
        "nvmlDeviceGetPciInfoExt",
        "nvmlDeviceGetCapabilities",
        "nvmlDeviceGetGpuFabricInfoV",
        "nvmlDeviceGetFanSpeedRPM",
        "nvmlGpmQueryDeviceSupport",
    ],
)
@pytest.mark.parametrize("version", [0, 0xFFFFFFFF, 0x7F000001])
def test_wrong_struct_version_is_refused(nvml: SimHost, name: str, version: int) -> None:
    room = (ctypes.c_char * 4096)()
    ctypes.memmove(room, ctypes.byref(ctypes.c_uint(version)), 4)
    assert getattr(library(nvml), name)(_device(), room) == VERSION_MISMATCH


def test_process_list_wants_two_calls_and_24_bytes_an_entry(nvml: SimHost) -> None:
    pids = {nvml.start_workload("hold", "--size", f"{n}GiB").pid: n * GIB for n in (1, 2, 3)}
    lib = library(nvml)
    count = ctypes.c_uint(0)
    name = "nvmlDeviceGetComputeRunningProcesses_v3"
    assert getattr(lib, name)(_device(), ctypes.byref(count), None) == INSUFFICIENT_SIZE
    assert count.value == 3
    room = (ctypes.c_char * (24 * 3))()
    assert getattr(lib, name)(_device(), ctypes.byref(count), room) == 0
    entries = list(struct.iter_unpack("<I4xQII", bytes(room)))
    found = {pid: used for pid, used, _, _ in entries}
    assert found == pids
    assert entries[0][2:] == (2**32 - 1, 2**32 - 1)  # no instances without MIG
    count.value = 2
    assert getattr(lib, name)(_device(), ctypes.byref(count), room) == INSUFFICIENT_SIZE
    assert count.value == 3


def test_first_version_of_the_list_has_16_bytes_an_entry(nvml: SimHost) -> None:
    holder = nvml.start_workload("hold", "--size", "1GiB")
    count = ctypes.c_uint(4)
    room = (ctypes.c_char * 64)()
    lib = library(nvml)
    assert lib.nvmlDeviceGetComputeRunningProcesses(_device(), ctypes.byref(count), room) == 0
    assert count.value == 1
    assert struct.unpack("<I4xQ", bytes(room)[:16]) == (holder.pid, GIB)
    assert bytes(room)[16:] == b"\0" * 48


def test_no_processes_is_success_at_the_first_call(nvml: SimHost) -> None:
    count = ctypes.c_uint(0)
    lib = library(nvml)
    assert lib.nvmlDeviceGetComputeRunningProcesses_v3(_device(), ctypes.byref(count), None) == 0
    assert count.value == 0


def test_detail_list_is_there_and_agrees(nvml: SimHost) -> None:
    holder = nvml.start_workload("hold", "--size", "1GiB")
    lib = library(nvml)
    assert hasattr(lib, "nvmlDeviceGetConfComputeMemSizeInfo")
    entries = (pynvml.c_nvmlProcessDetail_v1_t * 8)()
    asked = pynvml.c_nvmlProcessDetailList_v1_t()
    asked.version = pynvml.nvmlProcessDetailList_v1
    asked.mode = 0
    asked.numProcArrayEntries = 8
    asked.procArray = ctypes.cast(entries, type(asked.procArray))
    assert lib.nvmlDeviceGetRunningProcessDetailList(_device(), ctypes.byref(asked)) == 0
    assert asked.numProcArrayEntries == 1
    assert (entries[0].pid, entries[0].usedGpuMemory) == (holder.pid, GIB)


def test_process_utilization_sizing_call_is_insufficient_size(nvml: SimHost) -> None:
    lib = library(nvml)
    count = ctypes.c_uint(0)
    ask = lib.nvmlDeviceGetProcessUtilization
    since = ctypes.c_ulonglong(0)
    assert ask(_device(), None, ctypes.byref(count), since) == NOT_FOUND
    holder = nvml.start_workload("hold", "--size", "1GiB", "--load", "400")
    assert until(lambda: ask(_device(), None, ctypes.byref(count), since) == INSUFFICIENT_SIZE)

    def busy() -> bool:
        samples = pynvml.nvmlDeviceGetProcessUtilization(_device(), 0)
        return [(s.pid, 30 <= s.smUtil <= 45) for s in samples] == [(holder.pid, True)]

    assert until(busy)
    newest = pynvml.nvmlDeviceGetProcessUtilization(_device(), 0)[0].timeStamp
    future = newest + 3_600_000_000
    assert code(lambda: pynvml.nvmlDeviceGetProcessUtilization(_device(), future)) == NOT_FOUND


def test_event_wait_blocks_for_its_timeout(nvml: SimHost) -> None:
    events = pynvml.nvmlEventSetCreate()
    pynvml.nvmlDeviceRegisterEvents(_device(), pynvml.nvmlEventTypeXidCriticalError, events)
    before = time.monotonic()
    assert code(lambda: pynvml.nvmlEventSetWait(events, 300)) == pynvml.NVML_ERROR_TIMEOUT
    assert time.monotonic() - before >= 0.3  # no upper bound: only an early return is a fault
    pynvml.nvmlEventSetFree(events)


def test_handles_survive_shutdown_and_init(nvml: SimHost) -> None:
    before = ctypes.cast(_device(1), ctypes.c_void_p).value
    uuid = pynvml.nvmlDeviceGetUUID(_device(1))
    pynvml.nvmlShutdown()
    pynvml.nvmlInit()
    assert ctypes.cast(_device(1), ctypes.c_void_p).value == before
    by_uuid = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    assert ctypes.cast(by_uuid, ctypes.c_void_p).value == before


def test_init_is_counted(nvml: SimHost) -> None:
    pynvml.nvmlInit()
    pynvml.nvmlShutdown()
    assert pynvml.nvmlDeviceGetCount() == 2


def test_listed_pids_are_live_host_processes(nvml: SimHost) -> None:
    holder = nvml.start_workload("hold", "--size", "1GiB")
    (listed,) = pynvml.nvmlDeviceGetComputeRunningProcesses(_device())
    assert listed.pid == holder.pid
    os.kill(listed.pid, 0)


def test_bogus_handles_are_refused(nvml: SimHost) -> None:
    lib = library(nvml)
    room = ctypes.create_string_buffer(96)
    good = ctypes.cast(_device(), ctypes.c_void_p).value
    assert good is not None
    for bad in (None, 8, good + 1, good + 4096, 2**63):
        handle = ctypes.c_void_p(bad)
        assert lib.nvmlDeviceGetUUID(handle, room, 96) == INVALID_ARGUMENT


def test_short_buffers_are_not_overrun(nvml: SimHost) -> None:
    lib = library(nvml)
    room = ctypes.create_string_buffer(b"x" * 96, 96)
    assert lib.nvmlDeviceGetUUID(_device(), room, 40) == INSUFFICIENT_SIZE
    assert room.raw == b"x" * 96
    assert lib.nvmlDeviceGetUUID(_device(), room, 41) == 0
    assert room.raw[40:42] == b"\0x"


def test_a_device_is_found_by_each_of_its_names(nvml: SimHost) -> None:
    device = _device(1)
    same = ctypes.cast(device, ctypes.c_void_p).value
    bus = pynvml.nvmlDeviceGetPciInfo(device)
    found = [
        pynvml.nvmlDeviceGetHandleByUUID(pynvml.nvmlDeviceGetUUID(device)),
        pynvml.nvmlDeviceGetHandleBySerial(pynvml.nvmlDeviceGetSerial(device)),
        pynvml.nvmlDeviceGetHandleByPciBusId(bus.busId),
        pynvml.nvmlDeviceGetHandleByPciBusId(bus.busIdLegacy),
        pynvml.nvmlDeviceGetHandleByPciBusId(bus.busIdLegacy.lower()),
    ]
    assert {ctypes.cast(each, ctypes.c_void_p).value for each in found} == {same}
    for absent in ("GPU-0", "0000:ff:00.0"):
        ask = (
            pynvml.nvmlDeviceGetHandleByUUID
            if absent.startswith("GPU")
            else pynvml.nvmlDeviceGetHandleByPciBusId
        )
        assert code(lambda ask=ask, absent=absent: ask(absent)) == NOT_FOUND  # type: ignore[misc]


FIELDS = (
    *range(1, 32),
    *(38, 45, 52, 59, 74, 75, 76, 82, 83, 91, 94, 95, 138, 139, 142, 143, 144, 145),
    *(164, 165, 173, 179, 180, 185, 186, 193, 194, 197, 198, 208, 214, 222, 230),
    *(269, 270, 271, 307),
)


def test_field_values_answer_one_by_one_and_stay_inside_the_array(nvml: SimHost) -> None:
    values = (pynvml.c_nvmlFieldValue_t * (len(FIELDS) + 1))()
    for value, field in zip(values, FIELDS, strict=False):
        value.fieldId = field
    values[len(FIELDS)].fieldId = 12345
    lib = library(nvml)
    assert lib.nvmlDeviceGetFieldValues(_device(), len(FIELDS), values) == 0
    status = {value.fieldId: value.nvmlReturn for value in values[:-1]}
    assert values[len(FIELDS)].fieldId == 12345
    assert values[len(FIELDS)].timestamp == 0
    refused = {field for field, answer in status.items() if answer}
    # page retirement is older than this board, the last three are of a newer NVLink
    assert refused == {29, 30, 31, 208, 214, 222}
    by_field = {value.fieldId: value.value for value in values[:-1]}
    assert by_field[91].uiVal == 12
    assert by_field[230].uiVal == 0
    assert 30_000 < by_field[186].uiVal < 100_000


def test_version_texts(nvml: SimHost) -> None:
    assert pynvml.nvmlSystemGetDriverVersion().startswith("615.")
    assert pynvml.nvmlSystemGetNVMLVersion().startswith("13.615.")
    assert pynvml.nvmlSystemGetCudaDriverVersion() == 13040
    assert pynvml.nvmlSystemGetDriverBranch().branch == "r615_00"
    assert "python" in pynvml.nvmlSystemGetProcessName(os.getpid())
    text = library(nvml).nvmlErrorString
    text.restype = ctypes.c_char_p
    assert text(15) == b"GPU is lost"
    assert text(12345) == b"Unknown Error"


def test_without_a_driver_init_says_so(
    built: Built, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(built.library)))
    for folder in (str(tmp_path), "", "relative"):
        monkeypatch.setenv("GPUWARDEN_SIM_DIR", folder)
        assert code(pynvml.nvmlInit) == pynvml.NVML_ERROR_DRIVER_NOT_LOADED


def test_a_driver_that_dies_is_noticed_by_its_clients(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SimHost(SimOptions(), built=built) as host, seen(host, monkeypatch):
        device = _device()
        os.kill(host.driver_pid, 9)
        assert until(
            lambda: (
                code(lambda: pynvml.nvmlDeviceGetMemoryInfo(device))
                == pynvml.NVML_ERROR_DRIVER_NOT_LOADED
            )
        )


def test_one_client_process_can_move_to_another_host(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuids = []
    for seed in (1, 2):
        options = SimOptions(seed=seed, devices=1)
        with SimHost(options, built=built) as host, seen(host, monkeypatch):
            uuids.append(pynvml.nvmlDeviceGetUUID(_device()))
    assert uuids[0] != uuids[1]
