"""Sample ratio mismatch: did the arms get the traffic they were promised?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special
import scipy.stats

from gpuwarden.evaluate.inputs import Floats, chance, counts, ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Srm:
    """``chi2`` and ``p_value`` are None without traffic: that is no evidence of a right split."""

    chi2: float | None
    df: int
    p_value: float | None
    srm: bool  # p_value < alpha
    leak: bool  # an arm that was promised nothing has traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A mismatch that is significant and large enough to matter."""

    p_value: float | None
    max_relative_deviation: float | None  # largest |observed/expected - 1|
    chi_square_alarm: bool
    practical_alarm: bool


def chi_square(observed: Sequence[int], expected_ratio: Sequence[float], *, alpha: float) -> Srm:
    """Pearson's chi-square of the counts against the ratio, which need not sum to 1.

    Arms promised nothing leave the sum and the degrees of freedom: traffic in them is a leak, which the
    chi-square cannot see, and has a flag of its own.
    """
    chance(alpha, "alpha")
    n, expected, leak = _expected(observed, expected_ratio)
    df = n.size - 1
    if not n.sum():
        return Srm(chi2=None, df=df, p_value=None, srm=False, leak=leak)
    chi2 = float(((n - expected) ** 2 / expected).sum())
    p = float(scipy.special.chdtrc(df, chi2)) if df else 1.0
    return Srm(chi2=chi2, df=df, p_value=p, srm=p < alpha, leak=leak)


def expected_counts(
    observed: Sequence[int], expected_counts: Sequence[float], *, alpha: float
) -> Srm:
    """The same against expected counts that moved with the shares: sum over periods of traffic x share.

    A bandit moves its shares, so only such a sum is a null hypothesis for it.
    """
    return chi_square(observed, expected_counts, alpha=alpha)


def practical_gate(
    observed: Sequence[int],
    expected_ratio: Sequence[float],
    *,
    alpha: float,
    min_relative_deviation: float,
) -> Gate:
    """Alarm only where the mismatch is also at least ``min_relative_deviation`` of an arm's traffic.

    At twenty million users 0.2 % is significant and harmless (mozilla/experimenter#16011 took 5 %).
    """
    if min_relative_deviation < 0:
        raise ValueError("min_relative_deviation: expected 0 or more")
    found = chi_square(observed, expected_ratio, alpha=alpha)
    n, expected, _ = _expected(observed, expected_ratio)
    deviation = float(np.abs(n / expected - 1).max()) if n.sum() else None
    return Gate(
        p_value=found.p_value,
        max_relative_deviation=deviation,
        chi_square_alarm=found.srm,
        practical_alarm=found.srm and deviation is not None and deviation >= min_relative_deviation,
    )


def exact_binomial(observed: Sequence[int], expected_ratio: Sequence[float]) -> float | None:
    """Two-sided exact p of the first of two counts; None without traffic.

    The sum of the probabilities that are not larger than the observed one: for the few users with which
    the chi-square is not yet right.
    """
    if len(observed) != 2 or len(expected_ratio) != 2:
        raise ValueError("expected two counts and two ratios")
    n, shares = counts(observed, "observed"), ratio(expected_ratio, "expected_ratio")
    if not n.sum():
        return None
    return float(scipy.stats.binomtest(int(n[0]), int(n.sum()), float(shares[0])).pvalue)


def _expected(
    observed: Sequence[int], expected_ratio: Sequence[float]
) -> tuple[Floats, Floats, bool]:
    """Observed and expected counts of the arms that were promised traffic, and whether others have some."""
    n, shares = counts(observed, "observed"), ratio(expected_ratio, "expected_ratio")
    if n.size != shares.size:
        raise ValueError(f"expected as many ratios as counts, got {shares.size} and {n.size}")
    promised = shares > 0
    leak = bool(n[~promised].any())
    n = n[promised]
    return n, n.sum() * shares[promised], leak
