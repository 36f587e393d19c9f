"""Every function that the child calls hangs for ever: the loop goes on, blame is right, few are left."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import pytest

from gpuwarden.adapters.probe.crew import LEFT_MAX
from gpuwarden.adapters.probe.symbols import SYMBOLS
from gpuwarden.model.device import Sight
from gpuwarden.model.snapshot import GapKind
from gpuwarden.sim.host import SimHost, SimOptions
from tests.adapters.probe_seat import seated
from tests.contract.seat import Seat

ON_NO_DEVICE = (
    "nvmlInitWithFlags",
    "nvmlDeviceGetCount_v2",
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetNVMLVersion",
    "nvmlSystemGetCudaDriverVersion_v2",
    "nvmlDeviceGetHandleByIndex_v2",  # on no device of the simulated driver: it hangs for all of them
)
EVENTS = (
    "nvmlEventSetCreate",
    "nvmlDeviceRegisterEvents",
    "nvmlDeviceGetSupportedEventTypes",
    "nvmlEventSetWait_v2",
    "nvmlEventSetFree",
)
NOT_CALLED = frozenset(
    {"", "nvmlInit_v2", "nvmlShutdown", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTemperature"}
    | {"nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetMaxMigDeviceCount"}
    | {"nvmlDeviceGetMigDeviceHandleByIndex"}
    | {"nvmlDeviceGetGpuInstanceId", "nvmlGpmMigSampleGet"}
    | {"nvmlGpmSampleAlloc", "nvmlGpmMetricsGet"}
    | {"nvmlDeviceSetMemoryLimits_v1", "nvmlDeviceGetMemoryLimits_v1"}
    | {name for name in SYMBOLS if name.endswith("RunningProcesses_v2")}
)
"""Older names and fallbacks, slices, what asks no device, requests, and the end: they have tests of
their own."""
ON_A_DEVICE = sorted(set(SYMBOLS) - NOT_CALLED - set(ON_NO_DEVICE) - set(EVENTS))
EACH_KIND = frozenset(
    {
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
        "nvmlDeviceGetSerial",
        "nvmlDeviceGetTotalEccErrors",
        "nvmlDeviceGetEccMode",
        "nvmlDeviceGetProcessUtilization",
        "nvmlInitWithFlags",
        "nvmlDeviceGetHandleByIndex_v2",
        "nvmlEventSetWait_v2",
        "nvmlDeviceRegisterEvents",
    }
)
"""One of each place a call can hang in; the others are for the slow tier."""


def tiers(symbols: Iterable[str]) -> list[object]:
    return [
        pytest.param(symbol, marks=() if symbol in EACH_KIND else pytest.mark.slow)
        for symbol in symbols
    ]


@pytest.fixture
def host() -> Iterator[SimHost]:
    with SimHost(SimOptions(devices=3, profile="H100-80")) as running:
        yield running


def _drained(seat: Seat) -> float:
    began = time.monotonic()
    seat.look()
    return time.monotonic() - began


@pytest.mark.parametrize("symbol", tiers(ON_A_DEVICE))
def test_a_call_that_hangs_from_the_start_hides_its_device_alone(
    host: SimHost, symbol: str
) -> None:
    host.control("hang", function=symbol, device=1)
    with seated(host) as seat:
        view = seat.until(
            lambda v: (
                any(g.kind is GapKind.HUNG and symbol in g.detail for g in v.gaps)
                and {d.index for d in v.devices if d.sight is Sight.OK} == {0, 2}
            ),
            f"blame for {symbol}, and the two others in sight",
        )
        assert not any(d.sight is Sight.OK and d.index == 1 for d in view.devices)
        at = time.monotonic()
        seat.until(
            lambda v: all((d.at or 0) > at for d in v.devices if d.index != 1), "the others go on"
        )
        assert seat.probe.counters()["probe_left_behind", ""] == 1
        host.control("clear_faults")
        seat.until_seen(3)


@pytest.mark.parametrize("symbol", tiers(ON_NO_DEVICE))
def test_a_call_on_no_device_that_hangs_leaves_two_and_a_loop_that_runs(
    host: SimHost, symbol: str
) -> None:
    host.control("hang", function=symbol)
    with seated(host) as seat:
        view = seat.until(
            lambda v: any(g.kind is GapKind.HUNG and g.subject == "driver" for g in v.gaps),
            "NVML is off",
        )
        assert not view.devices
        assert seat.probe.counters()["probe_left_behind", ""] == LEFT_MAX
        assert max(_drained(seat) for _ in range(20)) < 2.0, "drain waited for the driver"
        host.control("clear_faults")
        seat.until_seen(3)


@pytest.mark.parametrize("symbol", tiers(EVENTS))
def test_events_that_hang_take_no_device_with_them(host: SimHost, symbol: str) -> None:
    host.control("hang", function=symbol)
    with seated(host) as seat:
        seat.until_seen(3)
        seat.for_a_while(1.5)
        assert not seat.ever_blind
        assert seat.probe.counters()["probe_restarts", ""] == 0
