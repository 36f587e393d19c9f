"""What is usual of a feature's calm windows, and that no habit hides half a standard deviation."""

from __future__ import annotations

import numpy as np
import pytest

from gpuwarden.evaluate.drift import wander
from gpuwarden.evaluate.drift.wander import Wander


def _after(excesses: list[float]) -> Wander:
    known = Wander()
    for each in excesses:
        known = wander.after(known, each)
    return known


def test_the_chance_is_that_of_a_wandering_mean() -> None:
    known = Wander(usual=0.0025)  # 0.05 standard deviations
    assert wander.p_value(known, 0.0, 1000) == 1.0
    assert wander.p_value(known, -0.01, 1000) == 1.0
    assert wander.p_value(known, 0.1**2, 10**9) == pytest.approx(0.0455, abs=1e-4)  # two of them
    assert wander.p_value(known, 0.25**2, 10**9) == pytest.approx(5.7e-7, rel=0.02)  # five


def test_few_rows_are_less_sure() -> None:
    chances = [wander.p_value(Wander(), 0.09, rows) for rows in (0, 100, 1000, 10**6)]
    assert chances == sorted(chances, reverse=True)
    assert chances[1] > 10 * chances[2]


def test_a_feature_that_wanders_needs_more_to_be_a_finding() -> None:
    moves = np.random.default_rng(1).normal(scale=0.085, size=300)
    restless = _after([float(x * x) for x in moves])
    calm = _after([0.0] * 300)
    assert restless.usual == pytest.approx(0.085**2, rel=0.25)
    assert wander.p_value(restless, 0.3**2, 1000) > 1e-4
    assert wander.p_value(calm, 0.3**2, 1000) < 1e-9


def test_half_a_standard_deviation_is_found_whatever_came_before() -> None:
    for before in ([0.0] * 300, [0.2] * 300, [0.01 * n for n in range(60)], [-0.01] * 300, []):
        assert wander.p_value(_after(before), 0.5**2, 1000) < 1e-7


def test_one_odd_window_changes_little() -> None:
    assert _after([0.0025] * 50 + [50.0]).usual < 1.3 * _after([0.0025] * 50).usual
    assert _after([0.0] * 100_000).windows == wander.WINDOWS_MAX
