"""The gatekeeper's whole way, test, bandit, all, over days of simulated time, on a store on disk that is closed and
opened again by one aggregator after the other: never more than 20 points a day, each window counted once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.documents import StoreDocuments
from gpuwarden.aggregator.numbers import Period
from gpuwarden.aggregator.rollouts import Rollouts
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.clock import SystemClock
from gpuwarden.config_ramp import RampConfig
from gpuwarden.errors import Refused
from gpuwarden.model.ramp import ArmShare, Shares, Stage, Trust, Way
from gpuwarden.policy.fleet.shares import CAP, DAY_S
from gpuwarden.policy.fleet.split import Counted
from gpuwarden.sim.rollout.good import PlayedClock, PlayedNumbers, aggregator, most_moved

STEPS_S = (840.0, 60.0)
"""Two looks, so near to each other that what lies between counts as known to be well, and a long pause."""
CFG = RampConfig(soak_s=60.0)
LIFE_S = 5 * 3600.0
"""Of one aggregator; the next begins on another host, whose monotonic clock is another."""
DAYS_MAX = 10
UNITS_A_SECOND = 10.0
ERRORS = {"base": 0.03, "new": 0.01}


@contextmanager
def life(path: Path, clock: PlayedClock, numbers: PlayedNumbers) -> Iterator[Rollouts]:
    """One aggregator on the store as the last one left it."""
    store = SqliteStore(path)
    committer = Committer(
        store,
        SystemClock(),
        linger_s=0.0,
        queue_max=100,
        on_committed=lambda *_: None,
        on_failed=lambda *_: None,
    )
    committer.start()
    try:
        yield aggregator(StoreDocuments(store, committer), clock, numbers, CFG)  # type: ignore[arg-type]
    finally:
        committer.stop(5.0)
        store.close()


def seen(now: Rollouts, clock: PlayedClock, step_s: float) -> Period:
    """What the router sent each arm in the step that is over, by the shares that were in force."""
    known = now.desk.now("risk")
    assert known is not None
    arms = {}
    for arm in known[0].arms:
        units = round(UNITS_A_SECOND * step_s * arm.share)
        errors = units * ERRORS[arm.arm]
        arms[arm.arm] = Counted(
            units=units, errors=errors, timed=units, total_s=units * 0.1, square_s=units * 0.0101
        )
    end = clock.wall()
    return Period(begin_wall=end - step_s, end_wall=end, arms=arms, segments={})


def hurried(now: Rollouts) -> bool:
    """Whether a hand's wish for all traffic at once was refused."""
    wish = (
        ArmShare(arm="base", version="v1", share=0.0),
        ArmShare(arm="new", version="v2", share=1.0),
    )
    try:
        now.set_shares("risk", wish, "ops", "faster")
    except Refused:
        return True
    return False


@pytest.mark.timeout(240)
def test_test_bandit_all_across_lives_and_never_over_the_cap(tmp_path: Path) -> None:
    clock, numbers = PlayedClock(), PlayedNumbers()
    told: list[tuple[float, Shares]] = []
    stages: list[Stage] = []
    hands = lives = 0
    bandit_least = 1.0
    while not (stages and stages[-1] is Stage.DONE) and clock.true_s < DAYS_MAX * DAY_S:
        clock = PlayedClock(true_s=clock.true_s, born_s=clock.true_s - 100.0)
        lives += 1
        with life(tmp_path / "fleet.sqlite", clock, numbers) as now:
            now.look(True)
            if lives == 1:
                now.start("risk", "v2", "v1", Way.GATEKEEPER, None, "ops")
            else:
                hands += hurried(now)
            until = clock.true_s + LIFE_S
            for step_s in itertools.cycle(STEPS_S):
                clock.true_s += step_s
                numbers.fresh = [*numbers.fresh[-8:], seen(now, clock, step_s)]
                now.look(True)
                shares = now.desk.now("risk")
                assert shares is not None
                if not told or told[-1][1] != shares[0]:
                    told.append((clock.true_s, shares[0]))
                (ramp,) = now.ramps("risk")
                if not stages or stages[-1] is not ramp.stage:
                    stages.append(ramp.stage)
                if ramp.stage is Stage.BANDIT:
                    bandit_least = min(bandit_least, shares[0].of("new"), shares[0].of("base"))
                if ramp.stage is Stage.DONE or clock.true_s >= until:
                    break
            (experiment,) = now.experiments.every("risk")
            assert experiment.trust in (Trust.OPEN, Trust.CLOSED), "a split that moves is no fault"
    wanted = [Stage.CANARY, Stage.GATE, Stage.BANDIT, Stage.CLIMB, Stage.DONE]
    assert stages == wanted, (stages, clock.true_s / DAY_S)
    assert told[-1][1].of("new") == pytest.approx(1.0)
    assert most_moved(told) <= CAP + 1e-6
    assert bandit_least >= 0.1 - 1e-6, "no arm of a bandit gets less than the floor"
    assert lives > 10
    assert hands == lives - 1, "by nobody's hand, in no life"
    by_arm = {arm.arm: arm for arm in experiment.arms}
    sent = sum(arm.units for arm in by_arm.values())
    assert sent <= clock.true_s * UNITS_A_SECOND + 1, "no window counts twice"
    assert sent >= 0.4 * clock.true_s * UNITS_A_SECOND, "and few are lost"
