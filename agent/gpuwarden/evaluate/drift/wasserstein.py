"""Distances between two one-dimensional samples in the unit of the data."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats

from gpuwarden.evaluate.inputs import sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """``wasserstein`` in the unit of the data; ``wasserstein_norm`` in standard deviations of ref."""

    wasserstein: float
    energy_distance: float
    wasserstein_norm: float | None  # None where ref is constant


def wasserstein(ref: npt.ArrayLike, cur: npt.ArrayLike) -> float:
    """Wasserstein-1: the mean distance by which values must move, unit of the data."""
    return float(scipy.stats.wasserstein_distance(sample(ref, "ref"), sample(cur, "cur")))


def normalised(distance: float, ref: npt.ArrayLike) -> float | None:
    """A distance in population standard deviations of ``ref``; None where ref is constant."""
    values = sample(ref, "ref")
    spread = 0.0 if values.min() == values.max() else float(np.std(values))
    return distance / spread if spread else None


def distances(ref: npt.ArrayLike, cur: npt.ArrayLike) -> Distances:
    """Wasserstein-1, energy distance sqrt(2 E|X-Y| - E|X-X'| - E|Y-Y'|), and the first normalised."""
    a, b = sample(ref, "ref"), sample(cur, "cur")
    moved = wasserstein(a, b)
    return Distances(
        wasserstein=moved,
        energy_distance=float(scipy.stats.energy_distance(a, b)),
        wasserstein_norm=normalised(moved, a),
    )
