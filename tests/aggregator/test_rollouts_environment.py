"""Shares freeze by themselves when the fleet's traffic or verdicts change sharply, and no restart ends that early."""

from __future__ import annotations

import pytest

from gpuwarden.aggregator.rollouts import Rollouts
from gpuwarden.config_ramp import RampConfig
from gpuwarden.errors import Refused
from gpuwarden.model.ramp import Freeze, Way
from gpuwarden.policy.fleet.calm import ENVIRONMENT, Weather
from gpuwarden.sim.rollout.documents import MemoryDocuments
from gpuwarden.sim.rollout.good import PlayedClock, PlayedNumbers, aggregator

CFG = RampConfig(soak_s=600.0, calm_s=1800.0)


class Sky(PlayedNumbers):
    """What the fleet's services say of the weather."""

    rate: float | None = 100.0
    red: int = 0

    def weather(self, now_s: float) -> Weather:
        return Weather(now_s=now_s, rate=self.rate, red=self.red, services=10)


class Fleet:
    """One store, one clock, and one aggregator after the other."""

    def __init__(self) -> None:
        self.documents, self.sky, self.clock = MemoryDocuments(), Sky(), PlayedClock()
        self.now: Rollouts = self.begin()

    def begin(self) -> Rollouts:
        self.clock = PlayedClock(true_s=self.clock.true_s, born_s=self.clock.true_s)
        self.now = aggregator(self.documents, self.clock, self.sky, CFG)
        self.now.look(True)
        return self.now

    def run(self, minutes: int) -> Freeze:
        for _ in range(minutes):
            self.clock.true_s += 60.0
            self.now.look(True)
        return self.now.desk.freezes().get("", Freeze())

    def share(self) -> float:
        known = self.now.desk.now("risk")
        assert known is not None
        return known[0].of("new")


@pytest.fixture
def fleet() -> Fleet:
    made = Fleet()
    made.run(60)
    made.now.start("risk", "v2", "v1", Way.CANARY, None, "ops")
    made.run(2)
    return made


@pytest.mark.parametrize(("rate", "red"), [(400.0, 0), (20.0, 0), (100.0, 3)])
def test_it_freezes_every_share_says_why_and_goes_on_when_it_is_calm(
    fleet: Fleet, rate: float, red: int
) -> None:
    fleet.sky.rate, fleet.sky.red = rate, red
    found = fleet.run(1)
    assert (found.is_on, found.by) == (True, ENVIRONMENT)
    assert found.why
    before = fleet.share()
    fleet.run(120)
    assert fleet.share() == before
    with pytest.raises(Refused, match="frozen by environment"):
        fleet.now.start("other", "v2", "v1", Way.CANARY, None, "ops")
    fleet.sky.rate, fleet.sky.red = 100.0, 0
    assert fleet.run(29).is_on
    assert not fleet.run(3).is_on
    fleet.run(60)
    assert fleet.share() > before


def test_an_aggregator_that_dies_in_it_takes_nothing_with_it(fleet: Fleet) -> None:
    fleet.sky.rate = 400.0
    fleet.run(1)
    before = fleet.share()
    for _ in range(4):
        fleet.begin()
        assert fleet.run(40).is_on, "four times the usual is no new normal for who comes new"
    assert fleet.share() == before
    fleet.sky.rate = 100.0
    fleet.run(29)
    fleet.begin()
    assert fleet.run(29).is_on, "calm for how long before is not known"
    assert not fleet.run(3).is_on


def test_numbers_that_are_missing_change_nothing(fleet: Fleet) -> None:
    fleet.sky.rate = None
    assert not fleet.run(120).is_on
    fleet.sky.rate = 400.0
    fleet.run(1)
    fleet.sky.rate = None
    assert fleet.run(29).is_on
