"""Distances and tests of two samples, against scipy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.evaluate.drift import (
    chi_square,
    classifier,
    divergence,
    effect,
    multiplicity,
    psi,
    sample_scores,
    wasserstein,
)

shares = st.lists(st.floats(0.01, 1), min_size=2, max_size=8)


def normal(seed: int, n: int, loc: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(loc, scale, n)


@settings(deadline=None)
@given(shares, st.integers(0, 2**32 - 1))
def test_divergences_are_scipys(weights: list[float], seed: int) -> None:
    p = np.array(weights) / sum(weights)
    q = np.random.default_rng(seed).dirichlet(np.ones(p.size) * 2) + 1e-3
    q /= q.sum()
    got = divergence.divergences(p, q)
    assert got.kl_ref_to_cur == pytest.approx(scipy.stats.entropy(p, q), abs=1e-12)
    assert got.kl_cur_to_ref == pytest.approx(scipy.stats.entropy(q, p), abs=1e-12)
    assert got.psi == pytest.approx(got.kl_ref_to_cur + got.kl_cur_to_ref, abs=1e-12)
    js = scipy.spatial.distance.jensenshannon(p, q)
    assert got.js_distance_base_e == pytest.approx(js, abs=1e-7)
    js_2 = scipy.spatial.distance.jensenshannon(p, q, base=2)
    assert got.js_distance_base_2 == pytest.approx(js_2, abs=1e-7)
    assert got.hellinger == pytest.approx(math.sqrt(max(0, 1 - np.sqrt(p * q).sum())), abs=1e-7)
    assert got.tvd == pytest.approx(max(0, (p - q)[p > q].sum()))


def test_bands_start_at_their_bounds() -> None:
    bands = [divergence.band(x, moderate_from=0.1, major_from=0.25) for x in (0.09, 0.1, 0.25)]
    assert bands == ["stable", "moderate", "major"]


@pytest.mark.parametrize(
    ("p", "q"), [([0.5, 0.5], [1.0, 0.0]), ([0.5, 0.4], [0.5, 0.5]), ([1.0], [0.5, 0.5]), ([], [])]
)
def test_shares_that_do_not_fit(p: list[float], q: list[float]) -> None:
    with pytest.raises(ValueError, match=r"share|expected"):
        divergence.divergences(p, q)


def test_psi_by_hand() -> None:
    ref, cur = np.arange(100.0), np.concatenate([np.arange(50.0), np.full(50, 1e9)])
    inner = psi.edges(ref, 4)
    assert inner.tolist() == [24.75, 49.5, 74.25]
    assert psi.shares(cur, inner).tolist() == [0.25, 0.25, 0.0, 0.5]  # beyond the reference counts
    by_hand = (0.001 - 0.25) * math.log(0.001 / 0.25) + 0.25 * math.log(2)
    assert psi.from_samples(ref, cur, bins=4, floor=0.001) == pytest.approx(by_hand)
    assert psi.from_samples(ref, cur, bins=4, floor=0) is None  # infinite
    assert psi.from_samples(ref, ref, bins=10, floor=0) == 0


def test_psi_of_a_constant_reference() -> None:
    same, moved = np.full(10, 3.0), np.full(10, 2.0)
    assert psi.from_samples(same, same, bins=10, floor=1e-4) == 0
    got = psi.from_samples(same, moved, bins=10, floor=1e-4)
    assert got is not None
    assert got > 5


def test_wasserstein_of_a_shift_is_the_shift() -> None:
    a = normal(1, 500)
    got = wasserstein.distances(a, a + 2)
    assert got.wasserstein == pytest.approx(2)
    assert got.wasserstein_norm == pytest.approx(2 / a.std())
    constant = wasserstein.distances([5.0, 5.0], [6.0])
    assert (constant.wasserstein, constant.wasserstein_norm) == (1, None)


def test_energy_distance_by_its_definition() -> None:
    a, b = normal(1, 40), normal(2, 30, 1.0)

    def mean_gap(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.abs(x[:, None] - y[None, :]).mean())

    square = 2 * mean_gap(a, b) - mean_gap(a, a) - mean_gap(b, b)
    assert wasserstein.distances(a, b).energy_distance == pytest.approx(math.sqrt(square))


def test_effect_and_p_need_each_other() -> None:
    def judged(n: int, shift: float) -> effect.Effect:
        return effect.effect(
            normal(1, n),
            normal(2, n, shift),
            alpha=0.05,
            psi_bins=10,
            psi_floor=1e-4,
            material_wasserstein_norm=0.1,
        )

    many, few = judged(200_000, 0.03), judged(8, 0.5)
    assert (many.significant, many.material) == (True, False)
    assert (few.significant, few.material) == (False, True)
    constant = effect.effect(
        [1.0] * 50, [2.0] * 50, alpha=0.05, psi_bins=10, psi_floor=1e-4, material_wasserstein_norm=1
    )
    assert (constant.wasserstein_norm, constant.material, constant.significant) == (
        None,
        True,
        True,
    )


def test_sample_scores_fill_what_is_empty() -> None:
    got = sample_scores.scores(
        [0.0] * 50 + [1.0] * 50,
        [0.0] * 100,
        zero_share_floor=1e-4,
        distance_from=0.1,
        alpha=0.05,
    )
    by_hand = 0.5 * math.log(2) + (0.5 - 1e-4) * math.log(0.5 / 1e-4)
    # the six empty middle bins have the floor on both sides
    assert got.psi == pytest.approx(by_hand)
    assert got.jensenshannon == pytest.approx(
        scipy.spatial.distance.jensenshannon([0.5, 0.5], [1, 0]), rel=1e-9
    )
    assert got.drifted == (
        "psi",
        "jensenshannon",
        "kl_div",
        "wasserstein_norm",
        "hellinger",
        "ks_p",
    )
    same = sample_scores.scores(
        [2.0] * 5, [2.0] * 9, zero_share_floor=1e-4, distance_from=0.1, alpha=0.05
    )
    assert (same.psi, same.hellinger, same.ks_p, same.drifted) == (0, 0, 1, ())


@pytest.mark.parametrize("is_corrected", [False, True])
@pytest.mark.parametrize("categories", [2, 5])
def test_chi_square_is_scipys(categories: int, is_corrected: bool) -> None:
    r = np.random.default_rng(categories)
    ref, cur = r.integers(categories, size=90).tolist(), r.integers(categories, size=40).tolist()
    table = [[side.count(each) for each in range(categories)] for side in (ref, cur)]
    theirs = scipy.stats.chi2_contingency(table, correction=is_corrected)
    ours = chi_square.from_labels(ref, cur, continuity_correction=is_corrected)
    assert (ours.statistic, ours.p_value) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert ours.df == theirs.dof


def test_chi_square_of_one_category_and_of_none() -> None:
    assert chi_square.from_labels(["a"], ["a", "a"]).p_value == 1
    with pytest.raises(ValueError, match="cur"):
        chi_square.from_labels(["a"], [])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_adjusted_p_is_scipys(p: list[float]) -> None:
    theirs = scipy.stats.false_discovery_control(p)
    assert multiplicity.adjusted(p) == pytest.approx(theirs)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.01, 0.5))
def test_step_up_by_its_definition(p: list[float], q: float) -> None:
    """Reject the k smallest, k the largest rank with p(k) <= q k/m."""
    ranked, m = sorted(p), len(p)
    k = max((i for i in range(1, m + 1) if ranked[i - 1] * (m / i) <= q), default=0)
    got = multiplicity.benjamini_hochberg(p, q=q)
    assert got.rejected_bh == k
    assert got.rejected_bonferroni <= got.rejected_bh <= got.rejected_uncorrected


def test_familywise() -> None:
    got = multiplicity.familywise(20, alpha=0.05)
    assert got.p_at_least_one == pytest.approx(1 - 0.95**20)
    assert 1 - (1 - got.sidak_per_test) ** 20 == pytest.approx(0.05)
    assert got.bonferroni_per_test < got.sidak_per_test


def test_classifier_null_is_that_of_a_fair_coin() -> None:
    got = classifier.null(4000, alpha=0.05)
    exact = scipy.stats.binom.isf(0.05, 4000, 0.5) / 4000
    assert got.accuracy_needed == pytest.approx(exact, abs=3e-4)
    assert got.null_sd == pytest.approx(scipy.stats.binom.std(4000, 0.5) / 4000)
