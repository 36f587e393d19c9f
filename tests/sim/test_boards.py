"""Profiles: what each board has and has not; MIG; GPM; health; accounting."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import pynvml
import pytest

from gpuwarden.sim.driver.build import Built
from gpuwarden.sim.host import PROFILES, SimHost, SimOptions
from tests.sim.sight import GIB, MIB, code, seen, until

NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED


@contextmanager
def _board(
    built: Built, monkeypatch: pytest.MonkeyPatch, options: SimOptions
) -> Iterator[tuple[SimHost, object]]:
    with SimHost(options, built=built) as host, seen(host, monkeypatch):
        yield host, pynvml.nvmlDeviceGetHandleByIndex(0)


@pytest.mark.parametrize(
    ("profile", "name", "mib", "watts", "links", "remap", "gpm", "mig"),
    [
        ("A100-40", "NVIDIA A100-SXM4-40GB", 40960, 400, 12, True, False, True),
        ("H100-80", "NVIDIA H100 80GB HBM3", 81559, 700, 18, True, True, True),
        ("H200-141", "NVIDIA H200", 143771, 700, 18, True, True, True),
        ("L4", "NVIDIA L4", 23034, 72, None, True, False, False),
        ("T4", "Tesla T4", 15360, 70, None, False, False, False),
    ],
)
def test_a_profile_is_that_board(
    built: Built,
    monkeypatch: pytest.MonkeyPatch,
    profile: str,
    name: str,
    mib: int,
    watts: int,
    links: int | None,
    remap: bool,
    gpm: bool,
    mig: bool,
) -> None:
    with _board(built, monkeypatch, SimOptions(profile=profile)) as (_, device):
        assert pynvml.nvmlDeviceGetName(device) == name
        assert pynvml.nvmlDeviceGetMemoryInfo(device).total == mib * MIB
        assert pynvml.nvmlDeviceGetEnforcedPowerLimit(device) == watts * 1000
        (count,) = pynvml.nvmlDeviceGetFieldValues(device, [91])
        assert (count.value.uiVal if not count.nvmlReturn else None) == links
        assert (code(lambda: pynvml.nvmlDeviceGetRemappedRows(device)) == 0) == remap
        assert (code(lambda: pynvml.nvmlDeviceGetRetiredPages(device, 0)) == 0) != remap
        support = pynvml.nvmlGpmQueryDeviceSupport(device)
        assert bool(support.isSupportedDevice) == gpm
        assert (code(lambda: pynvml.nvmlDeviceGetMigMode(device)) == 0) == mig
        assert code(lambda: pynvml.nvmlDeviceGetFanSpeed(device)) == NOT_SUPPORTED


def test_sixteen_boards_differ_in_everything_that_names_them(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _board(built, monkeypatch, SimOptions(devices=16)):
        devices = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(16)]
        for ask in (
            pynvml.nvmlDeviceGetUUID,
            pynvml.nvmlDeviceGetSerial,
            pynvml.nvmlDeviceGetMinorNumber,
            lambda device: pynvml.nvmlDeviceGetPciInfo(device).busId,
        ):
            assert len({ask(device) for device in devices}) == 16
        out_of_range = code(lambda: pynvml.nvmlDeviceGetHandleByIndex(16))
        assert out_of_range == pynvml.NVML_ERROR_INVALID_ARGUMENT


@pytest.mark.parametrize("profile", PROFILES)
def test_the_seed_decides_what_differs(built: Built, profile: str) -> None:
    def facts(seed: int) -> list[tuple[object, ...]]:
        options = SimOptions(devices=3, profile=profile, seed=seed)
        with SimHost(options, built=built) as host:
            return [
                (device["uuid"], device["pci"], device["total"], device["reserved"])
                for device in host.control("info")["devices"]
            ]

    assert facts(5) == facts(5)
    assert facts(5) != facts(6)


def test_a_board_with_fans_has_fan_speeds(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    with _board(built, monkeypatch, SimOptions(profile="T4", fans=2)) as (_, device):
        assert pynvml.nvmlDeviceGetNumFans(device) == 2
        assert pynvml.nvmlDeviceGetFanSpeed(device) >= 30
        assert pynvml.nvmlDeviceGetFanSpeed_v2(device, 1) >= 30
        refused = code(lambda: pynvml.nvmlDeviceGetFanSpeed_v2(device, 2))
        assert refused == pynvml.NVML_ERROR_INVALID_ARGUMENT


# --- MIG ---


@pytest.fixture
def partitioned(built: Built, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimHost]:
    """Device 0 is partitioned, device 1 is not."""
    with SimHost(SimOptions(devices=2, mig=(0,)), built=built) as host, seen(host, monkeypatch):
        yield host


def _instances(device: object) -> list[object]:
    found = []
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(device)):
        try:
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(device, index))
        except pynvml.NVMLError_NotFound:
            continue
    return found


def test_instances_are_devices_with_memory_and_names(partitioned: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert list(pynvml.nvmlDeviceGetMigMode(device)) == [1, 1]
    assert list(pynvml.nvmlDeviceGetMigMode(pynvml.nvmlDeviceGetHandleByIndex(1))) == [0, 0]
    instances = _instances(device)
    names = [pynvml.nvmlDeviceGetName(each) for each in instances]
    assert names[0] == "NVIDIA A100-SXM4-40GB MIG 3g.20gb"
    uuids = [pynvml.nvmlDeviceGetUUID(each) for each in instances]
    assert all(uuid.startswith("MIG-") for uuid in uuids)
    assert len(set(uuids)) == len(instances) == 4
    sizes = [pynvml.nvmlDeviceGetMemoryInfo(each).total for each in instances]
    assert sizes == [20 * GIB, 10 * GIB, 5 * GIB, 5 * GIB]
    ids = [pynvml.nvmlDeviceGetGpuInstanceId(each) for each in instances]
    assert len(set(ids)) == 4
    assert [pynvml.nvmlDeviceGetAttributes(each).gpuInstanceSliceCount for each in instances] == [
        3,
        2,
        1,
        1,
    ]
    parent = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instances[2])
    assert pynvml.nvmlDeviceGetUUID(parent) == pynvml.nvmlDeviceGetUUID(device)
    again = pynvml.nvmlDeviceGetHandleByUUID(uuids[1])
    assert pynvml.nvmlDeviceIsMigDeviceHandle(again)
    assert not pynvml.nvmlDeviceIsMigDeviceHandle(device)


def test_each_instance_has_its_own_processes(partitioned: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    instances = _instances(device)
    uuids = [pynvml.nvmlDeviceGetUUID(each) for each in instances]
    pids = [
        partitioned.start_workload("hold", "--size", f"{n + 1}GiB", devices=[uuid]).pid
        for n, uuid in enumerate(uuids)
    ]
    for n, instance in enumerate(instances):
        (entry,) = pynvml.nvmlDeviceGetComputeRunningProcesses(instance)
        assert (entry.pid, entry.usedGpuMemory) == (pids[n], (n + 1) * GIB)
        assert entry.gpuInstanceId == pynvml.nvmlDeviceGetGpuInstanceId(instance)
        info = pynvml.nvmlDeviceGetMemoryInfo(instance, version=pynvml.nvmlMemory_v2)
        assert info.used == (n + 1) * GIB
    everyone = pynvml.nvmlDeviceGetComputeRunningProcesses(device)
    assert {entry.pid for entry in everyone} == set(pids)
    parent = pynvml.nvmlDeviceGetMemoryInfo(device, version=pynvml.nvmlMemory_v2)
    assert parent.used == 10 * GIB


def test_utilisation_is_not_supported_on_parent_and_instance(partitioned: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    for each in (device, *_instances(device)):
        assert code(lambda each=each: pynvml.nvmlDeviceGetUtilizationRates(each)) == NOT_SUPPORTED  # type: ignore[misc]
    whole = pynvml.nvmlDeviceGetHandleByIndex(1)
    assert code(lambda: pynvml.nvmlDeviceGetUtilizationRates(whole)) == 0


def test_an_instance_is_a_wall(partitioned: SimHost) -> None:
    small = pynvml.nvmlDeviceGetUUID(_instances(pynvml.nvmlDeviceGetHandleByIndex(0))[3])
    hog = partitioned.start_workload("hog", "--size", "8GiB", "--rate", "32GiB/s", devices=[small])
    assert until(lambda: partitioned.bytes_of(hog.pid, small) > 4 * GIB)
    assert partitioned.bytes_of(hog.pid, small) < 5 * GIB


# --- what boards report ---


def test_gpm_measures_between_two_samples(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    with _board(built, monkeypatch, SimOptions(profile="H100-80")) as (host, device):
        host.start_workload("hold", "--size", "1GiB", "--load", "500")
        first, second = pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()
        asked = pynvml.c_nvmlGpmMetricsGet_t()
        asked.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        asked.sample1, asked.sample2 = first, second
        asked.numMetrics = 3
        for at, metric in enumerate((2, 10, 33)):
            asked.metrics[at].metricId = metric

        def half_busy() -> bool:
            pynvml.nvmlGpmSampleGet(device, first)
            tick = host.control("info")["tick"]
            until(lambda: host.control("info")["tick"] > tick + 3)
            pynvml.nvmlGpmSampleGet(device, second)
            pynvml.nvmlGpmMetricsGet(asked)
            return bool(40 < asked.metrics[0].value < 60)

        assert until(half_busy)
        assert 20 < asked.metrics[1].value < 40
        assert asked.metrics[2].nvmlReturn == NOT_SUPPORTED
        asked.version = 2
        refused = code(lambda: pynvml.nvmlGpmMetricsGet(asked))
        assert refused == pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH


def test_ecc_errors_are_counted_where_they_happen(nvml: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    nvml.control("ecc", device=0, uncorrected=True, count=3)
    nvml.control("ecc", device=0, count=5, location=1)
    assert pynvml.nvmlDeviceGetTotalEccErrors(device, 1, 0) == 3
    assert pynvml.nvmlDeviceGetTotalEccErrors(device, 0, 0) == 5
    assert pynvml.nvmlDeviceGetMemoryErrorCounter(device, 1, 0, 2) == 3
    assert pynvml.nvmlDeviceGetMemoryErrorCounter(device, 0, 0, 1) == 5
    values = pynvml.nvmlDeviceGetFieldValues(device, [3, 4, 12])
    assert [value.value.ullVal for value in values] == [5, 3, 3]
    nvml.control("reset", device=0)
    assert pynvml.nvmlDeviceGetTotalEccErrors(device, 1, 0) == 0
    assert pynvml.nvmlDeviceGetTotalEccErrors(device, 1, 1) == 3  # the aggregate stays


def test_remaps_and_their_histogram(nvml: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(1)
    assert list(pynvml.nvmlDeviceGetRemappedRows(device)) == [0, 0, 0, 0]
    nvml.control("remap", device=1, correctable=2, uncorrectable=1, pending=1)
    assert list(pynvml.nvmlDeviceGetRemappedRows(device)) == [2, 1, 1, 0]
    histogram = pynvml.nvmlDeviceGetRowRemapperHistogram(device)
    assert (histogram.max, histogram.high) == (637, 3)
    nvml.control("remap", device=1, failed=1)
    assert pynvml.nvmlDeviceGetRemappedRows(device)[3] == 1


def test_pages_are_retired_on_boards_before_row_remapping(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _board(built, monkeypatch, SimOptions(profile="T4")) as (host, device):
        assert list(pynvml.nvmlDeviceGetRetiredPages(device, 1)) == []
        host.control("retire", device=0, double_bit=True, count=3)
        host.control("retire", device=0)
        assert len(pynvml.nvmlDeviceGetRetiredPages(device, 1)) == 3
        assert len(pynvml.nvmlDeviceGetRetiredPages_v2(device, 0)) == 1
        assert pynvml.nvmlDeviceGetRetiredPagesPendingStatus(device) == 1
        values = pynvml.nvmlDeviceGetFieldValues(device, [29, 30, 31])
        assert [value.value.uiVal for value in values] == [1, 3, 1]


def test_links_have_state_and_errors(nvml: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert [pynvml.nvmlDeviceGetNvLinkState(device, link) for link in range(12)] == [1] * 12
    nvml.control("nvlink", device=0, link=4, up=0, counter=2, count=9)
    assert pynvml.nvmlDeviceGetNvLinkState(device, 4) == 0
    assert pynvml.nvmlDeviceGetNvLinkErrorCounter(device, 4, 2) == 9
    (total,) = pynvml.nvmlDeviceGetFieldValues(device, [38])
    assert total.value.ullVal == 9
    refused = code(lambda: pynvml.nvmlDeviceGetNvLinkState(device, 12))
    assert refused == pynvml.NVML_ERROR_INVALID_ARGUMENT


def test_heat_throttles_and_the_time_is_counted(nvml: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    nvml.start_workload("hold", "--size", "1GiB", "--load", "900")
    nvml.control("thermal", device=0, celsius=90)

    def throttled() -> bool:
        reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(device)
        (hot,) = pynvml.nvmlDeviceGetFieldValues(device, [270])
        clock = pynvml.nvmlDeviceGetClockInfo(device, 1)
        return bool(reasons & 0x40) and hot.value.ullVal > 200_000_000 and clock < 1000

    assert until(throttled)
    assert pynvml.nvmlDeviceGetTemperature(device, 0) == 90
    nvml.control("thermal", device=0, celsius=0)
    assert until(lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(device) & 0x40 == 0)


def test_pcie_counts_and_width(nvml: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    nvml.control("pcie", device=0, replays=12, width=8, correctable=4)
    assert pynvml.nvmlDeviceGetPcieReplayCounter(device) == 12
    assert pynvml.nvmlDeviceGetCurrPcieLinkWidth(device) == 8
    assert pynvml.nvmlDeviceGetMaxPcieLinkWidth(device) == 16
    (errors,) = pynvml.nvmlDeviceGetFieldValues(device, [173])
    assert errors.value.ullVal == 4


def test_fabric_state_is_told_in_each_version(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _board(built, monkeypatch, SimOptions(profile="H100-80")) as (host, device):
        info = pynvml.c_nvmlGpuFabricInfoV_t()
        pynvml.nvmlDeviceGetGpuFabricInfoV(device, ctypes.byref(info))
        assert (info.state, info.healthMask) == (3, 0xAA)
        host.control("fabric", device=0, state=2, health=0x56)
        pynvml.nvmlDeviceGetGpuFabricInfoV(device, ctypes.byref(info))
        assert (info.state, info.healthMask) == (2, 0x56)


def test_accounting_remembers_what_ended(nvml: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert code(lambda: pynvml.nvmlDeviceGetAccountingPids(device)) == NOT_SUPPORTED
    pynvml.nvmlDeviceSetAccountingMode(device, 1)
    holder = nvml.start_workload("hold", "--size", "2GiB")
    assert pynvml.nvmlDeviceGetAccountingStats(device, holder.pid).isRunning == 1
    holder.kill()

    def ended() -> bool:
        stats = pynvml.nvmlDeviceGetAccountingStats(device, holder.pid)
        return (stats.isRunning, stats.maxMemoryUsage) == (0, 2 * GIB)

    assert until(ended)
    assert list(pynvml.nvmlDeviceGetAccountingPids(device)) == [holder.pid]


def test_recorded_samples_are_newer_than_asked(nvml: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert until(lambda: code(lambda: pynvml.nvmlDeviceGetSamples(device, 0, 0)) == 0)
    _, samples = pynvml.nvmlDeviceGetSamples(device, 0, 0)
    stamps = [sample.timeStamp for sample in samples]
    assert stamps == sorted(stamps)
    assert all(sample.sampleValue.uiVal > 30_000 for sample in samples)
    later = stamps[-1] + 3_600_000_000
    assert (
        code(lambda: pynvml.nvmlDeviceGetSamples(device, 0, later)) == pynvml.NVML_ERROR_NOT_FOUND
    )
