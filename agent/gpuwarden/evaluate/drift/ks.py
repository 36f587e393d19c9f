"""Kolmogorov-Smirnov: distances, exact and large-sample chances, critical values.

The exact two-sample chance counts lattice paths (Hodges 1958); it holds for data without ties, and with
ties it is the usual conservative reading.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.special
import scipy.stats

from gpuwarden.evaluate.inputs import Floats, chance, sample

MOST_VALUES = 60_000
"""Values of both samples together up to which paths are counted: a tenth of a second and more."""
NO_LESS = 1 + 1e-12
"""A chance that equals alpha but for rounding is not above it (3 x 3 at alpha 0.1 is exactly 0.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Critical:
    """Reject when D' >= ``critical_D``; all None where even D' = 1 is not rare enough."""

    critical_D: float | None
    p_at_critical: float | None
    p_at_next_lower: float | None


def distance(ref: npt.ArrayLike, cur: npt.ArrayLike) -> float:
    """D: the largest difference of the two empirical distribution functions."""
    a, b = np.sort(sample(ref, "ref")), np.sort(sample(cur, "cur"))
    points = np.concatenate([a, b])
    gap = (
        np.searchsorted(a, points, side="right") / a.size
        - np.searchsorted(b, points, side="right") / b.size
    )
    return float(np.abs(gap).max())


def p_large_sample(d: float, n1: int, n2: int) -> float:
    """P(D' >= d) by the exact one-sample distribution at n = round(n1 n2/(n1 + n2)).

    What scipy's ks_2samp answers for method="asymp"; good from a few dozen values a side.
    """
    n = round(n1 * n2 / (n1 + n2))
    if n < 1:
        raise ValueError(f"{n1} and {n2} values are too few for the large-sample distribution")
    return min(1.0, max(0.0, float(scipy.stats.kstwo.sf(d, n))))


def p_exact(d: float, n1: int, n2: int) -> float:
    """P(D' >= d) of two samples without ties. ValueError where the count would take too long."""
    return _outside(round(d * _lcm(n1, n2)), n1, n2)


def p_two_sample(d: float, n1: int, n2: int) -> float:
    """Exact where both samples hold at most 10,000 values (as scipy's method="auto"), else large-sample."""
    return p_exact(d, n1, n2) if max(n1, n2) <= 10_000 else p_large_sample(d, n1, n2)


def _lcm(n1: int, n2: int) -> int:
    return n1 // math.gcd(n1, n2) * n2


def _outside(m: int, n1: int, n2: int) -> float:
    """Share of lattice paths to (n1, n2) that reach |i/n1 - j/n2| >= m/lcm(n1, n2).

    Along anti-diagonals s = i + j the chance of having reached it obeys
    B(i, j) = i/s B(i-1, j) + j/s B(i, j-1), and is 1 outside the strip, which alone is computed.
    Sums of positive terms: small chances keep all their digits.
    """
    n1, n2 = min(n1, n2), max(n1, n2)
    if n1 < 1 or n1 + n2 > MOST_VALUES:
        raise ValueError(
            f"{n1} and {n2} values: expected 1 or more, {MOST_VALUES} in all for an exact p"
        )
    if m <= 0:
        return 1.0
    up, across = n2 // math.gcd(n1, n2), n1 // math.gcd(n1, n2)
    both = up + across
    if m > _lcm(n1, n2):
        return 0.0
    if n1 == n2:
        return _outside_of_equal(m, n1)
    reached = np.ones(n1 + 2)  # reached[i + 1] is B(i, s - i); outside the strip it stays 1
    reached[1] = 0.0
    first, last = 0, 0
    for s in range(1, n1 + n2 + 1):
        # inside: |i up - (s - i) across| < m, within the grid
        low = max(0, s - n2, (s * across - m) // both + 1)
        high = min(s, n1, -((-s * across - m) // both) - 1)
        i = np.arange(low, high + 1)
        new = ((s - i) * reached[low + 1 : high + 2] + i * reached[low : high + 1]) / s
        reached[first + 1 : last + 2] = 1.0
        reached[low + 1 : high + 2] = new
        first, last = low, high
    return float(reached[n1 + 1])


def _outside_of_equal(h: int, n: int) -> float:
    """The same for samples of one size, in closed form (Gnedenko & Korolyuk 1951), a hundred times as fast:
    2 (C(2n, n-h) - C(2n, n-2h) + ...)/C(2n, n), from the innermost bracket out, so that nothing cancels.
    """
    inner = 0.0
    steps = np.arange(h)
    for k in range(n // h, -1, -1):
        part = float(np.prod((n - k * h - steps) / (n + k * h + steps + 1)))
        inner = part * (1.0 - inner)
    return min(1.0, 2 * inner)


def two_sample_critical(n1: int, n2: int, *, alpha: float) -> Critical:
    """Exact critical value without ties: the smallest D that occurs with P(D' >= D) <= ``alpha``."""
    chance(alpha, "alpha")
    if n1 < 1 or n2 < 1:
        raise ValueError(f"expected samples of 1 or more values, got {n1} and {n2}")
    lcm = _lcm(n1, n2)
    if _outside(lcm, n1, n2) > alpha * NO_LESS:
        return Critical(critical_D=None, p_at_critical=None, p_at_next_lower=None)
    low, high = _bracket(n1, n2, lcm, alpha)
    while high - low > 1:  # P at low is above alpha, P at high is not
        middle = (low + high) // 2
        if _outside(middle, n1, n2) > alpha * NO_LESS:
            low = middle
        else:
            high = middle
    while not _occurs(high, n1, n2):
        high += 1
    while low > 0 and not _occurs(low, n1, n2):
        low -= 1
    return Critical(
        critical_D=high / lcm,
        p_at_critical=_outside(high, n1, n2),
        p_at_next_lower=_outside(low, n1, n2),
    )


def _bracket(n1: int, n2: int, lcm: int, alpha: float) -> tuple[int, int]:
    """Two numbers of steps around the critical one, near the large-sample value where that holds."""
    guess = two_sample_critical_asymptotic(n1, n2, c_alpha=asymptotic_coefficient(alpha))
    width = max(1, math.ceil(2 * lcm / min(n1, n2)))  # the large-sample value is about a step off
    low = max(0, min(lcm - 1, round(guess * lcm)) - width)
    high = min(lcm, low + 2 * width)
    while low > 0 and _outside(low, n1, n2) <= alpha * NO_LESS:
        low, width = max(0, low - 2 * width), 2 * width
    while high < lcm and _outside(high, n1, n2) > alpha * NO_LESS:
        high, width = min(lcm, high + 2 * width), 2 * width
    return low, high


def _occurs(m: int, n1: int, n2: int) -> bool:
    """Can the statistic be exactly m/lcm? A path must touch that distance and stay within it.

    The points a path can reach in column i without leaving the strip are an interval of j.
    """
    g = math.gcd(n1, n2)
    up, across = n2 // g, n1 // g
    lowest = 0
    reach = []
    for i in range(n1 + 1):
        low = max(lowest, -((m - i * up) // across), 0)
        high = min(n2, (i * up + m) // across)
        if low > high:
            return False
        reach.append((low, high))
        lowest = low
    back = [(n2 - high, n2 - low) for low, high in reversed(reach)]  # the strip is symmetric
    for i, ((low, high), (low_back, high_back)) in enumerate(zip(reach, back, strict=True)):
        for distance_at in (m, -m):
            j, rest = divmod(i * up - distance_at, across)
            if rest == 0 and max(low, low_back) <= j <= min(high, high_back):
                return True
    return False


def one_sample_critical(n: int, *, alpha: float) -> float:
    """Exact two-sided one-sample critical value: D with P(D_n > D) = ``alpha``."""
    chance(alpha, "alpha")
    if not 1 <= n <= 10**9:
        raise ValueError(f"n: expected 1 to 1e9, got {n}")
    return float(scipy.stats.kstwo.isf(alpha, n))


def asymptotic_coefficient(alpha: float) -> float:
    """c with P(K > c) = ``alpha`` for the Kolmogorov distribution K."""
    return float(scipy.special.kolmogi(chance(alpha, "alpha")))


def two_sample_critical_asymptotic(n1: int, n2: int, *, c_alpha: float) -> float:
    """Large-sample critical value c_alpha sqrt((n1 + n2)/(n1 n2))."""
    if n1 < 1 or n2 < 1:
        raise ValueError(f"expected samples of 1 or more values, got {n1} and {n2}")
    return c_alpha * math.sqrt((n1 + n2) / (n1 * n2))


def exact_tie_free(ref: Floats, cur: Floats) -> float:
    """P of the two samples' own D by the exact distribution for data without ties."""
    return p_exact(distance(ref, cur), len(ref), len(cur))
