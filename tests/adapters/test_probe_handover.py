"""Whom the probe's children look after, from one to the other."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from gpuwarden.model.device import Sight
from gpuwarden.sim.host import SimHost, SimOptions
from tests.adapters.probe_seat import seated
from tests.contract.seat import device_at

MEMORY = "nvmlDeviceGetMemoryInfo_v2"


@pytest.fixture
def host() -> Iterator[SimHost]:
    with SimHost(SimOptions(devices=3, profile="H100-80")) as running:
        yield running


def test_the_common_child_takes_a_device_back_without_a_gap(host: SimHost) -> None:
    with seated(host) as seat:
        seat.until_seen(3)
        host.control("hang", function=MEMORY, device=1)
        seat.until(lambda v: device_at(v, 1).sight is Sight.BLIND)
        host.control("unhang", function=MEMORY, device=1)
        seat.until_seen(3)
        seat.until(lambda _: not seat.probe._crew._leavers, "the stuck child ends by itself")
        seat.ever_blind.clear()
        seat.gaps.clear()
        seat.probe._crew.merge_after_s = 0.5
        seat.until(lambda _: len(seat.probe.children()) == 1, "one child looks after all again")
        at = time.monotonic()
        seat.until(lambda v: all((d.at or 0) > at for d in v.devices), "it does")
        assert seat.ever_blind == set(), [gap.detail for gap in seat.gaps]
