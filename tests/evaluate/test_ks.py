"""KS by counting paths, against enumeration of all orders and against scipy."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.evaluate.drift import ks


def every_distance(n1: int, n2: int) -> list[Fraction]:
    """D of each of the C(n1 + n2, n1) orders of two samples without ties."""
    found = []
    for places in combinations(range(n1 + n2), n1):
        first, most = set(places), Fraction(0)
        i = j = 0
        for place in range(n1 + n2):
            i, j = (i + 1, j) if place in first else (i, j + 1)
            most = max(most, abs(Fraction(i, n1) - Fraction(j, n2)))
        found.append(most)
    return found


@pytest.mark.parametrize("n1", range(1, 6))
@pytest.mark.parametrize("n2", range(1, 7))
def test_exact_chance_is_the_share_of_orders(n1: int, n2: int) -> None:
    every = every_distance(n1, n2)
    for d in set(every):
        share = sum(each >= d for each in every) / len(every)
        assert ks.p_exact(float(d), n1, n2) == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.2, 1 / 3])
@pytest.mark.parametrize("sizes", [(1, 1), (1, 7), (2, 2), (3, 3), (2, 6), (4, 6), (5, 8), (6, 7)])
def test_critical_value_by_enumeration(sizes: tuple[int, int], alpha: float) -> None:
    every = every_distance(*sizes)
    values = sorted(set(every))
    tail = {d: Fraction(sum(each >= d for each in every), len(every)) for d in values}
    rare = [d for d in values if tail[d] <= Fraction(alpha) or float(tail[d]) == alpha]
    got = ks.two_sample_critical(*sizes, alpha=alpha)
    if not rare:
        assert got.critical_D is None
        assert got.p_at_critical is None
        return
    assert got.critical_D == pytest.approx(float(rare[0]), abs=1e-12)
    assert got.p_at_critical == pytest.approx(float(tail[rare[0]]), rel=1e-9)
    below = values[values.index(rare[0]) - 1]
    assert got.p_at_next_lower == pytest.approx(float(tail[below]), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_exact_chance_agrees_with_scipy(n1: int, n2: int, seed: int) -> None:
    r = np.random.default_rng(seed)
    a, b = r.normal(size=n1), r.normal(0.5, size=n2)
    theirs = scipy.stats.ks_2samp(a, b, method="exact")
    assert ks.distance(a, b) == pytest.approx(theirs.statistic, abs=1e-12)
    assert ks.p_exact(theirs.statistic, n1, n2) == pytest.approx(theirs.pvalue, rel=1e-9)


def test_large_sample_chance_is_scipys() -> None:
    r = np.random.default_rng(3)
    a, b = r.normal(size=900), r.normal(0.1, size=1100)
    theirs = scipy.stats.ks_2samp(a, b, method="asymp")
    assert ks.p_large_sample(ks.distance(a, b), 900, 1100) == pytest.approx(theirs.pvalue, rel=1e-9)


def test_ties_step_together() -> None:
    assert ks.distance([1, 1, 2, 2], [1, 2, 2, 2]) == 0.25


def test_a_chance_equal_to_alpha_is_critical() -> None:
    assert ks.two_sample_critical(3, 3, alpha=0.1).critical_D == 1.0  # 2 of 20 orders


@pytest.mark.parametrize("n", [1, 5, 40])
def test_one_sample_critical_leaves_alpha(n: int) -> None:
    critical = ks.one_sample_critical(n, alpha=0.03)
    assert float(scipy.stats.kstwo.sf(critical, n)) == pytest.approx(0.03, rel=1e-6)


def test_what_does_not_fit() -> None:
    for wrong in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="alpha"):
            ks.two_sample_critical(5, 5, alpha=wrong)
    with pytest.raises(ValueError, match="samples"):
        ks.two_sample_critical(0, 5, alpha=0.05)
    with pytest.raises(ValueError, match="exact"):
        ks.p_exact(0.5, 10**6, 10**6)
    with pytest.raises(ValueError, match="too few"):
        ks.p_large_sample(1.0, 1, 1)
    with pytest.raises(ValueError, match="NaN"):
        ks.distance([1.0, float("nan")], [1.0])


@pytest.mark.parametrize(
    ("n", "h"), [(1, 1), (2, 1), (7, 3), (12, 12), (40, 11), (300, 1), (300, 31), (300, 200)]
)
def test_of_equal_sizes_the_closed_form_counts_the_same_paths(n: int, h: int) -> None:
    ways = math.comb(2 * n, n)
    terms = (math.comb(2 * n, n - k * h) * (-1) ** (k + 1) for k in range(1, n // h + 1))
    assert ks.p_exact(h / n, n, n) == pytest.approx(float(2 * Fraction(sum(terms), ways)), rel=1e-9)
