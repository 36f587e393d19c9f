"""The classifier two-sample test sees what single features do not, and is right as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from gpuwarden.evaluate.drift import classifier, ks
from gpuwarden.evaluate.inputs import Floats


def _pairs(r: np.random.Generator, rows: int, correlation: float) -> Floats:
    return r.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], size=rows)


def test_a_correlation_that_turns_is_seen_though_no_feature_has_moved() -> None:
    r = np.random.default_rng(1)
    ref, cur = _pairs(r, 1000, 0.6), _pairs(r, 1000, -0.6)
    for column in (0, 1):
        d = ks.distance(ref[:, column], cur[:, column])
        assert ks.p_large_sample(d, 1000, 1000) > 0.05
    got = classifier.two_sample(ref, cur)
    assert got.n_test == 1000
    assert got.accuracy > 0.65
    assert got.p_value < 1e-12


@pytest.mark.parametrize("what", ["mean", "spread", "missing"])
def test_single_features_are_seen_too(what: str) -> None:
    r = np.random.default_rng(2)
    ref, cur = r.normal(size=(2, 1000, 4))
    if what == "mean":
        cur[:, 2] += 0.5
    elif what == "spread":
        cur[:, 2] *= 2
    else:
        cur[::3, 2] = np.nan
    assert classifier.two_sample(ref, cur).p_value < 1e-4


def test_without_drift_it_is_wrong_as_often_as_the_level_says() -> None:
    r = np.random.default_rng(3)
    p = [
        classifier.two_sample(*r.lognormal(size=(2, 200, 5))).p_value  # heavy tails are no drift
        for _ in range(200)
    ]
    assert sum(each <= 0.05 for each in p) <= 19  # 10 expected; 1 in 300 runs has more
    assert np.mean(p) == pytest.approx(0.5, abs=0.08)


def test_what_is_constant_or_missing_everywhere_says_nothing() -> None:
    for value in (7.0, np.nan, np.inf):
        got = classifier.two_sample(np.full((200, 2), value), np.full((200, 2), value))
        assert got.accuracy == 0.5
        assert got.p_value > 0.4
    one = classifier.two_sample(np.zeros((150, 1)), np.full((130, 1), 1e300))
    assert one.p_value < 1e-9


def test_what_cannot_be_compared_is_refused() -> None:
    rows = np.zeros((200, 2))
    with pytest.raises(ValueError, match="at least 100 rows"):
        classifier.two_sample(rows, rows[:99])
    with pytest.raises(ValueError, match="same columns"):
        classifier.two_sample(rows, rows[:, :1])
    with pytest.raises(ValueError, match="same columns"):
        classifier.two_sample(rows[:, 0], rows[:, 0])
