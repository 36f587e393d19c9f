"""Rollouts at the aggregator, on documents in memory and a clock that is told."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from gpuwarden.aggregator.numbers import Found, Period
from gpuwarden.aggregator.rollouts import Rollouts
from gpuwarden.config_ramp import RampConfig
from gpuwarden.errors import Refused
from gpuwarden.model.ramp import ArmShare, Freeze, Ramp, Shares, Stage, Trust, Way
from gpuwarden.policy.fleet.ramp import Word
from gpuwarden.policy.fleet.split import Counted
from gpuwarden.sim.rollout.documents import MemoryDocuments
from gpuwarden.sim.rollout.good import PlayedClock, PlayedNumbers, aggregator, most_moved, play

CFG = RampConfig(soak_s=600.0, may_undo=True, lateness_s=60.0)


class Bench:
    """One store, one clock, and an aggregator that can be killed."""

    def __init__(self, cfg: RampConfig = CFG) -> None:
        self.cfg = cfg
        self.documents, self.numbers, self.clock = MemoryDocuments(), PlayedNumbers(), PlayedClock()
        self.now = aggregator(self.documents, self.clock, self.numbers, cfg)
        self.now.look(True)

    def kill(self) -> None:
        self.now = aggregator(self.documents, self.clock, self.numbers, self.cfg)

    def run(self, minutes: int) -> None:
        for _ in range(minutes):
            self.clock.true_s += 60.0
            self.now.look(True)

    def ramp(self) -> Ramp:
        return self.now.ramps("risk")[0]

    def at(self) -> Stage:
        return self.ramp().stage

    def told(self) -> Shares:
        known = self.now.desk.now("risk")
        assert known is not None
        return known[0]

    def start(self, way: Way = Way.CANARY) -> None:
        self.now.start("risk", "v2", "v1", way, None, "ops")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def arms(new: float) -> tuple[ArmShare, ...]:
    return (
        ArmShare(arm="base", version="v1", share=1.0 - new),
        ArmShare(arm="new", version="v2", share=new),
    )


@pytest.mark.parametrize("seed", range(2))
def test_a_good_version_reaches_all_within_the_cap_whatever_befalls_the_aggregators(
    seed: int,
) -> None:
    said = play(seed)
    assert said["missed"] == []
    assert said["reached_100"]
    assert said["most_points_a_day"] <= 20.0
    assert said["aggregators_killed"] > 10
    assert said["clocks_set"] > 10
    assert said["hands_refused"] > 10
    assert 4.0 <= said["days"] <= 8.0


def test_the_measure_of_a_day_sees_a_jump() -> None:
    told = [
        (0.0, Shares(service="r", arms=arms(0.0))),
        (90_000.0, Shares(service="r", arms=arms(0.3))),
    ]
    assert most_moved(told) == pytest.approx(0.3)


def test_a_breach_freezes_the_share_and_begins_one_rollback_however_often_it_is_killed(
    bench: Bench,
) -> None:
    bench.start()
    bench.run(5)
    assert bench.told().of("new") == pytest.approx(0.05)
    bench.numbers.word_now, bench.numbers.why = Word.RED, "latency p99 900 ms > 500 ms"
    for _ in range(4):
        bench.kill()
        bench.run(1)
    assert bench.at() is Stage.UNDOING
    assert bench.told().of("new") == pytest.approx(0.05)
    campaign = bench.now.campaigns.of("risk")
    assert campaign is not None
    assert (campaign.id, campaign.version, campaign.how) == (bench.ramp().campaign, "v1", "auto")
    assert len(bench.documents.history("rollback", "risk")) == 1
    assert "900 ms" in campaign.reason


def test_what_the_gpus_did_is_no_rollback(bench: Bench) -> None:
    bench.start()
    bench.run(5)
    bench.numbers.word_now = Word.RED
    bench.numbers.found = Found(is_gpu=True, summary="node a: Xid 79 on GPU 0")
    bench.run(3)
    assert bench.at() is Stage.EXCUSED
    assert bench.ramp().cause == "node a: Xid 79 on GPU 0"
    assert bench.now.campaigns.of("risk") is None


def test_a_frozen_day_moves_nothing_and_pause_is_another_thing(bench: Bench) -> None:
    bench.start()
    bench.run(2)
    bench.now.freeze("", True, 0.0, "ops", "singles' day")
    with pytest.raises(Refused, match="frozen by ops"):
        bench.now.set_shares("risk", arms(0.1), "ops", "x")
    with pytest.raises(Refused, match="frozen by ops"):
        bench.now.start("other", "v2", "v1", Way.CANARY, None, "ops")
    bench.run(200)
    assert bench.told().of("new") == pytest.approx(0.05)
    bench.now.freeze("", False, 0.0, "ops", "over")
    bench.now.steer("risk", "pause", "ops", "")
    bench.run(200)
    assert bench.told().of("new") == pytest.approx(0.05)
    bench.now.set_shares("risk", arms(0.1), "ops", "a hand may, while it is paused")
    bench.now.steer("risk", "resume", "ops", "")
    bench.run(15)
    assert bench.told().of("new") > 0.1


def test_a_freeze_for_a_time_ends_by_itself(bench: Bench) -> None:
    bench.now.freeze("risk", True, 600.0, "ops", "audit")
    bench.run(9)
    assert bench.now.desk.freezes()["risk"].is_on
    bench.run(2)
    assert bench.now.desk.freezes()["risk"] == Freeze(
        service="risk",
        is_on=False,
        by="ops",
        why="its time is over",
        since_s=bench.now.desk.freezes()["risk"].since_s,
        until_s=600.0,
    )


def test_a_hand_is_refused_beyond_the_cap_and_says_what_may_be(bench: Bench) -> None:
    bench.start()
    with pytest.raises(Refused, match=r"new: 50.0% is more than 20 points .* 0.0% to 20.0%"):
        bench.now.set_shares("risk", arms(0.5), "ops", "now")
    bench.now.set_shares("risk", arms(0.2), "ops", "as far as it goes")
    bench.kill()
    with pytest.raises(Refused):
        bench.now.set_shares("risk", arms(0.21), "ops", "and on")


@pytest.mark.parametrize("days", [-30, 30])
def test_a_wall_clock_that_is_set_gives_nobody_a_day(bench: Bench, days: int) -> None:
    bench.start()
    bench.now.set_shares("risk", arms(0.2), "ops", "x")
    bench.clock.wall_off_s = days * 86_400.0
    bench.kill()
    bench.run(1)
    with pytest.raises(Refused, match="more than 20 points"):
        bench.now.set_shares("risk", arms(0.4), "ops", "tomorrow has come")


def test_of_two_that_write_at_once_one_is_refused_and_the_cap_holds(bench: Bench) -> None:
    bench.start()
    other = aggregator(bench.documents, bench.clock, bench.numbers, CFG)
    bench.run(1)
    moved = [
        self_or_not(partial(one.set_shares, "risk", arms(0.2), "x", "y"))
        for one in (bench.now, other)
    ]
    assert any(moved)
    assert bench.told().of("new") == pytest.approx(0.2)
    with pytest.raises(Refused):
        other.set_shares("risk", arms(0.4), "x", "y")


def self_or_not(do: Callable[[], object]) -> bool:
    try:
        do()
    except Refused:
        return False
    return True


def periods(bench: Bench, count: int, base: float, new: float) -> None:
    """So many minutes with these units in each arm."""
    begin = bench.clock.wall()
    for minute in range(count):
        at = begin + 60.0 * minute
        seen = {
            "base": Counted(units=base, timed=base, total_s=base * 0.1, square_s=base * 0.0101),
            "new": Counted(units=new, timed=new, total_s=new * 0.1, square_s=new * 0.0101),
        }
        bench.numbers.fresh.append(
            Period(begin_wall=at, end_wall=at + 60.0, arms=seen, segments={})
        )


def units(now: Rollouts) -> dict[str, float]:
    (found,) = now.experiments.every("risk")
    return {arm.arm: arm.units for arm in found.arms}


def test_each_window_counts_once_through_kills_and_repeats(bench: Bench) -> None:
    bench.now.experiment("risk", "e1", arms(0.5), "ops")
    periods(bench, 30, 500.0, 500.0)
    for _ in range(40):
        bench.kill()
        bench.run(1)
    # The first minute is nobody's: routers had just been told.
    assert units(bench.now) == {"base": 14_500.0, "new": 14_500.0}


def test_a_split_that_is_wrong_is_withheld_freezes_the_shares_and_needs_a_word() -> None:
    bench = Bench()
    bench.now.experiment("risk", "e1", arms(0.5), "ops")
    periods(bench, 30, 500.0, 600.0)
    bench.run(40)
    (found,) = bench.now.experiments.every("risk")
    assert (found.trust, found.is_frozen) == (Trust.WITHHELD, True)
    assert units(bench.now) == {"base": 0.0, "new": 0.0}, "nothing can be read off it"
    with pytest.raises(Refused, match="reason"):
        bench.now.experiments.release("risk", "admin", "")
    freed = bench.now.experiments.release("risk", "admin", "a bot was filtered")
    assert freed.trust is Trust.RELEASED
    assert units(bench.now)["new"] == 17_400.0


def test_a_gatekeeper_goes_by_test_and_bandit_to_all() -> None:
    bench = Bench()
    bench.start(Way.GATEKEEPER)
    stages: list[Stage] = [bench.at()]
    for _ in range(900):
        share = bench.told().of("new")
        periods(bench, 1, 3000.0 * (1 - share), 3000.0 * share)
        bench.run(1)
        bench.numbers.fresh = bench.numbers.fresh[-20:]
        if stages[-1] is not bench.at():
            stages.append(bench.at())
    assert stages == [Stage.CANARY, Stage.GATE, Stage.BANDIT]
    assert bench.told().of("new") >= 0.1, "no arm of a bandit gets less than the floor"
    (found,) = bench.now.experiments.every("risk")
    assert found.trust is Trust.OPEN, "a split that moves is judged by what was told when"


def test_one_at_a_time(bench: Bench) -> None:
    bench.start()
    with pytest.raises(Refused, match="v2 of risk is on its way"):
        bench.now.start("risk", "v3", "v2", Way.CANARY, None, "ops")
    with pytest.raises(Refused, match="expected pause, resume or abort"):
        bench.now.steer("risk", "explode", "ops", "")
    with pytest.raises(Refused, match="no rollout of other"):
        bench.now.steer("other", "pause", "ops", "")


def test_without_numbers_nothing_moves(bench: Bench) -> None:
    bench.numbers.word_now, bench.numbers.why = Word.UNKNOWN, "latency_s: no-data"
    bench.start()
    bench.run(500)
    assert bench.told().of("new") == 0.0
    assert "latency_s: no-data" in bench.ramp().why
