"""Profiles and windows on their edges, the scores between them, and what is called drift."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.evaluate.drift import feature, findings, from_sketch, profile
from gpuwarden.evaluate.drift.findings import DriftSettings
from gpuwarden.evaluate.drift.profile import CategoryWindow, NumericWindow
from gpuwarden.evaluate.fast import sketch as sketches


def normal(seed: int, n: int, loc: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(loc, scale, n)


columns = st.lists(
    st.one_of(st.floats(-1e9, 1e9), st.sampled_from([0.0, 1.0, 1.0, float("nan"), float("inf")])),
    min_size=1,
    max_size=80,
)


@settings(deadline=None)
@given(columns, st.integers(2, 30))
def test_every_value_is_counted_once(values: list[float], bins: int) -> None:
    finite = [v for v in values if np.isfinite(v)]
    if not finite:
        with pytest.raises(ValueError, match="empty reference"):
            profile.of_numbers(values, bins=bins)
        return
    got = profile.of_numbers(values, bins=bins)
    assert sum(got.counts) == len(finite)
    assert got.missing == len(values) - len(finite)
    assert len(got.counts) == len(got.edges) + 1
    assert list(got.edges) == sorted(set(got.edges))
    assert profile.numbers(got, values).counts == got.counts


@settings(deadline=None)
@given(columns, columns)
def test_windows_merge_exactly(a: list[float], b: list[float]) -> None:
    ref = profile.of_numbers(normal(1, 500))
    one, two = profile.numbers(ref, a), profile.numbers(ref, b)
    both = profile.numbers(ref, [*a, *b])
    merged = profile.merged_numbers([one, two])
    assert (merged.counts, merged.missing) == (both.counts, both.missing)
    assert merged.total == pytest.approx(both.total, abs=1e-3)


def test_bins_of_a_continuous_reference_are_equally_full() -> None:
    got = profile.of_numbers(normal(1, 20_000), bins=20)
    assert len(got.counts) == 20
    assert max(got.counts) - min(got.counts) <= 2


@pytest.mark.parametrize("moved", [4.0, 6.0])
def test_a_constant_that_moves_shows_on_both_sides(moved: float) -> None:
    ref = profile.of_numbers([5.0] * 1000)
    still = feature.of_numbers(ref, profile.numbers(ref, [5.0] * 300))
    off = feature.of_numbers(ref, profile.numbers(ref, [moved] * 300))
    assert (still.psi, still.p_value, still.tvd) == (0, 1, 0)
    assert off.tvd == 1
    assert findings.is_material(off, DriftSettings())
    assert off.p_value is not None
    assert off.p_value < 1e-50


def test_score_is_that_of_the_samples() -> None:
    a, b = normal(1, 50_000), normal(2, 5000, 0.5)
    ref = profile.of_numbers(a)
    got = feature.of_numbers(ref, profile.numbers(ref, b))
    true = scipy.stats.wasserstein_distance(a, b) / a.std()
    assert got.wasserstein_norm == pytest.approx(true, rel=0.05)
    same = feature.of_numbers(ref, profile.numbers(ref, normal(3, 5000)))
    assert same.wasserstein_norm == pytest.approx(0, abs=0.05)
    assert same.p_value is not None
    assert same.p_value > 0.001


def test_p_values_are_uniform_where_nothing_changed() -> None:
    ref = profile.of_numbers(normal(1, 200_000))
    p = [
        feature.of_numbers(ref, profile.numbers(ref, normal(seed, 1000))).p_value or 0.0
        for seed in range(2, 302)
    ]
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.001


def test_missing_values_are_a_category_of_their_own() -> None:
    ref = profile.of_numbers(normal(1, 5000))
    window = profile.numbers(ref, [*normal(2, 800), *[float("nan")] * 200])
    got = feature.of_numbers(ref, window)
    assert got.missing_share == 0.2
    assert findings.is_material(got, DriftSettings())
    assert got.p_value is not None
    assert got.p_value < 1e-100


def test_new_categories_count_once_however_many() -> None:
    ref = profile.of_categories(["a"] * 500 + ["b"] * 500)
    flood = profile.categories(ref, [f"new{i}" for i in range(5000)])
    assert flood == CategoryWindow(counts={}, other=5000, missing=0)
    assert feature.of_categories(ref, flood).tvd == 1
    kept = profile.of_categories([f"c{i % 300}" for i in range(3000)])
    assert len(kept.counts) == profile.CATEGORIES_MAX
    assert sum(kept.counts.values()) + kept.other == 3000
    two = profile.merged_categories(
        [profile.categories(ref, ["a", None]), profile.categories(ref, ["b", "z", "a"])]
    )
    assert two == CategoryWindow(counts={"a": 2, "b": 1}, other=1, missing=1)
    same = feature.of_categories(ref, profile.categories(ref, ["a", "b"] * 200))
    assert (same.psi, same.wasserstein_norm) == (0, None)


def test_too_few_rows_have_no_p() -> None:
    ref = profile.of_numbers(normal(1, 5000))
    for rows in (0, 1, 99):
        got = feature.of_numbers(ref, profile.numbers(ref, normal(2, rows, 9)))
        assert got.p_value is None
        assert "rows" in got.why_no_p
    assert findings.find({("s", "f"): got}, DriftSettings(), q=0.05) == ()


def test_another_schema_is_said() -> None:
    ref = profile.of_numbers(normal(1, 500))
    with pytest.raises(ValueError, match="schema"):
        feature.of_numbers(ref, NumericWindow(counts=(1, 2)))
    with pytest.raises(ValueError, match="same edges"):
        profile.merged_numbers([NumericWindow(counts=(1,)), NumericWindow(counts=(1, 2))])


def test_sketch_on_edges() -> None:
    x = np.random.default_rng(1).lognormal(3, 0.5, 20_000)
    ref = profile.of_numbers(x)
    y = np.random.default_rng(2).lognormal(3, 0.5, 3000)
    exact = profile.numbers(ref, y)
    got = from_sketch.window(ref, sketches.of(y.tolist()))
    assert got.rows == 3000
    assert 0 < got.slack < 0.03
    gap = np.abs(np.cumsum(got.counts) - np.cumsum(exact.counts)).max() / 3000
    assert gap <= got.slack


def test_within_the_sketchs_error_there_is_no_p() -> None:
    """A reference narrower than the sketch can tell: all of it is in one of its bins."""
    x = np.random.default_rng(1).normal(1000, 1, 5000)
    ref = profile.of_numbers(x)
    same = from_sketch.window(ref, sketches.of(np.random.default_rng(2).normal(1000, 1, 2000)))
    got = feature.of_numbers(ref, same)
    assert got.p_value is None
    assert "sketch" in got.why_no_p
    far = from_sketch.window(ref, sketches.of(np.random.default_rng(2).normal(1500, 1, 2000)))
    moved = feature.of_numbers(ref, far)
    assert moved.wasserstein_norm is not None
    assert moved.wasserstein_norm > 100


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_a_shift_of_half_a_sigma_is_found_in_one_window(seed: int) -> None:
    r = np.random.default_rng(seed)
    refs = [profile.of_numbers(r.normal(size=20_000)) for _ in range(5)]
    scores = {
        ("all", f"f{i}"): feature.of_numbers(
            ref, profile.numbers(ref, r.normal(0.5 if i == 3 else 0.0, 1, 1000))
        )
        for i, ref in enumerate(refs)
    }
    q = findings.level(DriftSettings(), rounds_per_day=2400)
    assert [found.feature for found in findings.find(scores, DriftSettings(), q=q)] == ["f3"]


def test_neither_p_nor_effect_alone_is_drift() -> None:
    ref = profile.of_numbers(normal(1, 500_000))
    sure = feature.of_numbers(ref, profile.numbers(ref, normal(2, 400_000, 0.03)))
    assert sure.p_value is not None
    assert sure.p_value < 1e-20
    assert findings.find({("s", "f"): sure}, DriftSettings(), q=0.05) == ()


def test_a_round_of_more_rounds_has_a_smaller_level() -> None:
    some = DriftSettings(pages_per_day=0.24)
    assert findings.level(some, rounds_per_day=24) == pytest.approx(0.01)
    assert findings.level(some, rounds_per_day=0.1) == 0.05
    with pytest.raises(ValueError, match="rounds_per_day"):
        findings.level(some, rounds_per_day=0)
