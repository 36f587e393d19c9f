"""Always-valid comparison of two arms: an interval that may be looked at at any time."""

import math
from dataclasses import dataclass
from typing import Literal

import scipy.special

from gpuwarden.evaluate.inputs import chance, within

Metric = Literal["mean", "proportion"]
Difference = Literal["relative", "absolute"]
TUNING_N = 5000
"""Where the interval is tightest, in units of both arms together (GrowthBook's default): 1.55x the width
of one fixed look there, 1.65x at ten times it, 1.97x at a tenth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Sums of one arm; they add up across nodes and time. For a proportion ``total`` counts successes."""

    n: int
    total: float
    sum_squares: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Difference of b from a; None where it does not exist (a relative one to a mean of 0)."""

    point: float | None
    se: float | None
    ci: tuple[float, float] | None
    p_always_valid: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Width:
    """Half-width for se = 1, against that of one fixed look at the same level."""

    rho: float
    width_ratio: float


def rho(*, alpha: float, tuning_n: int) -> float:
    """The mixture's scale: rho^2 = (-2 ln alpha + ln(1 - 2 ln alpha))/tuning_n."""
    chance(alpha, "alpha")
    if tuning_n < 1:
        raise ValueError(f"tuning_N: expected 1 or more, got {tuning_n}")
    return math.sqrt((-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / tuning_n)


def half_width(n: int, *, alpha: float, tuning_n: int) -> float:
    """For se = 1: sqrt(n) sqrt(2 (n r^2 + 1) ln(sqrt(n r^2 + 1)/alpha))/(n r).

    Asymptotic confidence sequences, Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2021.
    """
    if n < 1:
        raise ValueError(f"n: expected 1 or more, got {n}")
    r = rho(alpha=alpha, tuning_n=tuning_n)
    grown = n * r * r + 1
    return math.sqrt(2 * grown * (0.5 * math.log(grown) - math.log(alpha)) / n) / r


def width(n: int, *, alpha: float, tuning_n: int) -> Width:
    """The price of peeking freely at ``n`` units."""
    fixed = -float(scipy.special.ndtri(alpha / 2))
    return Width(
        rho=rho(alpha=alpha, tuning_n=tuning_n),
        width_ratio=half_width(n, alpha=alpha, tuning_n=tuning_n) / fixed,
    )


def compare(
    a: Arm,
    b: Arm,
    *,
    alpha: float,
    tuning_n: int = TUNING_N,
    metric: Metric,
    difference: Difference = "relative",
) -> Comparison:
    """(mean_b - mean_a), divided by mean_a where relative, with its interval and p.

    Variances: sample variance for a mean, m (1 - m) for a proportion; the relative one by the delta
    method, se^2 = v_a m_b^2/(n_a m_a^4) + v_b/(n_b m_a^2). p = min(1, 1/E),
    ln E = r^2 n (point/se)^2/(2 (n r^2 + 1)) - ln(n r^2 + 1)/2, n = n_a + n_b.
    """
    m_a, v_a = _moments(a, metric, "a")
    m_b, v_b = _moments(b, metric, "b")
    r = rho(alpha=alpha, tuning_n=tuning_n)
    if difference == "relative":
        if m_a == 0:
            return Comparison(point=None, se=None, ci=None, p_always_valid=1.0)
        point = (m_b - m_a) / m_a
        se = math.sqrt(v_a / a.n * (m_b / m_a) ** 2 + v_b / b.n) / abs(m_a)
    else:
        point, se = m_b - m_a, math.sqrt(v_a / a.n + v_b / b.n)
    n = a.n + b.n
    half = se * half_width(n, alpha=alpha, tuning_n=tuning_n)
    if not math.isfinite(point) or not math.isfinite(half):
        raise ValueError("the difference is beyond what a float can hold")
    return Comparison(
        point=point, se=se, ci=(point - half, point + half), p_always_valid=_p(point, se, n, r)
    )


def _p(point: float, se: float, n: int, r: float) -> float:
    if point == 0:
        return 1.0
    if se == 0:
        return 0.0
    grown = n * r * r + 1
    log_e = r * r * n * (point / se) ** 2 / (2 * grown) - 0.5 * math.log(grown)
    return min(1.0, math.exp(-log_e)) if log_e > 0 else 1.0


def _moments(arm: Arm, metric: Metric, name: str) -> tuple[float, float]:
    least = 2 if metric == "mean" else 1
    if arm.n < least:
        raise ValueError(f"{name}.n: expected {least} or more, got {arm.n}")
    mean = arm.total / arm.n
    if metric == "proportion":
        within(mean, 0, 1, f"{name}: share of successes")
        return mean, mean * (1 - mean)
    spread = arm.sum_squares - arm.total * mean
    if spread < -1e-9 * abs(arm.sum_squares):
        raise ValueError(f"{name}.sum_squares: smaller than its sum allows")
    return mean, max(0.0, spread) / (arm.n - 1)
