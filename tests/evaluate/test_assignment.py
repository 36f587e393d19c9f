"""Units keep their arm when shares move, and shares are kept by those who move them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.evaluate.experiment import assignment, bandit_shares, share_limit
from gpuwarden.evaluate.experiment.bandit_shares import ArmCounts, BanditSettings
from gpuwarden.evaluate.experiment.share_limit import DAY_S, InForce

UNITS = [f"user-{i}" for i in range(20_000)]


def arms(shares: dict[str, float], experiment: str = "e") -> list[str]:
    return [assignment.arm_of(experiment, unit, shares) for unit in UNITS]


@pytest.mark.parametrize("shares", [{"a": 0.95, "b": 0.05}, {"a": 1, "b": 2, "c": 7}])
def test_shares_are_kept(shares: dict[str, float]) -> None:
    got = arms(shares)
    for arm, share in shares.items():
        expected = share / sum(shares.values())
        assert got.count(arm) / len(UNITS) == pytest.approx(expected, abs=0.012)


def test_a_growing_arm_takes_units_and_loses_none() -> None:
    before = arms({"a": 0.95, "b": 0.05})
    after = arms({"a": 0.75, "b": 0.25})
    assert all(new == "b" for old, new in zip(before, after, strict=True) if old == "b")
    moved = sum(old != new for old, new in zip(before, after, strict=True))
    assert moved / len(UNITS) == pytest.approx(0.20, abs=0.012)  # no more than must


def test_no_unit_moves_between_arms_whose_shares_stay_in_proportion() -> None:
    before, after = arms({"a": 5, "b": 4, "c": 1}), arms({"a": 5, "b": 4, "c": 3})
    moved = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
    assert moved == {("a", "c"), ("b", "c")}


def test_experiments_are_independent_and_answers_lasting() -> None:
    one, other = arms({"a": 1, "b": 1}), arms({"a": 1, "b": 1}, "another")
    both = sum(x == y for x, y in zip(one, other, strict=True)) / len(UNITS)
    assert both == pytest.approx(0.5, abs=0.012)
    # what a release must not change: units would change arms in mid-experiment
    assert [assignment.arm_of("e", f"u{i}", {"a": 1, "b": 1}) for i in range(8)] == list(FIXED)


FIXED = "aaaabbab"


def test_parts_of_a_name_do_not_run_into_each_other() -> None:
    pairs = [(f"x{'y' * i}", f"{'y' * (9 - i)}z") for i in range(9)]
    got = {assignment.arm_of(e, u, {"a": 1, "b": 1}) for e, u in pairs}
    assert got == {"a", "b"}


def test_an_arm_without_share_gets_nobody() -> None:
    assert set(arms({"a": 1, "b": 0})) == {"a"}
    for wrong in ({}, {"a": 0.0}, {"a": -1.0}, {"a": float("nan")}):
        with pytest.raises(ValueError, match="shares"):
            assignment.arm_of("e", "u", wrong)


# --- no more than 20 points a day ---


def history(*entries: tuple[float, float]) -> list[InForce]:
    return [InForce(since_s=at, shares={"a": 1 - b, "b": b}) for at, b in entries]


@pytest.mark.parametrize(
    ("past", "wanted", "at", "gets"),
    [
        ([(0, 0.05)], 1.0, 10 * DAY_S, 0.25),
        ([(0, 0.05)], 0.20, 10 * DAY_S, 0.20),
        ([(0, 0.05), (100, 0.25)], 0.9, 200, 0.25),
        ([(0, 0.05), (100, 0.25)], 0.9, 100 + DAY_S, 0.45),
        ([(0, 0.05), (100, 0.25)], 0.0, 200, 0.05),  # back, but not below what the day allows
        ([(0, 0.50), (100, 0.40), (200, 0.60)], 1.0, 300, 0.60),
        ([(0, 0.50), (9e9, 0.60)], 1.0, 300, 0.70),  # an entry of the future counts as now
    ],
)
def test_a_day_allows_twenty_points(
    past: list[tuple[float, float]], wanted: float, at: float, gets: float
) -> None:
    got = share_limit.allowed(history(*past), {"a": 1 - wanted, "b": wanted}, now_s=at)
    assert got.shares["b"] == pytest.approx(gets)
    assert got.is_cut == (abs(gets - wanted) > 1e-6)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(1, 2 * DAY_S), st.lists(st.floats(0, 1), min_size=3, max_size=3)),
        min_size=2,
        max_size=12,
    )
)
def test_no_span_of_a_day_holds_more(steps: list[tuple[float, list[float]]]) -> None:
    now, past = 0.0, [InForce(since_s=0.0, shares={"a": 1.0, "b": 0.0, "c": 0.0})]
    for wait, weights in steps:
        now += wait
        total = sum(weights)
        wanted = {arm: w / total if total else 1 / 3 for arm, w in zip("abc", weights, strict=True)}
        got = share_limit.allowed(past, wanted, now_s=now)
        past.append(InForce(since_s=now, shares=got.shares))
        assert sum(got.shares.values()) == pytest.approx(1)
    for index, entry in enumerate(past):
        for later in past[index:]:
            # the earlier one was in force until its successor began
            ends = past[index + 1].since_s if index + 1 < len(past) else now
            if later.since_s - ends < DAY_S * (1 - 1e-9):
                for arm in "abc":
                    assert abs(later.shares[arm] - entry.shares[arm]) <= 0.2 + 1e-6


def test_the_first_shares_are_free_and_a_new_arm_is_not() -> None:
    assert not share_limit.allowed([], {"a": 1.0}, now_s=0).is_cut
    got = share_limit.allowed(history((0, 0.5)), {"a": 0.1, "b": 0.1, "c": 0.8}, now_s=9 * DAY_S)
    assert got.shares["c"] == pytest.approx(0.2)
    for wrong in ({}, {"a": 0.5}, {"a": 1.5, "b": -0.5}):
        with pytest.raises(ValueError, match="sum to 1"):
            share_limit.allowed([], wrong, now_s=0)


# --- shares of a bandit ---


def counts(*arms_: tuple[int, int]) -> dict[str, ArmCounts]:
    return {f"arm{i}": ArmCounts(units=u, successes=s) for i, (u, s) in enumerate(arms_)}


def test_the_best_gets_all_but_the_floor() -> None:
    got = bandit_shares.next_shares(counts((9000, 900), (9000, 1400)), BanditSettings(), seed=1)
    assert got.shares == pytest.approx({"arm0": 0.1, "arm1": 0.9})


def test_lower_may_be_better() -> None:
    errors = BanditSettings(higher_is_better=False)
    got = bandit_shares.next_shares(counts((9000, 900), (9000, 1400)), errors, seed=1)
    assert got.shares == pytest.approx({"arm0": 0.9, "arm1": 0.1})


def test_same_seed_same_shares_and_nothing_before_the_minimum() -> None:
    evidence = counts((500, 50), (500, 55), (500, 52))
    one = bandit_shares.next_shares(evidence, BanditSettings(), seed=4)
    assert one == bandit_shares.next_shares(evidence, BanditSettings(), seed=4)
    assert one != bandit_shares.next_shares(evidence, BanditSettings(), seed=5)
    assert min(one.shares.values()) >= 0.1
    early = bandit_shares.next_shares(counts((500, 50), (99, 90)), BanditSettings(), seed=4)
    assert early.shares == {"arm0": 0.5, "arm1": 0.5}
    assert early.probability_best is None


def test_counts_that_do_not_fit() -> None:
    for wrong in ({}, counts((5, 6)), counts((5, -1))):
        with pytest.raises(ValueError, match=r"successes|expected"):
            bandit_shares.next_shares(wrong, BanditSettings(), seed=1)
