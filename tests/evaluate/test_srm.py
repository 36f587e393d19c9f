"""Sample ratio: counts against what was promised."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.evaluate.experiment import srm, srm_sequential

counts = st.lists(st.integers(1, 10_000), min_size=2, max_size=5)


@settings(deadline=None)
@given(counts, st.data())
def test_chi_square_is_scipys(observed: list[int], data: st.DataObject) -> None:
    k = len(observed)
    ratio = data.draw(st.lists(st.floats(0.05, 10), min_size=k, max_size=k))
    expected = np.array(ratio) / sum(ratio) * sum(observed)
    theirs = scipy.stats.chisquare(observed, expected)
    ours = srm.chi_square(observed, ratio, alpha=0.001)
    assert ours.chi2 == pytest.approx(theirs.statistic, rel=1e-9, abs=1e-9)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-6)
    assert ours.df == k - 1


def test_an_arm_without_share_leaves_the_test_and_shows_as_a_leak() -> None:
    quiet = srm.chi_square([500, 510, 0], [1, 1, 0], alpha=0.01)
    leaking = srm.chi_square([500, 510, 9], [1, 1, 0], alpha=0.01)
    assert (quiet.leak, leaking.leak) == (False, True)
    assert quiet.df == 1
    assert quiet.chi2 == leaking.chi2 == srm.chi_square([500, 510], [1, 1], alpha=0.01).chi2


def test_no_traffic_is_no_evidence() -> None:
    got = srm.chi_square([0, 0], [1, 1], alpha=0.05)
    assert (got.chi2, got.p_value, got.srm) == (None, None, False)
    only_leak = srm.chi_square([0, 0, 3], [1, 1, 0], alpha=0.05)
    assert only_leak.leak
    assert only_leak.p_value is None
    assert srm.practical_gate([0, 0], [1, 1], alpha=0.05, min_relative_deviation=0.1) == srm.Gate(
        p_value=None, max_relative_deviation=None, chi_square_alarm=False, practical_alarm=False
    )
    assert srm.exact_binomial([0, 0], [1, 1]) is None


def test_one_promised_arm_cannot_mismatch() -> None:
    got = srm.chi_square([10, 0], [1, 0], alpha=0.05)
    assert (got.df, got.p_value, got.srm) == (0, 1.0, False)


def test_gate_needs_both() -> None:
    small_but_sure = srm.practical_gate(
        [10_020_000, 9_980_000], [1, 1], alpha=0.001, min_relative_deviation=0.05
    )
    large_but_unsure = srm.practical_gate([6, 4], [1, 1], alpha=0.001, min_relative_deviation=0.05)
    assert (small_but_sure.chi_square_alarm, small_but_sure.practical_alarm) == (True, False)
    assert (large_but_unsure.chi_square_alarm, large_but_unsure.practical_alarm) == (False, False)


def test_exact_binomial_by_its_definition() -> None:
    n, p = 17, 0.3
    mass = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    for k in range(n + 1):
        by_hand = sum(m for m in mass if m <= mass[k] * (1 + 1e-7))
        assert srm.exact_binomial([k, n - k], [3, 7]) == pytest.approx(by_hand, rel=1e-9)


def test_dirichlet_factor_averages_to_one_under_the_null() -> None:
    """So it is a martingale, and its inverse may be looked at at any time."""
    null, n = np.array([0.5, 0.3, 0.2]), 6
    total = 0.0
    for counts_ in itertools.product(range(n + 1), repeat=3):
        if sum(counts_) != n:
            continue
        chance = scipy.stats.multinomial.pmf(counts_, n, null)
        p = srm_sequential.dirichlet([counts_], null=null.tolist(), concentration=4.0).p[0]
        total += chance * min(1.0, 1 / p)
    assert total >= 1  # 1/p is max(1, B): B itself averages to 1
    big = srm_sequential.dirichlet([[900, 50, 50]], null=null.tolist(), concentration=4.0)
    assert big.p[0] < 1e-50


def test_dirichlet_false_alarms_over_all_looks() -> None:
    r = np.random.default_rng(2)
    runs = r.binomial(100, 0.5, size=(400, 100))
    alarms = 0
    for run in runs:
        found = srm_sequential.dirichlet(
            [[int(n), 100 - int(n)] for n in run], null=[1, 1], concentration=100
        )
        alarms += found.first_below(0.05) is not None
    assert alarms / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_dirichlet_batches_only_add_up() -> None:
    parts = srm_sequential.dirichlet([[5, 9], [7, 30]], null=[1, 1], concentration=10)
    whole = srm_sequential.dirichlet([[12, 39]], null=[1, 1], concentration=10)
    assert min(parts.p[0], whole.p[0]) == pytest.approx(parts.p[1])


def test_dirichlet_arm_without_share() -> None:
    quiet = srm_sequential.dirichlet([[9, 9, 0]], null=[1, 1, 0], concentration=10)
    leak = srm_sequential.dirichlet([[9, 9, 1]], null=[1, 1, 0], concentration=10)
    assert quiet.p[0] == srm_sequential.dirichlet([[9, 9]], null=[1, 1], concentration=10).p[0]
    assert leak.p == (0.0,)


@pytest.mark.parametrize(
    ("observed", "ratio"),
    [
        ([1, 2], [1]),
        ([-1, 2], [1, 1]),
        ([1, 2], [0, 0]),
        ([1, 2], [1, -1]),
        ([], []),
        ([1.5, 2], [1, 1]),
    ],
)
def test_what_does_not_fit(observed: list[int], ratio: list[float]) -> None:
    with pytest.raises(ValueError, match=r"expected|weight"):
        srm.chi_square(observed, ratio, alpha=0.05)
    with pytest.raises(ValueError, match=r"expected|weight|batches"):
        srm_sequential.dirichlet([observed], null=ratio, concentration=1)
