"""No arm moves more than 20 points within a day, by whomever."""

from __future__ import annotations

import math
import random

import pytest

from gpuwarden.model.ramp import ArmShare, Shares
from gpuwarden.policy.fleet.shares import CAP, DAY_S, bounds, faults, too_far, toward

HOUR_S = 3600.0


def split(new: float, at_s: float = 0.0, **others: float) -> Shares:
    rest = others or {"base": 1.0 - new}
    arms = [ArmShare(arm="new", version="v2", share=new)]
    arms += [ArmShare(arm=name, version="v1", share=share) for name, share in rest.items()]
    return Shares(service="risk", arms=tuple(arms), steady_s=at_s)


def test_twenty_points_and_not_one_more() -> None:
    told = [split(0.05)]
    assert too_far(told, split(0.25).arms, HOUR_S) == []
    (new, base) = too_far(told, split(0.26).arms, HOUR_S)
    assert "new: 26.0% is more than 20 points" in new
    assert "0.0% to 25.0% may be told now" in new
    assert base.startswith("base")


def test_many_small_moves_are_one_great_one() -> None:
    told = [split(0.05 + 0.01 * n, at_s=n * 60.0) for n in range(21)]
    assert too_far(told, split(0.26).arms, HOUR_S) != []
    assert too_far(told, split(0.26).arms, DAY_S + 59.0) != [], (
        "what was in force then still counts"
    )
    assert too_far(told, split(0.26).arms, DAY_S + 60.0) == []


def test_there_and_back_is_within_what_it_was() -> None:
    told = [split(0.5), split(0.6, at_s=10.0)]
    low, high = bounds(told, ["new"], 20.0)["new"]
    assert low == pytest.approx(0.4)
    assert high == pytest.approx(0.7)


def test_what_was_in_force_when_the_day_began_counts() -> None:
    told = [split(0.1), split(0.3, at_s=10 * DAY_S)]
    assert too_far(told, split(0.31).arms, 10 * DAY_S + HOUR_S) != []
    assert too_far(told, split(0.5).arms, 11 * DAY_S) == []


def test_a_clock_that_is_behind_excuses_nothing() -> None:
    told = [split(0.05), split(0.25, at_s=9 * DAY_S)]
    assert too_far(told, split(0.45).arms, DAY_S / 2) != []


def test_an_arm_that_is_left_out_moves_too() -> None:
    told = [split(0.3, a=0.3, b=0.4)]
    wrong = too_far(told, split(0.5, a=0.5).arms, HOUR_S)
    assert any(line.startswith("b:") for line in wrong)


def test_toward_goes_as_far_as_every_arm_may_and_stays_a_split() -> None:
    told = [split(0.05)]
    there = toward(told, {"new": 1.0, "base": 0.0}, HOUR_S)
    assert there == {"new": pytest.approx(0.25), "base": pytest.approx(0.75)}
    assert toward(told, {"new": 0.1, "base": 0.9}, HOUR_S) == {"new": 0.1, "base": 0.9}
    spent = [split(0.05), split(0.25, at_s=1.0)]
    assert toward(spent, {"new": 1.0, "base": 0.0}, HOUR_S)["new"] == pytest.approx(0.25)


@pytest.mark.parametrize("seed", range(40))
def test_whoever_moves_them_no_day_sees_more_than_the_cap(seed: int) -> None:
    """Bandits, hands and rollouts in any order, with aggregators that start anew and clocks that lag."""
    chance = random.Random(seed)
    arms = ["a", "b", "c"][: chance.choice([2, 3])]
    told = [
        Shares(
            service="risk",
            arms=tuple(
                ArmShare(arm=arm, version=arm, share=1.0 if n == 0 else 0.0)
                for n, arm in enumerate(arms)
            ),
        )
    ]
    now_s = 0.0
    for _ in range(120):
        now_s += chance.choice([1.0, 600.0, HOUR_S, 7 * HOUR_S])
        seen_s = now_s - chance.choice([0.0, 0.0, 60.0])
        weights = [chance.random() ** 3 for _ in arms]
        wish = {arm: w / sum(weights) for arm, w in zip(arms, weights, strict=True)}
        to = toward(told, wish, seen_s)
        said = tuple(ArmShare(arm=arm, version=arm, share=to[arm]) for arm in arms)
        assert faults(said) == []
        if all(abs(each.share - told[-1].of(each.arm)) < 1e-12 for each in said):
            continue  # nothing is told anew
        assert too_far(told, said, seen_s) == []
        told.append(Shares(service="risk", arms=said, steady_s=now_s))
    for one in told:
        for other in told:
            if abs(one.steady_s - other.steady_s) < DAY_S:
                assert all(abs(one.of(arm) - other.of(arm)) <= CAP + 1e-6 for arm in arms)


@pytest.mark.parametrize(
    ("arms", "why"),
    [
        ((), "no arms"),
        ((("a", 0.5), ("a", 0.5)), "twice"),
        ((("a", 0.5), ("b", 0.4)), "sum to 0.900000"),
        ((("a", math.nan), ("b", 1.0)), "expected a share"),
        ((("a", -0.1), ("b", 1.1)), "expected a share"),
        ((("a", math.inf),), "expected a share"),
        ((("", 1.0),), "without a name"),
    ],
)
def test_what_is_no_split(arms: tuple[tuple[str, float], ...], why: str) -> None:
    made = [ArmShare(arm=name, version="v", share=share) for name, share in arms]
    assert why in " ".join(faults(made))
