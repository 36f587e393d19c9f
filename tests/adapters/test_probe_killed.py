"""A client of the driver that is killed while it waits for events leaves the driver as it was: a real one has been
seen to freeze a device after that (reliability research 1: dcgm-exporter)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.sim.host import SimHost, SimOptions
from tests.adapters.probe_seat import seated
from tests.adapters.trees import soon
from tests.contract.seat import Seat

WAITS = """
import pynvml as n
n.nvmlInit()
s = n.nvmlEventSetCreate()
for i in range(n.nvmlDeviceGetCount()):
    n.nvmlDeviceRegisterEvents(n.nvmlDeviceGetHandleByIndex(i), n.nvmlEventTypeXidCriticalError, s)
print("waits", flush=True)
n.nvmlEventSetWait_v2(s, 600_000)
"""


@pytest.fixture
def host() -> Iterator[SimHost]:
    with SimHost(SimOptions(devices=2, profile="H100-80")) as running:
        yield running


@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_while_it_waits_for_events(host: SimHost, times: int) -> None:
    assert host._driver is not None
    descriptors = Path("/proc", str(host._driver.pid), "fd")
    with seated(host) as seat:
        seat.until_seen(2)
    held = len(os.listdir(descriptors))
    for _ in range(times):
        with subprocess.Popen(
            [sys.executable, "-c", WAITS], env=host.env(), stdout=subprocess.PIPE, text=True
        ) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "waits\n"
            client.send_signal(signal.SIGKILL)
    with seated(host) as seat:
        view = seat.until_seen(2)
        assert all(device.used_bytes is not None for device in view.devices)
        assert soon(lambda: _is_heard(host, seat))
        assert {event.code for event in seat.events} == {79}
    assert soon(lambda: len(os.listdir(descriptors)) <= held)


def _is_heard(host: SimHost, seat: Seat) -> bool:
    """The child listens a moment after its first sample: an event before that is nobody's."""
    host.control("xid", device=1, xid=79)
    seat.look()
    return bool(seat.events)
