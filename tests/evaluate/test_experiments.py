"""Sequential tests, bandits and canary scores, each by a second way where there is one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.evaluate.experiment import (
    bandit,
    canary_samples,
    canary_score,
    confidence_sequence,
    measured,
    msprt,
    thompson,
)
from gpuwarden.evaluate.experiment.canary_score import Judged
from gpuwarden.evaluate.experiment.confidence_sequence import Arm


def arm(values: np.ndarray) -> Arm:
    return Arm(n=values.size, total=float(values.sum()), sum_squares=float((values * values).sum()))


@pytest.mark.parametrize("difference", ["relative", "absolute"])
def test_peeking_freely_costs_no_more_than_alpha(
    difference: confidence_sequence.Difference,
) -> None:
    r = np.random.default_rng(3)
    alarms = 0
    for _ in range(300):
        a, b = r.normal(10, 3, 2000), r.normal(10, 3, 2000)
        p = [
            confidence_sequence.compare(
                arm(a[:n]), arm(b[:n]), alpha=0.05, metric="mean", difference=difference
            ).p_always_valid
            for n in range(50, 2001, 50)
        ]
        alarms += min(p) <= 0.05
    assert alarms / 300 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


@settings(deadline=None)
@given(
    st.integers(2, 10**6),
    st.integers(2, 10**6),
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.99),
    st.floats(0.001, 0.3),
)
def test_interval_and_p_say_the_same(
    n_a: int, n_b: int, p_a: float, p_b: float, alpha: float
) -> None:
    got = confidence_sequence.compare(
        Arm(n=n_a, total=n_a * p_a, sum_squares=n_a * p_a),
        Arm(n=n_b, total=n_b * p_b, sum_squares=n_b * p_b),
        alpha=alpha,
        metric="proportion",
    )
    assert got.ci is not None
    assert got.point is not None
    is_outside = not got.ci[0] <= 0 <= got.ci[1]
    if abs(got.p_always_valid - alpha) > 1e-9:
        assert is_outside == (got.p_always_valid < alpha)


def test_variances_by_drawing_again() -> None:
    r = np.random.default_rng(5)
    points = []
    for _ in range(1500):
        a, b = r.normal(5, 2, 400), r.normal(6, 3, 300)
        points.append(b.mean() / a.mean() - 1)
    got = confidence_sequence.compare(
        arm(r.normal(5, 2, 400)), arm(r.normal(6, 3, 300)), alpha=0.05, metric="mean"
    )
    assert got.se == pytest.approx(np.std(points), rel=0.15)


def test_what_has_no_relative_difference() -> None:
    nothing = Arm(n=10, total=0, sum_squares=0)
    got = confidence_sequence.compare(nothing, nothing, alpha=0.05, metric="mean")
    assert (got.point, got.se, got.ci, got.p_always_valid) == (None, None, None, 1.0)
    ones = Arm(n=10, total=10, sum_squares=10)
    sure = confidence_sequence.compare(
        ones, Arm(n=10, total=20, sum_squares=40), alpha=0.05, metric="mean"
    )
    assert (sure.point, sure.se, sure.p_always_valid) == (1, 0, 0)
    with pytest.raises(ValueError, match="sum_squares"):
        confidence_sequence.compare(
            Arm(n=4, total=8, sum_squares=1), ones, alpha=0.05, metric="mean"
        )
    with pytest.raises(ValueError, match="share of successes"):
        confidence_sequence.compare(
            ones, Arm(n=4, total=5, sum_squares=5), alpha=0.05, metric="proportion"
        )


def test_width_is_least_near_its_tuning() -> None:
    ratios = [
        confidence_sequence.width(n, alpha=0.05, tuning_n=5000).width_ratio
        for n in (50, 500, 5000, 50_000, 500_000)
    ]
    assert min(ratios) == ratios[2]
    assert 1.5 < ratios[2] < 1.6


def test_msprt_step_by_step() -> None:
    r = np.random.default_rng(9)
    x, y = r.normal(0, 2, 300), r.normal(1, 2, 300)
    got = msprt.normal(x, y, sigma=2, tau2=0.5, theta0=0.1, alpha=0.05, at_n=[1, 7, 300])
    lowest, seen, first = 1.0, [], None
    for n in range(1, 301):
        d = float((y[:n] - x[:n]).mean()) - 0.1
        wide = 2 * 4 + n * 0.5
        ratio = math.sqrt(8 / wide) * math.exp(n * n * 0.5 * d * d / (4 * 4 * wide))
        lowest = min(lowest, 1 / ratio)
        first = first or (n if lowest <= 0.05 else None)
        if n in (1, 7, 300):
            seen.append((ratio, lowest))
    assert got.likelihood_ratio == pytest.approx([s[0] for s in seen])
    assert got.p == pytest.approx([s[1] for s in seen])
    assert got.first_n == first


def test_msprt_beyond_a_float() -> None:
    got = msprt.normal([0.0] * 50, [9e3] * 50, sigma=1, tau2=1, theta0=0, alpha=0.05, at_n=[50])
    assert got.likelihood_ratio == (None,)
    assert got.p == (0.0,)
    with pytest.raises(ValueError, match="at_n"):
        msprt.normal([0.0], [1.0], sigma=1, tau2=1, theta0=0, alpha=0.05, at_n=[0])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9), st.floats(-1, 0.5))
def test_floor_holds_and_shares_sum_to_one(weights: list[float], floor: float) -> None:
    shares = bandit.exploration_floor(weights, min_share=floor)
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= min(max(0, floor), 1 / len(weights)) - 1e-12


def test_nobody_knows_anything_all_are_alike() -> None:
    assert bandit.exploration_floor([0, 0, 0, 0], min_share=0.1) == (0.25,) * 4


def exact_better(a: tuple[int, int], b: tuple[int, int]) -> float:
    """P(B > A) for whole parameters, Evan Miller's sum."""
    total = 0.0
    for i in range(b[0]):
        total += math.exp(
            math.lgamma(a[0] + i)
            + math.lgamma(a[1] + b[1])
            - math.lgamma(a[0] + i + a[1] + b[1])
            - math.log(b[1] + i)
            - (math.lgamma(1 + i) + math.lgamma(b[1]) - math.lgamma(1 + i + b[1]))
            - (math.lgamma(a[0]) + math.lgamma(a[1]) - math.lgamma(a[0] + a[1]))
        )
    return total


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((1, 1), (1, 1)),
        ((2, 3), (3, 2)),
        ((1, 1), (900, 100)),
        ((121, 881), (141, 861)),
        ((5000, 5000), (5100, 4900)),
        ((1, 50), (1, 40)),
        ((40_000, 10), (30_000, 3)),
    ],
)
def test_better_arm_by_an_exact_sum(a: tuple[int, int], b: tuple[int, int]) -> None:
    assert bandit.probability_better(a, b) == pytest.approx(exact_better(a, b), abs=1e-6)
    assert bandit.probability_better(b, a) == pytest.approx(1 - exact_better(a, b), abs=1e-6)


