"""Mixture sequential probability ratio test on pairs of normal values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.inputs import chance, finite_or_none, positive, sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Likelihood ratio (None where it overflows) and always-valid p at the asked sizes."""

    likelihood_ratio: tuple[float | None, ...]
    p: tuple[float, ...]
    first_n: int | None  # first number of pairs with p <= alpha


def normal(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    sigma: float,
    tau2: float,
    theta0: float,
    alpha: float,
    at_n: Sequence[int],
) -> Mixture:
    """Johari, Koomen, Pekelis & Walsh 2017, values of known standard deviation ``sigma``.

    After n pairs d = mean(y - x) - theta0, lambda = sqrt(2 s^2/(2 s^2 + n tau2))
    exp(n^2 tau2 d^2/(4 s^2 (2 s^2 + n tau2))), p = running minimum of min(1, 1/lambda). ``at_n``
    counts pairs from 1.
    """
    chance(alpha, "alpha")
    s2, tau = positive(sigma, "sigma") ** 2, positive(tau2, "tau2")
    a, b = sample(x, "x"), sample(y, "y")
    if a.size != b.size:
        raise ValueError(f"expected as many x as y, got {a.size} and {b.size}")
    if any(not 1 <= n <= a.size for n in at_n):
        raise ValueError(f"at_n: expected numbers from 1 to {a.size}")
    n = np.arange(1, a.size + 1)
    d = np.cumsum(b - a) / n - theta0
    log_ratio = 0.5 * np.log(2 * s2 / (2 * s2 + n * tau)) + n * n * tau * d * d / (
        4 * s2 * (2 * s2 + n * tau)
    )
    p = np.minimum.accumulate(np.exp(-np.maximum(log_ratio, 0.0)))
    passed = np.flatnonzero(p <= alpha)
    with np.errstate(over="ignore"):
        return Mixture(
            likelihood_ratio=tuple(finite_or_none(np.exp(log_ratio[k - 1])) for k in at_n),
            p=tuple(float(p[k - 1]) for k in at_n),
            first_n=int(passed[0]) + 1 if passed.size else None,
        )
