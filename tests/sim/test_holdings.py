"""Bytes belong to live connections: they come with an allocation and go with the process."""

from __future__ import annotations

import os
import signal
import subprocess

import pynvml
import pytest

from gpuwarden.errors import Unavailable
from gpuwarden.sim.host import SimHost, Workload
from tests.sim.sight import GIB, MIB, until


def _used(index: int = 0) -> int:
    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    return int(pynvml.nvmlDeviceGetMemoryInfo(device, version=pynvml.nvmlMemory_v2).used)


def _listed(index: int = 0) -> dict[int, int]:
    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    listed = pynvml.nvmlDeviceGetComputeRunningProcesses(device)
    return {entry.pid: entry.usedGpuMemory for entry in listed}


def test_kill_frees_at_once(nvml: SimHost) -> None:
    holder = nvml.start_workload("hold", "--size", "5GiB")
    assert _listed() == {holder.pid: 5 * GIB}
    assert _used() == 5 * GIB
    os.kill(holder.pid, signal.SIGKILL)
    assert until(lambda: _used() == 0)
    assert _listed() == {}


def test_term_is_obeyed_or_ignored(nvml: SimHost) -> None:
    meek = nvml.start_workload("hold", "--size", "1GiB")
    deaf = nvml.start_workload("hog", "--size", "1GiB", "--start-size", "1GiB", "--ignore-term")
    for workload in (meek, deaf):
        workload.terminate()
    assert meek.wait(10) == 128 + signal.SIGTERM
    assert until(lambda: set(_listed()) == {deaf.pid})
    assert deaf.is_running()


def test_zombie_memory_stays_under_the_dead_pid(nvml: SimHost) -> None:
    hog = nvml.start_workload("hog", "--size", "2GiB", "--start-size", "2GiB", "--zombie-s", "600")
    child = int(_children_of(hog.pid)[0])
    hog.kill()
    assert not os.path.exists(f"/proc/{hog.pid}")
    assert _listed() == {hog.pid: 2 * GIB}
    os.kill(child, signal.SIGKILL)
    assert until(lambda: _listed() == {})


def _children_of(pid: int) -> list[str]:
    children: list[str] = []

    def found() -> bool:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            children[:] = file.read().split()
        return bool(children)

    assert until(found)
    return children


def test_hog_grows_to_its_size_and_stops(nvml: SimHost) -> None:
    hog = nvml.start_workload("hog", "--size", "3GiB", "--rate", "8GiB/s", "--start-size", "1GiB")
    assert until(lambda: _listed().get(hog.pid) == 3 * GIB)
    changes = [entry for entry in nvml.control("log", pid=hog.pid)["entries"]]
    sizes = [entry[5] for entry in changes]
    assert sizes[0] == GIB
    assert sizes == sorted(sizes)
    assert len(sizes) > 5
    stamps = [entry[1] for entry in changes]
    assert stamps == sorted(stamps)


def test_children_share_size_and_rate(nvml: SimHost) -> None:
    hog = nvml.start_workload("hog", "--size", "4GiB", "--rate", "16GiB/s", "--children", "3")
    assert until(lambda: sorted(_listed().values()) == [GIB] * 4)
    assert hog.pid in _listed()
    pids = [int(pid) for pid in _children_of(hog.pid)]
    assert set(pids) | {hog.pid} == set(_listed())
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: set(_listed()) == {hog.pid})


def test_an_allocation_beyond_the_device_fails_in_the_offender(nvml: SimHost) -> None:
    nvml.start_workload("hold", "--size", "30GiB")
    with pytest.raises(Unavailable, match="status 1"):
        nvml.start_workload("hold", "--size", "20GiB")
    assert _used() == 30 * GIB


