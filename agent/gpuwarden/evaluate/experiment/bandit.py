"""Bernoulli bandits: who is best, what a floor costs, and the least regret there can be."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

from gpuwarden.evaluate.inputs import Floats, positive, sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Lai & Robbins: regret grows at least as ``constant`` x ln T."""

    constant: float
    at_T: float


def exploration_floor(weights: Sequence[float], *, min_share: float) -> tuple[float, ...]:
    """Shares with an additive floor: f + (1 - k f) w, w normalised, f = max(0, ``min_share``).

    Uniform when k f >= 1, and where all weights are 0. Clipping and renormalising instead would push
    shares below the floor again, or favour whom it did not clip.
    """
    w = sample(weights, "weights")
    if (w < 0).any():
        raise ValueError("weights: a weight is negative")
    if not math.isfinite(min_share):
        raise ValueError("min_share: expected a finite number")
    k, floor, total = w.size, max(0.0, min_share), float(w.sum())
    if k * floor >= 1 or total == 0:
        return (1.0 / k,) * k
    return tuple((floor + (1 - k * floor) * (w / total)).tolist())


def probability_better(arm_a: tuple[float, float], arm_b: tuple[float, float]) -> float:
    """P(X_b > X_a) of independent beta posteriors (alpha, beta), parameters above 0.

    E[F_wide(Q_narrow(u))] over uniform u by Gauss-Legendre: the narrower posterior is the one that is
    walked through, so that the other's distribution function changes slowly along the way.
    """
    for name, arm in (("arm_a", arm_a), ("arm_b", arm_b)):
        for value in arm:
            positive(value, name)
    nodes, weights = scipy.special.roots_legendre(600)
    u = (nodes + 1) / 2
    narrow, wide = sorted((arm_a, arm_b), key=_variance)
    x = scipy.special.betaincinv(*narrow, u)
    below = float(weights @ scipy.special.betainc(*wide, x)) / 2  # P(wide < narrow)
    p = below if narrow == arm_b else 1 - below
    if tuple(arm_a) == tuple(arm_b):
        p = 0.5
    return min(1.0, max(0.0, p))


def _variance(arm: tuple[float, float]) -> float:
    a, b = arm
    return a * b / ((a + b) ** 2 * (a + b + 1))


def probability_best(arms: Sequence[tuple[float, float]], *, draws: int, seed: int) -> Floats:
    """Share of ``draws`` posterior draws in which each arm is the largest (ties to the first)."""
    if not arms or draws < 1:
        raise ValueError("expected at least one arm and one draw")
    a, b = np.array(arms, dtype=np.float64).T
    if not (np.isfinite(a) & np.isfinite(b) & (a > 0) & (b > 0)).all():
        raise ValueError("arms: expected parameters above 0")
    drawn = np.random.default_rng(seed).beta(a, b, size=(draws, a.size))
    return np.bincount(drawn.argmax(axis=1), minlength=a.size) / draws


def regret_lower_bound(arm_means: Sequence[float], *, plays: int) -> Bound:
    """Sum over worse arms of (best - mean)/KL(mean, best), Bernoulli; ``plays`` is T."""
    means = sample(arm_means, "arm_means")
    if ((means < 0) | (means > 1)).any():
        raise ValueError("arm_means: expected numbers from 0 to 1")
    if plays < 1:
        raise ValueError(f"T: expected 1 or more, got {plays}")
    best = float(means.max())
    constant = math.fsum(
        (best - mean) / _kl_bernoulli(mean, best) for mean in means.tolist() if mean < best
    )
    return Bound(constant=constant, at_T=constant * math.log(plays))


def _kl_bernoulli(p: float, q: float) -> float:
    """KL(p, q) in nats for p < q; infinite where q is 1, so that arm costs nothing in the long run."""
    if q == 1:
        return math.inf
    zero = p * math.log(p / q) if p else 0.0
    return zero + (1 - p) * (math.log1p(-p) - math.log1p(-q))
