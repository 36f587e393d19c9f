"""The driver's event set through a real child: what is heard by itself, and what only when asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from gpuwarden.sim.host import SimHost, SimOptions
from tests.adapters.probe_seat import seated

CLOCK, MIG, STORM, FAILED = 0x10, 0x100, 0x200, 0x800


@pytest.fixture
def host() -> Iterator[SimHost]:
    with SimHost(SimOptions(devices=2)) as running:
        yield running


def test_memory_and_mig_events_are_heard_with_their_device(host: SimHost) -> None:
    with seated(host) as seat:
        device = next(d for d in seat.until_seen(2).devices if d.index == 1)
        seat.until_registered(2)
        host.control("ecc", device=1)
        host.control("ecc", device=1, uncorrected=True)
        for kind in (MIG, STORM, FAILED):
            host.control("event", device=1, type=kind)
        wanted = {"ecc-corrected", "ecc-uncorrected", "mig", "ecc-storm", "retirement-failed"}
        seat.until(lambda _: wanted <= {e.kind for e in seat.events}, "every kind")
        assert {e.device for e in seat.events} == {device.id}


def test_clock_events_are_not_asked_for(host: SimHost) -> None:
    """An H100 at work sends ten a second, and every one would wake the agent."""
    with seated(host) as seat:
        seat.until_seen(2)
        seat.until_registered(2)
        for _ in range(5):
            host.control("event", device=0, type=CLOCK)
        host.control("event", device=0, type=MIG)
        seat.until(lambda _: seat.events, "the MIG event after them")
        assert [e.kind for e in seat.events] == ["mig"]


def test_clock_events_that_are_wanted_come_one_a_second_and_device(host: SimHost) -> None:
    with seated(host, has_clock_events=True) as seat:
        seat.until_seen(2)
        seat.until_registered(2)
        for _ in range(50):
            host.control("event", device=0, type=CLOCK)
            host.control("event", device=1, type=CLOCK)
        host.control("event", device=0, type=MIG)
        seat.until(lambda _: any(e.kind == "mig" for e in seat.events), "the MIG event after them")
        clocks = [e for e in seat.events if e.kind == "clock"]
        assert {e.device for e in clocks} == {d.id for d in seat.look().devices}
        for device in {e.device for e in clocks}:
            times = [e.at for e in clocks if e.device == device]
            assert all(b - a >= 1.0 for a, b in itertools.pairwise(times))
