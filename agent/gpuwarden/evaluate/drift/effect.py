"""A p-value beside two effect sizes: with enough rows every difference is significant."""

from dataclasses import dataclass

import numpy.typing as npt

from gpuwarden.evaluate.drift import ks, psi, wasserstein
from gpuwarden.evaluate.inputs import chance, sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Alarm where ``significant`` and ``material`` agree; one of them alone is no drift."""

    D: float
    p_value: float
    significant: bool
    wasserstein_norm: float | None  # sigmas of ref; None where ref is constant
    psi: float | None  # nats
    material: bool


def effect(
    ref: npt.ArrayLike,
    cur: npt.ArrayLike,
    *,
    alpha: float,
    psi_bins: int,
    psi_floor: float,
    material_wasserstein_norm: float,
) -> Effect:
    """Two-sample KS (large-sample p), Wasserstein in sigmas of ``ref``, PSI over its quantile bins.

    A constant reference has no sigma; there any move at all is material.
    """
    chance(alpha, "alpha")
    a, b = sample(ref, "ref"), sample(cur, "cur")
    d = ks.distance(a, b)
    p = ks.p_large_sample(d, a.size, b.size)
    moved = wasserstein.wasserstein(a, b)
    norm = wasserstein.normalised(moved, a)
    return Effect(
        D=d,
        p_value=p,
        significant=p < alpha,
        wasserstein_norm=norm,
        psi=psi.from_samples(a, b, bins=psi_bins, floor=psi_floor),
        material=moved > 0 if norm is None else norm >= material_wasserstein_norm,
    )
