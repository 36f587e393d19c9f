"""NVML events and the simulated kernel log say the same things at the same time."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from gpuwarden.sim.host import SimHost
from tests.sim.sight import code, until

ANY = 0xFFFFFFFF


class Log:
    """A reader of kmsg.sock."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(10)
        self._socket.connect(str(folder / "kmsg.sock"))

    def say(self, text: str) -> None:
        self._socket.send(text.encode())

    def read(self) -> str:
        self.say("credit 1")
        return self._socket.recv(8192).decode()

    def waiting(self) -> list[str]:
        """What is there now."""
        found = []
        self._socket.setblocking(False)
        try:
            while True:
                found.append(self._socket.recv(8192).decode())
        except BlockingIOError:
            return found
        finally:
            self._socket.settimeout(10)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def log(host: SimHost) -> Iterator[Log]:
    reader = Log(host.folder)
    yield reader
    reader.close()


def _registered(mask: int, *indices: int) -> object:
    events = pynvml.nvmlEventSetCreate()
    for index in indices:
        pynvml.nvmlDeviceRegisterEvents(pynvml.nvmlDeviceGetHandleByIndex(index), mask, events)
    return events


def test_an_xid_is_an_event_and_a_kernel_line(nvml: SimHost, log: Log) -> None:
    events = _registered(pynvml.nvmlEventTypeXidCriticalError, 0, 1)
    nvml.control("xid", device=1, xid=31, pid=os.getpid())
    event = pynvml.nvmlEventSetWait(events, 5000)
    assert (event.eventType, event.eventData) == (8, 31)
    assert pynvml.nvmlDeviceGetIndex(event.device) == 1
    assert (event.gpuInstanceId, event.computeInstanceId) == (ANY, ANY)
    bus = nvml.control("info")["devices"][1]["pci"].removesuffix(".0")
    line = log.read()
    assert re.fullmatch(
        rf"4,\d+,\d+,-;NVRM: Xid \(PCI:{bus}\): 31, pid={os.getpid()}, name=\w+.*MMU Fault.*\n",
        line,
    )


def test_only_what_was_registered_arrives(nvml: SimHost) -> None:
    events = _registered(pynvml.nvmlEventTypeXidCriticalError, 0)
    nvml.control("xid", device=1, xid=79)
    nvml.control("ecc", device=0)
    assert code(lambda: pynvml.nvmlEventSetWait(events, 200)) == pynvml.NVML_ERROR_TIMEOUT


def test_an_event_wakes_a_waiting_thread(nvml: SimHost) -> None:
    events = _registered(pynvml.nvmlEventTypeXidCriticalError, 0)
    found: list[int] = []
    waiter = threading.Thread(
        target=lambda: found.append(pynvml.nvmlEventSetWait(events, 20000).eventData), daemon=True
    )
    waiter.start()
    nvml.control("xid", device=0, xid=48)
    waiter.join(15)
    assert found == [48]