def test_better_arm_of_small_parameters_by_drawing() -> None:
    r = np.random.default_rng(6)
    a, b = (0.3, 0.2), (0.05, 2.5)
    drawn = (r.beta(*b, 400_000) > r.beta(*a, 400_000)).mean()
    assert bandit.probability_better(a, b) == pytest.approx(drawn, abs=0.003)


def test_best_of_several_agrees_with_the_pair() -> None:
    shares = bandit.probability_best([(20, 80), (30, 70)], draws=100_000, seed=1)
    better = bandit.probability_better((20, 80), (30, 70))
    assert shares.tolist() == pytest.approx([1 - better, better], abs=0.005)


def test_regret_bound() -> None:
    got = bandit.regret_lower_bound([0.5, 0.5, 0.25], plays=math.ceil(math.e**5))
    kl = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert got.constant == pytest.approx(0.25 / kl)
    assert bandit.regret_lower_bound([0.4, 0.4], plays=10).constant == 0
    assert bandit.regret_lower_bound([0.0, 0.4], plays=10).constant == pytest.approx(
        0.4 / math.log(1 / 0.6)
    )
    assert bandit.regret_lower_bound([1.0, 0.4], plays=10).constant == 0  # one failure tells all


def test_thompson_that_only_explores_plays_uniformly() -> None:
    got = thompson.regret([0.8, 0.2, 0.5], plays=400, runs=200, min_share=1 / 3)
    assert got.uniform_play_regret == pytest.approx(400 * 0.3)
    assert got.mean_regret == pytest.approx(120, rel=0.03)
    assert got.floor_cost_lower_bound == pytest.approx(400 / 3 * 0.9)


