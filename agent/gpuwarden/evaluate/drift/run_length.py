"""Average run lengths of control charts: how long until a false alarm, how late for a given shift.

All on independent normal(mu, 1) values; lengths are in values, the alarming one counted. Real series are
autocorrelated, so these are lower bounds of what a chart must be tuned to.
"""

import math

import numpy as np
import scipy.special

from gpuwarden.evaluate.inputs import Floats, positive, within

LONGEST = 1e14  # beyond it the linear system has no digits left in double precision
MOST_NODES = 3000


def k_sigma(mu: float, *, k: float) -> float:
    """Shewhart chart, alarm when |x| > ``k``: 1/P(|x| > k). ``mu`` and ``k`` in sigmas."""
    positive(k, "k")
    p = float(scipy.special.ndtr(-k - mu) + scipy.special.ndtr(-k + mu))
    if p == 0:
        raise ValueError("k: the run is longer than can be computed")
    return 1 / p


def cusum(mu: float, *, k: float, h: float) -> float:
    """Two-sided tabular CUSUM from zero: sums max(0, S + x - k) and max(0, S - x - k), alarm above ``h``.

    1/ARL is the sum of 1/ARL of both sides (Kemp 1961); one side solves Page's integral equation by
    Gauss-Legendre quadrature (Goel & Wu 1971). ``mu``, ``k``, ``h`` in sigmas.
    """
    within(k, 0, 50, "k")
    within(mu, -50, 50, "mu")
    within(positive(h, "h"), 0, 200, "h")
    rate = sum(1 / length for side in (mu, -mu) if (length := _one_sided(side, k, h)) is not None)
    if rate == 0:
        raise ValueError("h: the run is longer than can be computed")
    return 1 / min(rate, 1.0)  # an alarm takes at least one value


def _one_sided(mu: float, k: float, h: float) -> float | None:
    """ARL from zero of max(0, S + x - k) > h; None when it is beyond LONGEST."""
    y, w = _nodes(0.0, h, width=1.0)
    # L(u) = 1 + L(0) P(u + x - k <= 0) + integral of L(y) density(y - u + k - mu) over 0..h
    starts = np.concatenate(([0.0], y))
    matrix = np.empty((starts.size, starts.size))
    matrix[:, 0] = scipy.special.ndtr(k - mu - starts)
    matrix[:, 1:] = w * _density(y[None, :] - starts[:, None] + k - mu)
    return _solve(matrix)


def ewma(mu: float, *, weight: float, limit: float) -> float:
    """EWMA chart z = lambda x + (1 - lambda) z from 0, limits +-L sqrt(lambda/(2-lambda)).

    The integral equation of Crowder 1987 by Gauss-Legendre quadrature; ``weight`` is lambda, ``limit`` is L
    in sigmas of z, ``mu`` in sigmas of x.
    """
    if not 0 < weight <= 1:
        raise ValueError(f"lambda: expected above 0 and at most 1, got {weight:g}")
    within(mu, -50, 50, "mu")
    within(positive(limit, "L"), 0, 30, "L")
    if weight == 1:
        return k_sigma(mu, k=limit)
    edge = limit * math.sqrt(weight / (2 - weight))
    y, w = _nodes(-edge, edge, width=weight)
    starts = np.concatenate(([0.0], y))
    matrix = np.zeros((starts.size, starts.size))
    x = (y[None, :] - (1 - weight) * starts[:, None]) / weight - mu
    matrix[:, 1:] = w * _density(x) / weight
    length = _solve(matrix)
    if length is None:
        raise ValueError("L: the run is longer than can be computed")
    return length


def _nodes(low: float, high: float, *, width: float) -> tuple[Floats, Floats]:
    """Quadrature nodes and weights, about eight to a standard deviation ``width`` of the kernel."""
    number = 48 + math.ceil(8 * (high - low) / width)
    if number > MOST_NODES:
        raise ValueError("the chart is too wide for its step: not computed")
    x, w = scipy.special.roots_legendre(number)
    half = (high - low) / 2
    return np.asarray(low + half * (x + 1)), np.asarray(half * w)


def _density(x: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi))


def _solve(matrix: Floats) -> float | None:
    """First entry of (1 - matrix)^-1 1: the expected steps before absorption, from the first state."""
    try:
        length = float(np.linalg.solve(np.eye(len(matrix)) - matrix, np.ones(len(matrix)))[0])
    except np.linalg.LinAlgError:
        return None
    return length if 1 - 1e-9 <= length < LONGEST else None