def test_unsupported_types_are_refused_at_registration(nvml: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    supported = pynvml.nvmlDeviceGetSupportedEventTypes(device)
    assert supported & 8
    events = pynvml.nvmlEventSetCreate()
    refused = code(lambda: pynvml.nvmlDeviceRegisterEvents(device, supported | 1 << 40, events))
    assert refused == pynvml.NVML_ERROR_NOT_SUPPORTED
    pynvml.nvmlDeviceRegisterEvents(device, supported, events)
    pynvml.nvmlEventSetFree(events)
    assert code(lambda: pynvml.nvmlEventSetWait(events, 10)) == pynvml.NVML_ERROR_INVALID_ARGUMENT


def test_a_recovery_action_is_field_event_and_xid_154(nvml: SimHost, log: Log) -> None:
    events = _registered(0x8000 | 8, 0)
    nvml.control("recovery", device=0, action=2)
    seen = {(event.eventType, event.eventData) for event in _take(events, 2)}
    assert seen == {(8, 154), (0x8000, 2)}
    assert "154, GPU recovery action changed from 0x0 (None) to 0x2" in log.read()
    (value,) = pynvml.nvmlDeviceGetFieldValues(pynvml.nvmlDeviceGetHandleByIndex(0), [230])
    assert (value.nvmlReturn, value.value.uiVal) == (0, 2)


def _take(events: object, count: int) -> list[pynvml.c_nvmlEventData_t]:
    return [pynvml.nvmlEventSetWait(events, 5000) for _ in range(count)]


def test_a_client_that_does_not_read_loses_events_not_the_driver(nvml: SimHost) -> None:
    events = _registered(8, 0)
    for _ in range(2000):
        nvml.control("xid", device=0, xid=31)
    assert nvml.control("info")["events_dropped"] > 0
    assert pynvml.nvmlEventSetWait(events, 1000).eventData == 31


# --- the kernel log ---


def test_records_have_the_form_of_dev_kmsg(host: SimHost, log: Log) -> None:
    log.say("seek first")
    first, second = log.read(), log.read()
    assert re.fullmatch(r"6,0,\d+,-;nvidia-nvlink: .*\n", first)
    assert re.fullmatch(r"5,1,\d+,-;NVRM: loading NVIDIA .*\n", second)
    host.control("kernel_line", text='odd \t "text"\\ \u00e9', level=3)
    assert re.fullmatch(r'3,2,\d+,-;odd \\x09 "text"\\x5c \\xc3\\xa9\n', log.read())


def test_facility_0_is_the_kernels_and_others_show(host: SimHost, log: Log) -> None:
    host.control("kernel_line", text="NVRM: Xid (PCI:0000:07:00): 79, forged", facility=1)
    assert log.read().startswith("12,")  # 1 * 8 + 4


def test_a_new_reader_stands_at_the_end(host: SimHost, log: Log) -> None:
    log.say("credit 10")
    host.control("ping")
    assert log.waiting() == []
    host.control("kernel_line", text="now")
    assert until(lambda: bool(log.waiting()))


def test_reading_goes_on_from_a_sequence(host: SimHost, log: Log) -> None:
    host.control("kernel_line", text="line", count=20)
    log.say("seek 7")
    assert log.read().split(",")[1] == "7"
    log.say("seek 999999")
    log.say("credit 1")
    host.control("kernel_line", text="newest")
    assert until(lambda: any("newest" in line for line in log.waiting()))


def test_an_overrun_is_told_once_and_reading_goes_on(host: SimHost, log: Log) -> None:
    host.control("kernel_line", text="x" * 200, count=3000)
    log.say("seek 0")
    assert log.read() == "!EPIPE"
    first = int(log.read().split(",")[1])
    assert first > 1000
    assert int(log.read().split(",")[1]) == first + 1
    assert host.control("info")["kmsg_overruns"] == 1
    told = host.control("kernel_log")
    assert told["overruns"] == [[0, first]]
    assert (told["first"], told["next"]) == (first, 3002)


def test_at_most_the_credit_is_sent(host: SimHost, log: Log) -> None:
    log.say("credit 3")
    host.control("kernel_line", text="many", count=50)
    arrived: list[str] = []

    def three() -> bool:
        arrived.extend(log.waiting())
        return len(arrived) >= 3

    assert until(three)
    host.control("ping")
    assert len(arrived + log.waiting()) == 3


@pytest.mark.parametrize("text", ["", "seek", "credit -1", "credit x", "\0", "x" * 100])
def test_nonsense_ends_the_connection(host: SimHost, text: str) -> None:
    reader = Log(host.folder)
    reader.say(text)
    assert reader._socket.recv(100) == b""
    reader.close()
    assert host.control("ping")


def test_only_the_owner_may_read_and_control(host: SimHost) -> None:
    for name in ("kmsg.sock", "control.sock"):
        assert (host.folder / name).stat().st_mode & 0o777 == 0o600
        assert (host.folder / name).stat().st_uid == os.geteuid()
