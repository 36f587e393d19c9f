"""Shares freeze by themselves when the environment changes sharply, and thaw when it has been calm for long."""

from __future__ import annotations

from typing import Any

from gpuwarden.config_ramp import RampConfig
from gpuwarden.model.ramp import Freeze
from gpuwarden.policy.fleet.calm import ENVIRONMENT, Air, Weather, frozen, holds, recalled, told

CFG = RampConfig(calm_s=600.0, sharp_ratio=3.0, sharp_red=0.2, sharp_min=3)


class Day:
    """Looks once a minute."""

    def __init__(self, freeze: Freeze | None = None) -> None:
        self.air, self.freeze, self.now_s = Air(), freeze or Freeze(), 0.0

    def see(self, minutes: int = 1, rate: float | None = 100.0, **rest: Any) -> Freeze:
        for _ in range(minutes):
            self.now_s += 60.0
            now = Weather(now_s=self.now_s, rate=rate, **{"services": 10, **rest})
            self.air, why = told(CFG, self.air, now)
            self.freeze = frozen(CFG, self.freeze, self.air, why, self.now_s)
        return self.freeze


def test_an_everyday_rise_freezes_nothing() -> None:
    day = Day()
    day.see(60)
    for minute in range(360):
        assert not day.see(rate=100.0 * (1 + minute / 60)).is_on


def test_traffic_three_times_as_much_or_as_little() -> None:
    for rate in (301.0, 33.0):
        day = Day()
        day.see(60)
        found = day.see(rate=rate)
        assert (found.is_on, found.by) == (True, ENVIRONMENT)


def test_it_thaws_once_it_has_been_calm_and_a_sale_is_no_new_normal() -> None:
    day = Day()
    day.see(60)
    assert day.see(360, rate=400.0).is_on, "six hours of it do not make it usual"
    assert day.see(9).is_on
    assert not day.see(2).is_on


def test_many_services_that_turn_red_at_once() -> None:
    day = Day()
    assert not day.see(red=2, services=10).is_on, "two of ten are two services' trouble"
    assert day.see(red=3, services=10).is_on
    assert not Day().see(red=3, services=100).is_on


def test_many_that_drift_at_once() -> None:
    assert Day().see(drifting=4, services=10).is_on


def test_no_numbers_are_no_change() -> None:
    day = Day()
    day.see(60)
    assert not day.see(60, rate=None).is_on


def test_a_persons_freeze_is_theirs_to_end_or_its_times() -> None:
    theirs = Freeze(is_on=True, by="ops", why="singles' day", until_s=1800.0)
    day = Day(theirs)
    assert day.see(29) == theirs
    assert not day.see(1).is_on
    open_end = Day(Freeze(is_on=True, by="ops", why="peak"))
    assert open_end.see(10_000).is_on


def test_another_aggregator_ends_it_no_sooner_and_knows_what_was_usual() -> None:
    day = Day()
    day.see(60)
    assert day.see(rate=400.0).is_on
    heir = Day(day.freeze)
    heir.now_s = day.now_s
    heir.air = recalled(heir.air, heir.freeze, heir.now_s)
    assert heir.see(60, rate=400.0).is_on, "the sale goes on"
    assert heir.see(9).is_on
    assert not heir.see(2).is_on


def test_what_is_recalled_is_only_the_environments_own_and_only_at_first() -> None:
    theirs = Freeze(is_on=True, by="ops", usual=7.0)
    assert recalled(Air(), theirs, 1.0) == Air()
    own = Freeze(is_on=True, by=ENVIRONMENT, usual=7.0)
    assert recalled(Air(), own, 5.0) == Air(usual=7.0, told_s=5.0, sharp_s=5.0)
    assert recalled(Air(usual=3.0), own, 5.0) == Air(usual=3.0)


def test_a_freeze_of_all_and_of_one() -> None:
    everywhere = {"": Freeze(is_on=True, by="ops", why="peak")}
    assert holds(everywhere, "risk") == "frozen by ops: peak"
    one = {"risk": Freeze(service="risk", is_on=True, by="ops", why="audit")}
    assert holds(one, "risk")
    assert not holds(one, "other")
    assert not holds({"": Freeze()}, "risk")
