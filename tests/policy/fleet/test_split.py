"""An experiment's split is an interlock: withheld stays withheld until somebody takes the word for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from gpuwarden.model.ramp import ArmCount, Experiment, Trust
from gpuwarden.policy.fleet.split import (
    UNITS_MIN,
    Counted,
    added,
    is_readable,
    judged,
    measured,
    released,
)

ALPHA = 0.001


def judge(counts: Sequence[int], expected: Sequence[float]) -> float:
    """Pearson's chi-square with one degree of freedom: p = erfc(sqrt(x/2))."""
    total, should = sum(counts), sum(expected)
    chi2 = sum(
        (n - total * e / should) ** 2 / (total * e / should)
        for n, e in zip(counts, expected, strict=True)
    )
    return math.erfc(math.sqrt(chi2 / 2))


def experiment(**shares: float) -> Experiment:
    arms = tuple(
        ArmCount(arm=name, share=share) for name, share in (shares or {"a": 0.5, "b": 0.5}).items()
    )
    return Experiment(id="e", service="risk", arms=arms)


def seen(
    now: Experiment, upto: float, in_force: dict[str, float] | None = None, **units: float
) -> Experiment:
    period = {arm: Counted(units=count) for arm, count in units.items()}
    return added(now, period, in_force or {"a": 0.5, "b": 0.5}, {}, upto)


def units(now: Experiment) -> dict[str, float]:
    return {arm.arm: arm.units for arm in now.arms}


def test_a_right_split_is_open() -> None:
    now = judged(seen(experiment(), 10.0, a=5000, b=5100), judge, ALPHA)
    assert (now.trust, now.is_frozen) == (Trust.OPEN, False)


def test_a_wrong_split_is_withheld_and_frozen_and_stays_so() -> None:
    now = judged(seen(experiment(), 10.0, a=5000, b=5600), judge, ALPHA)
    assert (now.trust, now.is_frozen, is_readable(now)) == (Trust.WITHHELD, True, False)
    better = judged(seen(now, 20.0, a=100_600, b=100_000), judge, ALPHA)
    assert better.p_value is not None
    assert better.p_value > ALPHA
    assert better.trust is Trust.WITHHELD, "a mismatch that shrank was one"


def test_a_period_counts_once_however_often_it_comes() -> None:
    once = seen(experiment(), 10.0, a=100, b=100)
    assert seen(once, 10.0, a=100, b=100) == once
    assert seen(once, 5.0, a=100, b=100) == once
    assert units(seen(once, 20.0, a=1, b=2)) == {"a": 101, "b": 102}


def test_an_uneven_split_is_judged_as_it_was_meant() -> None:
    force = {"a": 0.95, "b": 0.05}
    now = judged(seen(experiment(**force), 10.0, force, a=95_180, b=4_820), judge, ALPHA)
    assert now.trust is Trust.OPEN
    even = judged(seen(experiment(), 10.0, a=95_180, b=4_820), judge, ALPHA)
    assert even.trust is Trust.WITHHELD


def test_a_moving_split_is_judged_by_the_traffic_of_each_period() -> None:
    now = experiment()
    for upto, b, total in ((1.0, 0.1, 1000), (2.0, 0.3, 10_000), (3.0, 0.5, 100)):
        now = seen(now, upto, {"a": 1 - b, "b": b}, a=total * (1 - b), b=total * b)
    now = judged(now, judge, ALPHA)
    assert now.trust is Trust.OPEN
    assert now.p_value is not None
    assert now.p_value > 0.99


def test_an_arm_that_is_to_get_nothing_and_gets_some_is_a_leak() -> None:
    force = {"a": 0.5, "b": 0.5, "c": 0.0}
    none = judged(seen(experiment(**force), 10.0, force, a=5000, b=5100, c=0), judge, ALPHA)
    assert none.trust is Trust.OPEN
    some = judged(seen(experiment(**force), 10.0, force, a=50_210, b=49_890, c=37), judge, ALPHA)
    assert some.trust is Trust.WITHHELD
    assert "c gets traffic that it was not promised" in some.hints


def test_an_arm_nobody_knows_is_a_leak_too() -> None:
    now = judged(seen(experiment(), 10.0, a=5000, b=5000, zzz=3), judge, ALPHA)
    assert now.trust is Trust.WITHHELD
    assert "zzz gets traffic" in now.hints[0]


def test_few_units_say_nothing() -> None:
    few = seen(experiment(), 10.0, a=UNITS_MIN * 2 - 3, b=0)
    assert measured(few.arms, judge) == (None, False)
    assert judged(few, judge, ALPHA).trust is Trust.OPEN


def test_the_segment_that_is_wrong_is_named() -> None:
    segments = {
        ("old", "a"): 500.0,
        ("old", "b"): 900.0,
        ("new", "a"): 5000.0,
        ("new", "b"): 5010.0,
    }
    period = {"a": Counted(units=5500), "b": Counted(units=5910)}
    now = added(experiment(), period, {"a": 0.5, "b": 0.5}, segments, 10.0)
    now = judged(now, judge, ALPHA)
    assert now.trust is Trust.WITHHELD
    assert any("segment old" in hint for hint in now.hints)
    assert any("right in new" in hint for hint in now.hints)


def test_a_persons_word_releases_it_and_stands_with_it() -> None:
    bad = judged(seen(experiment(), 10.0, a=5000, b=5600), judge, ALPHA)
    free = released(bad, "ops (admin)", "a bot was filtered out")
    assert (free.trust, free.is_frozen, is_readable(free)) == (Trust.RELEASED, False, True)
    assert (free.released_by, free.released_why) == ("ops (admin)", "a bot was filtered out")
    more = judged(seen(free, 20.0, a=10, b=10), judge, ALPHA)
    assert more.trust is Trust.RELEASED, "what was known then is not held against it again"
    worse = judged(seen(free, 30.0, a=10_000, b=12_000), judge, ALPHA)
    assert worse.trust is Trust.WITHHELD, "what came after it is judged afresh"


def test_one_that_is_closed_counts_no_more() -> None:
    closed = replace(experiment(), trust=Trust.CLOSED)
    assert seen(closed, 10.0, a=1, b=1) == closed
