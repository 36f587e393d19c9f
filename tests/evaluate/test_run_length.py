"""Run lengths against chains of many small states, and against runs that were drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.special

from gpuwarden.evaluate.drift import run_length


def one_sided_by_chain(mu: float, k: float, h: float, states: int = 401) -> float:
    """Brook & Evans 1972: the sum rounded to the middles of equal cells of 0..h."""
    width = 2 * h / (2 * states - 1)
    at = np.arange(states) * width
    upper = at[None, :] - at[:, None] + width / 2 + k - mu
    chain = scipy.special.ndtr(upper) - scipy.special.ndtr(upper - width)
    chain[:, 0] = scipy.special.ndtr(upper[:, 0])
    return float(np.linalg.solve(np.eye(states) - chain, np.ones(states))[0])


@pytest.mark.parametrize(
    ("mu", "k", "h"), [(0, 0.5, 4), (0.3, 0.25, 6), (1, 0.5, 5), (-0.7, 0.4, 3), (0.2, 0.0, 2)]
)
def test_cusum_by_a_chain_of_states(mu: float, k: float, h: float) -> None:
    both = 1 / one_sided_by_chain(mu, k, h) + 1 / one_sided_by_chain(-mu, k, h)
    assert run_length.cusum(mu, k=k, h=h) == pytest.approx(1 / both, rel=2e-3)


def test_cusum_by_drawn_runs() -> None:
    r = np.random.default_rng(5)
    x = r.normal(0.5, 1, size=(4000, 400))
    up = down = np.zeros(4000)
    ends = np.zeros(4000)
    for step in range(400):
        up = np.maximum(0, up + x[:, step] - 0.5)
        down = np.maximum(0, down - x[:, step] - 0.5)
        ends = np.where((ends == 0) & ((up > 4) | (down > 4)), step + 1, ends)
    assert (ends > 0).all()
    error = ends.std() / math.sqrt(4000)
    assert abs(run_length.cusum(0.5, k=0.5, h=4) - ends.mean()) < 4 * error


@pytest.mark.parametrize(
    ("mu", "weight", "limit"), [(0, 0.1, 2.7), (0.6, 0.25, 2.9), (-1.5, 0.7, 3.0)]
)
def test_ewma_by_a_chain_of_states(mu: float, weight: float, limit: float) -> None:
    states = 601
    edge = limit * math.sqrt(weight / (2 - weight))
    width = 2 * edge / states
    at = -edge + (np.arange(states) + 0.5) * width
    low = (at[None, :] - width / 2 - (1 - weight) * at[:, None]) / weight - mu
    chain = scipy.special.ndtr(low + width / weight) - scipy.special.ndtr(low)
    length = float(np.linalg.solve(np.eye(states) - chain, np.ones(states))[states // 2])
    assert run_length.ewma(mu, weight=weight, limit=limit) == pytest.approx(length, rel=2e-3)


def test_ewma_of_weight_one_is_a_shewhart_chart() -> None:
    assert run_length.ewma(0.5, weight=1, limit=3) == run_length.k_sigma(0.5, k=3)
    near = run_length.ewma(0.5, weight=0.9999, limit=3)
    assert near == pytest.approx(run_length.k_sigma(0.5, k=3), rel=1e-3)


def test_sides_are_alike_and_a_far_shift_is_found_at_once() -> None:
    assert run_length.cusum(1.2, k=0.5, h=5) == pytest.approx(run_length.cusum(-1.2, k=0.5, h=5))
    assert run_length.cusum(30, k=0.5, h=5) == pytest.approx(1.0)


def test_what_does_not_fit() -> None:
    calls: tuple[Callable[[], float], ...] = (
        lambda: run_length.cusum(0, k=0.5, h=0),
        lambda: run_length.cusum(0, k=-1, h=4),
        lambda: run_length.cusum(0, k=20, h=100),  # longer than doubles can say
        lambda: run_length.cusum(math.nan, k=0.5, h=4),
        lambda: run_length.ewma(0, weight=0, limit=3),
        lambda: run_length.ewma(0, weight=1e-9, limit=3),
        lambda: run_length.ewma(0, weight=0.1, limit=29),
        lambda: run_length.k_sigma(0, k=60),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"expected|long|wide"):
            call()
