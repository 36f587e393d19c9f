"""Repeated looks against the exact answers for one and two, and against enumeration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from gpuwarden.evaluate.experiment import peeking


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
def test_one_look_costs_alpha(alpha: float) -> None:
    assert peeking.repeated_significance(1, alpha=alpha) == pytest.approx(alpha, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_two_looks_by_the_bivariate_normal(alpha: float) -> None:
    z = -scipy.stats.norm.ppf(alpha / 2)
    rho = math.sqrt(0.5)
    both = scipy.stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]])
    quiet = both.cdf([z, z]) - both.cdf([-z, z]) - both.cdf([z, -z]) + both.cdf([-z, -z])
    assert peeking.repeated_significance(2, alpha=alpha) == pytest.approx(1 - quiet, abs=1e-5)


def test_many_looks_by_drawn_runs() -> None:
    x = np.random.default_rng(1).normal(size=(20_000, 200)).cumsum(axis=1)
    z = np.abs(x) / np.sqrt(np.arange(1, 201))
    share = (z > scipy.stats.norm.ppf(0.995)).any(axis=1).mean()
    assert peeking.repeated_significance(200, alpha=0.01) == pytest.approx(share, abs=0.008)


@pytest.mark.parametrize("p", [0.5, 0.2])
@pytest.mark.parametrize(("looks", "users"), [(1, 6), (3, 4), (4, 3)])
def test_sample_ratio_by_enumeration(looks: int, users: int, p: float) -> None:
    cut = scipy.stats.chi2.isf(0.1, 1)
    alarmed = 0.0
    for batches in itertools.product(range(users + 1), repeat=looks):
        chance, total, is_alarm = 1.0, 0, False
        for look, count in enumerate(batches, start=1):
            chance *= scipy.stats.binom.pmf(count, users, p)
            total += count
            n = look * users
            is_alarm |= (total - n * p) ** 2 / (n * p * (1 - p)) > cut
        alarmed += chance * is_alarm
    got = peeking.srm(looks, users, alpha=0.1, split=(p, 1 - p))
    assert got == pytest.approx(alarmed, abs=1e-9)


def test_large_batches_are_as_good_as_normal() -> None:
    exact = peeking.srm(12, 79_000, alpha=0.01, split=(1, 1))
    assert exact == pytest.approx(peeking.repeated_significance(12, alpha=0.01), abs=5e-4)
    assert peeking.srm(12, 10**9, alpha=0.01, split=(1, 1)) == pytest.approx(exact, abs=5e-4)


def test_what_does_not_fit() -> None:
    calls: tuple[Callable[[], float], ...] = (
        lambda: peeking.repeated_significance(0, alpha=0.05),
        lambda: peeking.repeated_significance(10**9, alpha=0.05),
        lambda: peeking.repeated_significance(5, alpha=1.0),
        lambda: peeking.srm(5, 0, alpha=0.05, split=(1, 1)),
        lambda: peeking.srm(5, 10, alpha=0.05, split=(1, 0)),
    )
    for call in calls:
        with pytest.raises(ValueError, match="expected"):
            call()
