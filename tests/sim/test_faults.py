"""Faults at run time: one function, one device, or the whole driver."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pynvml
import pytest

from gpuwarden.sim.control import Rejected
from gpuwarden.sim.driver.build import Built
from gpuwarden.sim.host import SimHost, SimOptions
from tests.sim.sight import GIB, code, seen, until

MEMORY = "nvmlDeviceGetMemoryInfo_v2"


def _memory(index: int) -> int:
    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    return int(pynvml.nvmlDeviceGetMemoryInfo(device, version=pynvml.nvmlMemory_v2).used)


def test_a_hang_is_of_one_device_and_ends_when_told(nvml: SimHost) -> None:
    nvml.control("hang", function=MEMORY, device=0)
    returned = threading.Event()

    def call() -> None:
        _memory(0)
        returned.set()

    threading.Thread(target=call, daemon=True).start()
    assert not returned.wait(0.5)
    assert _memory(1) == 0  # the other device, through the same library, answers
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert pynvml.nvmlDeviceGetName(device)  # and so do other functions of this one
    nvml.control("unhang", function=MEMORY, device=0)
    assert returned.wait(10)


def test_an_end_without_a_device_ends_every_hang_of_the_function(nvml: SimHost) -> None:
    nvml.control("hang", function=MEMORY, device=1)
    nvml.control("unhang", function=MEMORY)
    returned = threading.Event()

    def call() -> None:
        _memory(1)
        returned.set()

    threading.Thread(target=call, daemon=True).start()
    try:
        assert returned.wait(10)
    finally:
        nvml.control("clear_faults")


def test_a_hung_client_can_be_killed(host: SimHost) -> None:
    host.control("hang", function="nvmlDeviceGetCount_v2")
    client = subprocess.Popen(
        [sys.executable, "-c", "import pynvml as n; n.nvmlInit(); n.nvmlDeviceGetCount()"],
        env=host.env(),
    )
    assert until(lambda: host.control("counters")["calls"].get("nvmlDeviceGetCount_v2") == 1)
    assert client.poll() is None
    client.kill()
    assert client.wait(10) == -signal.SIGKILL


def test_hung_callers_are_let_go_when_the_driver_ends(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned = threading.Event()
    with SimHost(SimOptions(), built=built) as host, seen(host, monkeypatch):
        host.control("hang", function=MEMORY)

        def call() -> None:
            code(lambda: _memory(0))
            returned.set()

        threading.Thread(target=call, daemon=True).start()
        assert not returned.wait(0.2)
        host.control("shutdown")
        assert returned.wait(10)


def test_an_error_code_is_returned_until_cleared(nvml: SimHost) -> None:
    nvml.control("error", function=MEMORY, device=1, code=999)
    assert code(lambda: _memory(1)) == 999
    assert code(lambda: _memory(0)) == 0
    nvml.control("error", function=MEMORY, device=1, code=0)
    assert code(lambda: _memory(1)) == 0


def test_clear_takes_back_every_function_fault(nvml: SimHost) -> None:
    nvml.control("error", function=MEMORY, code=999)
    nvml.control("slow", function="nvmlDeviceGetName", ms=1)
    nvml.control("hang", function="nvmlDeviceGetUUID")
    nvml.control("clear_faults")
    assert code(lambda: _memory(0)) == 0
    assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0))


def test_a_slow_call_takes_at_least_so_long(nvml: SimHost) -> None:
    nvml.control("slow", function=MEMORY, device=0, ms=250)
    ended = threading.Event()

    def call() -> None:
        _memory(0)
        ended.set()

    threading.Thread(target=call, daemon=True).start()
    assert not ended.wait(0.1)
    assert ended.wait(10)


def test_a_lost_device_stays_counted_and_says_so(nvml: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(1)
    holder = nvml.start_workload("hold", "--size", "1GiB", devices=[1])
    nvml.control("lose", device=1)
    lost = pynvml.NVML_ERROR_GPU_IS_LOST
    assert pynvml.nvmlDeviceGetCount() == 2
    assert code(lambda: pynvml.nvmlDeviceGetHandleByIndex(1)) == lost
    assert code(lambda: pynvml.nvmlDeviceGetMemoryInfo(device)) == lost
    assert code(lambda: pynvml.nvmlDeviceGetUUID(device)) == lost
    assert pynvml.nvmlDeviceGetIndex(device) == 1
    assert code(lambda: _memory(0)) == 0
    assert holder.is_running()
    nvml.control("restore", device=1)
    assert _memory(1) == GIB


def test_indices_shift_but_identities_do_not(nvml: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    uuids = [pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index)) for index in (0, 1)]
    nvml.control("shift", by=1)
    after = [pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index)) for index in (0, 1)]
    assert after == uuids[::-1]
    assert pynvml.nvmlDeviceGetUUID(device) == uuids[0]
    assert pynvml.nvmlDeviceGetIndex(device) == 1


def test_a_reload_ends_clients_and_wants_a_new_init(nvml: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    uuid = pynvml.nvmlDeviceGetUUID(device)
    holder = nvml.start_workload("hold", "--size", "1GiB")
    nvml.control("reload", away_ms=300, shift=1)
    assert code(lambda: pynvml.nvmlDeviceGetName(device)) == pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    assert holder.wait(10) == 1
    assert until(
        lambda: code(lambda: pynvml.nvmlDeviceGetName(device)) == pynvml.NVML_ERROR_UNINITIALIZED
    )
    pynvml.nvmlShutdown()
    pynvml.nvmlInit()
    assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(1)) == uuid
    assert _memory(1) == 0


def test_a_reset_needs_the_device_empty(nvml: SimHost) -> None:
    holder = nvml.start_workload("hold", "--size", "1GiB")
    nvml.control("recovery", device=0, action=1)
    with pytest.raises(Rejected, match="in use"):
        nvml.control("reset", device=0)
    nvml.control("reset", device=0, force=True)
    assert holder.wait(10) == 1
    assert _memory(0) == 0
    assert nvml.control("info")["devices"][0]["recovery_action"] == 0


@pytest.mark.parametrize(
    ("command", "arguments", "why"),
    [
        ("hang", {"function": "nvmlNothing"}, "not a function"),
        ("hang", {}, "function: missing"),
        ("xid", {"device": 0}, "xid: missing"),
        ("xid", {"device": 2, "xid": 79}, "device"),
        ("xid", {"device": "GPU-x", "xid": 79}, "device"),
        ("xid", {"xid": 79}, "device"),
        ("ecc", {"device": 0, "count": -1}, "count"),
        ("ecc", {"device": 0, "count": "many"}, "count"),
        ("recovery", {"device": 0, "action": 8}, "action"),
        ("retire", {"device": 0}, "no page retirement"),
        ("limit_mode", {"mode": "strict"}, "mode: expected"),
        ("nvlink", {"device": 0, "link": 17, "up": 0}, "link"),
        ("unattributed", {"device": 0, "bytes": 2**50}, "more than"),
        ("dance", {}, "unknown"),
    ],
)
def test_a_wrong_request_is_refused_with_the_reason(
    host: SimHost, command: str, arguments: dict[str, object], why: str
) -> None:
    with pytest.raises(Rejected, match=why):
        host.control(command, **arguments)  # type: ignore[arg-type]
    assert host.control("ping")["pid"] == host.driver_pid
