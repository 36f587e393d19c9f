"""Live windows as they come from nodes: what a sketch can tell, what it cannot, and what is never a drift."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from gpuwarden.evaluate.drift import from_sketch, live, profile
from gpuwarden.evaluate.drift.findings import DriftSettings
from gpuwarden.evaluate.drift.live import LiveScore
from gpuwarden.evaluate.drift.profile import CategoryWindow, NumericProfile, NumericWindow
from gpuwarden.evaluate.fast import sketch as sketches

SETTINGS = DriftSettings()


def seen(ref: NumericProfile, values: list[float]) -> LiveScore:
    sketch = sketches.of(values)
    window = from_sketch.window(ref, sketch)
    assert sum(window.counts) == len(values)
    return live.numbers(ref, window, low=sketch.low, high=sketch.high)


def drawn(seed: int, n: int, loc: float = 0.0, scale: float = 1.0) -> list[float]:
    found: list[float] = np.random.default_rng(seed).normal(loc, scale, n).tolist()
    return found


@pytest.mark.parametrize(
    "same",
    [
        [5.0] * 1000,
        [*[0.0] * 600, *drawn(1, 400, 10)],
        [*[3.0] * 700, *[9.0] * 300],
        [float(i % 7) for i in range(1000)],
    ],
    ids=["constant", "zero-inflated", "two-values", "integers"],
)
def test_values_that_repeat_are_no_drift_through_a_sketch(same: list[float]) -> None:
    ref = profile.of_numbers(same * 5)
    got = seen(ref, same)
    assert got.score.tvd < 0.02
    assert not live.is_material(got, SETTINGS)
    assert got.score.p_value is None or got.score.p_value > 0.1


def test_a_constant_that_moves_by_less_than_a_bin_of_the_sketch_is_seen() -> None:
    ref = profile.of_numbers([5.0] * 1000)
    for moved in (5.001, 4.999, 7.0):
        got = seen(ref, [moved] * 300)
        assert live.is_material(got, SETTINGS)
        assert got.score.p_value is not None
        assert got.score.p_value < 1e-50


def test_narrow_values_are_judged_by_their_mean() -> None:
    """1,000 give or take 1: all in one or two bins of a sketch of 1 %."""
    ref = profile.of_numbers(drawn(1, 20_000, 1000, 1))
    same, moved = seen(ref, drawn(2, 1000, 1000, 1)), seen(ref, drawn(3, 1000, 1000.5, 1))
    assert same.is_by_mean
    assert same.score.p_value is not None
    assert same.score.p_value > 1e-3
    assert not live.is_material(same, SETTINGS)
    assert moved.score.p_value is not None
    assert moved.score.p_value < 1e-30
    assert live.is_material(moved, SETTINGS)
    assert "mean" in moved.score.why_no_p


def test_one_wild_row_says_nothing_by_the_mean() -> None:
    ref = profile.of_numbers(drawn(1, 20_000, 1000, 1))
    got = seen(ref, [*drawn(2, 999, 1000, 1), 1e14])
    assert got.score.p_value is None
    assert "single row" in got.score.why_no_p


def test_p_values_through_a_sketch_are_those_of_chance() -> None:
    r = np.random.default_rng(5)
    ref = profile.of_numbers(r.lognormal(3, 0.5, 200_000))
    p = [seen(ref, r.lognormal(3, 0.5, 1000).tolist()).score.p_value for _ in range(200)]
    known = [each for each in p if each is not None]
    assert len(known) > 20
    # where the distance is within the sketch's error there is none; the others lean towards small ones at most so far
    assert min(known) > 1e-5


def test_a_flood_of_new_categories_is_one_cell() -> None:
    ref = profile.of_categories(["a"] * 600 + ["b"] * 400)
    flood = {f"new{i}": 1 for i in range(300)}
    got = live.categories(ref, CategoryWindow(counts={"a": 420, "b": 280, **flood}))
    assert got.new_share == pytest.approx(0.3)
    assert live.is_material(got, SETTINGS)
    assert got.score.p_value is not None
    assert got.score.p_value < 1e-30


def test_many_rare_categories_are_no_drift() -> None:
    """200 of them in 1,000 rows: a PSI of 0.2 by chance alone."""
    r = np.random.default_rng(1)
    names = [f"c{i}" for i in range(200)]
    shares = r.dirichlet([0.3] * 200)
    ref = profile.of_categories(r.choice(names, 50_000, p=shares).tolist())
    p = []
    for _ in range(40):
        window = profile.categories(ref, r.choice(names, 1000, p=shares).tolist())
        got = live.categories(ref, window)
        assert not live.is_material(got, SETTINGS)
        p.append(got.score.p_value or 0.0)
    assert scipy.stats.kstest(p, "uniform").pvalue > 1e-3
    raw = profile.categories(ref, r.choice(names, 1000).tolist())
    assert live.is_material(live.categories(ref, raw), SETTINGS)


def test_sparse_bins_join_and_empty_ones_stay() -> None:
    ref = NumericProfile(
        edges=(1.0, 2.0, 3.0, 4.0),
        counts=(0, 1, 2, 997, 0),
        centres=(1.0, 1.5, 2.5, 3.5, 4.0),
        missing=0,
        mean=3.5,
        std=0.1,
        low=1.1,
        high=3.9,
    )
    still = live.numbers(ref, NumericWindow(counts=(0, 0, 3, 997, 0), total=3500.0))
    assert still.score.psi == pytest.approx(0, abs=1e-9)
    out = live.numbers(ref, NumericWindow(counts=(0, 0, 3, 897, 100), total=3600.0))
    assert out.score.psi > 0.5


@pytest.mark.parametrize("rows", [0, 1, 99])
def test_few_rows_have_no_p(rows: int) -> None:
    ref = profile.of_numbers(drawn(1, 5000))
    got = live.numbers(ref, profile.numbers(ref, drawn(2, rows, 9)))
    assert got.score.p_value is None
    named = profile.of_categories(["a"] * 10 + ["b"] * 10)
    few = live.categories(named, CategoryWindow(counts={"a": rows}))
    assert few.score.p_value is None


def test_missing_values_of_the_reference_are_not_missed() -> None:
    """What a node tells of a feature are its values: a tenth that was missing in the reference is no drift."""
    ref = profile.of_numbers([*drawn(1, 9000), *[float("nan")] * 1000])
    got = seen(ref, drawn(2, 1000))
    assert got.score.psi < 0.05
    labels = profile.of_categories([*["a"] * 500, *["b"] * 400, *[None] * 100])
    assert live.categories(labels, CategoryWindow(counts={"a": 500, "b": 400})).score.psi < 0.01