def test_thompson_learns_and_its_seed_decides() -> None:
    free = thompson.regret([0.8, 0.2], plays=500, runs=50)
    assert free.mean_regret < 0.1 * free.uniform_play_regret
    assert free == thompson.regret([0.8, 0.2], plays=500, runs=50)
    assert free != thompson.regret([0.8, 0.2], plays=500, runs=50, seed=1)
    with pytest.raises(ValueError, match="plays x runs x arms"):
        thompson.regret([0.5, 0.4], plays=10**9, runs=10**9)


def judged(group: str, *verdicts: canary_score.Class, critical: bool = False) -> list[Judged]:
    return [Judged(group=group, verdict=verdict, critical=critical) for verdict in verdicts]


def test_group_without_a_weight_takes_what_is_left() -> None:
    metrics = judged("a", "Pass", "High") + judged("b", "Pass") + judged("c", "Low")
    # a 60, b and c 20 each
    assert canary_score.score(metrics, {"a": 60}, nodata_share_that_fails=0.5) == pytest.approx(50)
    assert canary_score.score(metrics, {}, nodata_share_that_fails=0.5) == pytest.approx(50)
    lopsided = {"a": 0, "b": 100, "c": 0}
    assert canary_score.score(metrics, lopsided, nodata_share_that_fails=0.5) == 100


def test_silence_and_critical_metrics_fail() -> None:
    half = judged("a", "Pass", "Nodata")
    assert canary_score.score(half, {}, nodata_share_that_fails=0.5) == 0
    assert canary_score.score(half, {}, nodata_share_that_fails=0.6) == 100
    silent = judged("a", "Pass", "Pass") + judged("a", "Nodata", critical=True)
    assert canary_score.score(silent, {}, nodata_share_that_fails=0.5) == 100
    low = judged("a", "Pass", "Pass") + judged("a", "Low", critical=True)
    assert canary_score.score(low, {}, nodata_share_that_fails=0.5) == 0


@pytest.mark.parametrize("weights", [{"a": 101}, {"a": -1}, {"a": 60, "b": 60}])
def test_weights_that_do_not_fit(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        canary_score.score(judged("a", "Pass"), weights, nodata_share_that_fails=0.5)


def test_canary_samples_against_scipy() -> None:
    r = np.random.default_rng(2)
    c, b = r.normal(10, 1, 30), r.normal(9, 1, 40)
    got = canary_samples.statistics(c, b)
    rank = scipy.stats.mannwhitneyu(c, b, method="asymptotic")
    assert got.mann_whitney_p == pytest.approx(rank.pvalue)
    assert got.ks_p == pytest.approx(scipy.stats.ks_2samp(c, b, method="exact").pvalue)
    same = canary_samples.statistics([3.0] * 5, [3.0] * 4)
    assert (same.mann_whitney_p, same.ks_p, same.mean_ratio) == (1, 1, 1)


def test_measured() -> None:
    assert [measured.failure_limit(n, limit=2) for n in (0, 2, 3)] == [
        "not_failed",
        "not_failed",
        "failed",
    ]
    outcomes = {
        (violated, satisfied): measured.at_count(
            failure_limit_violated=violated, consecutive_success_limit_satisfied=satisfied
        )
        for violated in (False, True)
        for satisfied in (False, True)
    }
    assert outcomes == {
        (False, False): "inconclusive",
        (False, True): "successful",
        (True, False): "failed",
        (True, True): "failed",
    }
