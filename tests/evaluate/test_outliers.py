"""Outliers on their edges: few values, ties, constants; and scores of detectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.evaluate.anomaly import iqr, k_sigma, robust_z
from gpuwarden.evaluate.drift import harness

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


@settings(deadline=None)
@given(numbers)
def test_quartiles_by_rank(values: list[float]) -> None:
    """Rank p (n + 1), between neighbours; the end value beyond the ends."""
    x, n = sorted(values), len(values)

    def at(p: float) -> float:
        rank = min(max(p * (n + 1), 1), n)
        low = math.floor(rank)
        high = min(low + 1, n)
        return x[low - 1] + (rank - low) * (x[high - 1] - x[low - 1])

    got = iqr.fences(values)
    assert (got.q1, got.q3) == pytest.approx((at(0.25), at(0.75)), abs=1e-6)
    assert set(got.extreme_indexes) <= set(got.outlier_indexes)


def test_a_value_on_the_fence_is_inside() -> None:
    got = iqr.fences([0, 0, 1, 1, 2.5], inner_factor=1.5, outer_factor=3)
    assert got.q3 + 1.5 * (got.q3 - got.q1) >= 2.5
    edge = iqr.fences([1.0, 1.0, 1.0, 9.0], inner_factor=0, outer_factor=0)
    assert edge.outlier_indexes == (3,)


def test_k_sigma_without_a_deviation() -> None:
    assert k_sigma.outliers([4.0], k=3, ddof=1) == k_sigma.Outliers(
        mean=4, std=None, outlier_indexes=()
    )
    assert k_sigma.outliers([0.1] * 7, k=0.0, ddof=1).outlier_indexes == ()
    with pytest.raises(ValueError, match="ddof"):
        k_sigma.outliers([1.0], k=3, ddof=2)


@settings(deadline=None)
@given(numbers, st.floats(0.5, 4))
def test_robust_scores_do_not_mind_unit_and_origin(values: list[float], scale: float) -> None:
    x = np.round(np.array(values))
    first = robust_z.robust_z(x)
    moved = robust_z.robust_z(x * 4 + 1024)
    assert first.scores == pytest.approx(moved.scores, abs=1e-6)
    assert first.outlier_indexes == moved.outlier_indexes
    assert all(math.isfinite(score) for score in first.scores)
    assert first.fallback == (first.mad == 0)


def test_robust_scores_fall_back_twice() -> None:
    some = robust_z.robust_z([1.0, 1.0, 1.0, 1.0, 9.0])
    assert some.fallback
    assert some.scores[4] == pytest.approx(8 / (1.253314 * 1.6))
    assert robust_z.robust_z([1.0, 1.0]).scores == (0.0, 0.0)


# --- scores of detectors ---


def test_an_alarm_counts_for_the_earliest_change() -> None:
    got = harness.match([10, 12, 31], [5, 10, 20], delta_max=10)
    assert got.hits == ((10, 12), (), ())
    assert got.false_alarms == (31,)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("precision", 3 / 5),
        ("recall", 3 / 4),
        ("f1", 6 / 9),
        ("episode_recall", 2 / 3),
        ("missed_detection_rate", 1 / 3),
        ("detection_delay", 7.5),
        ("normalized_detection_time", 0.15),
        ("false_alarm_rate_per_1000", 2.0),
        ("mean_time_between_false_alarms", 300.0),
        ("mean_time_ratio", 300 / 7.5 * 2 / 3),
    ],
)
def test_scores(metric: str, value: float) -> None:
    alarms, drifts = [100, 110, 205, 300, 600], [100, 190, 800]
    got = harness.score(metric, alarms, drifts, delta_max=50, n_samples=1000)
    assert got == pytest.approx(value)


@pytest.mark.parametrize("metric", sorted(harness.SCORES))
def test_scores_of_nothing_do_not_exist(metric: str) -> None:
    got = harness.score(metric, [], [], delta_max=50, n_samples=10)
    assert got == (0.0 if metric == "false_alarm_rate_per_1000" else None)


def test_scores_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="no score"):
        harness.score("beauty", [], [], delta_max=5)
    with pytest.raises(ValueError, match="n_samples"):
        harness.score("false_alarm_rate_per_1000", [1], [], delta_max=5)
    with pytest.raises(ValueError, match="ascending"):
        harness.match([3, 1], [], delta_max=5)
    with pytest.raises(ValueError, match="delta_max"):
        harness.match([], [], delta_max=0)