def test_hog_that_hits_the_wall_keeps_what_it_has(nvml: SimHost) -> None:
    nvml.start_workload("hold", "--size", "38GiB")
    hog = nvml.start_workload("hog", "--size", "8GiB", "--rate", "8GiB/s", "--step-ms", "5")

    def stuck() -> bool:
        info = nvml.control("info")["devices"][0]
        return bool(info["total"] - info["reserved"] - info["used"] < 64 * MIB)

    assert until(stuck)
    assert hog.is_running()
    assert _listed()[hog.pid] > GIB


def test_kinds_go_to_their_lists(nvml: SimHost) -> None:
    pids = {
        kind: nvml.start_workload("hold", "--size", "1GiB", "--kind", kind).pid
        for kind in ("compute", "graphics", "mps")
    }
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    lists = {
        "compute": pynvml.nvmlDeviceGetComputeRunningProcesses(device),
        "graphics": pynvml.nvmlDeviceGetGraphicsRunningProcesses(device),
        "mps": pynvml.nvmlDeviceGetMPSComputeRunningProcesses(device),
    }
    assert {kind: [entry.pid for entry in found] for kind, found in lists.items()} == {
        kind: [pid] for kind, pid in pids.items()
    }


def test_visible_devices_are_what_a_container_sees(nvml: SimHost) -> None:
    uuid = nvml.control("info")["devices"][1]["uuid"]
    by_uuid = nvml.start_workload("hold", "--size", "1GiB", devices=[uuid])
    by_index = nvml.start_workload("hold", "--size", "2GiB", "--device", "1", devices=[0, 1])
    assert _listed(0) == {}
    assert _listed(1) == {by_uuid.pid: GIB, by_index.pid: 2 * GIB}
    for shown in (["none"], [7], ["GPU-nothing"]):
        with pytest.raises(Unavailable):
            nvml.start_workload("hold", "--size", "1GiB", devices=shown)


def test_log_is_bounded_and_says_what_it_lost(host: SimHost) -> None:
    """The ring keeps 65536 entries; a reader that comes late learns how many it missed."""
    workload = host.start_workload("hog", "--size", "38GiB", "--rate", "38GiB/s", "--step-ms", "1")
    assert until(lambda: host.bytes_of(workload.pid) == 38 * GIB)
    first = host.control("log", limit=10)
    assert [entry[0] for entry in first["entries"]] == list(range(10))
    assert (first["next"], first["lost"]) == (10, 0)
    on = host.control("log", since=first["next"], limit=5)
    assert [entry[0] for entry in on["entries"]] == list(range(10, 15))


def test_unattributed_bytes_are_nobodys(nvml: SimHost) -> None:
    holder = nvml.start_workload("hold", "--size", "1GiB")
    nvml.control("unattributed", device=0, bytes=4 * GIB)
    assert _used() == 5 * GIB
    assert _listed() == {holder.pid: GIB}
    nvml.control("unattributed", device=0, bytes=0)
    assert _used() == GIB


def test_workloads_end_with_their_driver(host: SimHost) -> None:
    workloads = [host.start_workload("hold", "--size", "1GiB") for _ in range(3)]
    os.kill(host.driver_pid, signal.SIGKILL)
    assert [workload.wait(10) for workload in workloads] == [1, 1, 1]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["hold", "--size", "8"], None),
        (["hold", "--size", "lots"], "--size: expected bytes like 8GiB"),
        (["hold", "--size", "-1GiB"], "--size"),
        (["hog", "--rate", "1GiB/h"], "--rate"),
        (["hold", "--device", "99"], "--device: expected 0 to 15"),
        (["hold", "extra"], "unexpected argument"),
        (["dance"], "unknown command"),
        ([], "expected a command"),
    ],
)
def test_wrong_arguments_say_what_was_expected(
    host: SimHost, words: list[str], why: str | None
) -> None:
    if why is None:
        workload: Workload = host.start_workload(*words)
        assert host.bytes_of(workload.pid) == 8
        return
    said = subprocess.run(
        [str(host.built.workload), *words],
        env=host.env(),
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert said.returncode == 1
    assert why in said.stderr
