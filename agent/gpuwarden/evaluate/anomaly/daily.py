"""What a series is at each slot of its day, from days with gaps, and how far values are off that.

The deviations it is judged by are those of days that were not learnt from: each day is held against the others, so
that three days say honestly how well three days foretell a fourth.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.anomaly.seasonal import Season
from gpuwarden.evaluate.inputs import Floats

PHI_MAX = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Daily:
    """By slot of the day, unit of the values; NaN where fewer than two days tell."""

    medians: Floats
    spreads: Floats
    """A sigma of normal data, of a day that was not learnt from."""
    phi: float
    """Lag-one correlation of what is left."""

    @property
    def left(self) -> Season:
        """For scores of this: no season is left in them, and their spread is 1."""
        return Season(medians=(0.0,), spread=1.0, phi=self.phi)


def learn(days: npt.ArrayLike, *, least: npt.ArrayLike = 0.0) -> tuple[Daily, Floats]:
    """From days x slots (NaN is missing): the day, and the score of each of those values against the other days.

    ``least``: no spread is below this, of one slot or of all.
    """
    x = np.asarray(days, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] < 2 or np.isinf(x).any():
        raise ValueError("days: expected two or more rows of finite numbers and gaps")
    ranked = np.sort(x, axis=0)  # gaps last
    many = (~np.isnan(x)).sum(axis=0)
    medians = _middle(ranked, many, None)
    ranks = x.argsort(axis=0).argsort(axis=0)
    left = np.where(np.isnan(x), np.nan, x - _middle(ranked, many - 1, ranks))
    known = left[~np.isnan(left)]
    if known.size == 0:
        raise ValueError("days: no slot is told on two days")
    spread = 1.4826 * float(np.median(np.abs(known))) or 1.2533 * float(np.abs(known).mean())
    spreads = np.broadcast_to(np.maximum(spread, least), (x.shape[1],)).astype(np.float64)
    spreads = np.where(spreads > 0, spreads, 1e-9)
    scores = left / spreads
    daily = Daily(
        medians=np.where(many >= 2, medians, np.nan), spreads=spreads, phi=_phi(scores.ravel())
    )
    return daily, np.asarray(scores)


def scores(daily: Daily, values: npt.ArrayLike, *, first_slot: int) -> Floats:
    """Of each value in its slot; NaN where it, or what is usual then, is not known."""
    x = np.asarray(values, dtype=np.float64)
    slots = (first_slot + np.arange(x.size)) % daily.medians.size
    return np.asarray((x - daily.medians[slots]) / daily.spreads[slots])


def _middle(
    ranked: Floats, many: npt.NDArray[np.int_], without: npt.NDArray[np.int_] | None
) -> Floats:
    """Medians of each column's first ``many``; with ``without``, for each value, of the others than itself."""
    low, high = np.maximum(many - 1, 0) // 2, np.maximum(many, 0) // 2
    if without is None:
        columns = np.arange(ranked.shape[1])
        return np.asarray((ranked[low, columns] + ranked[high, columns]) / 2)
    columns = np.broadcast_to(np.arange(ranked.shape[1]), without.shape)
    below = np.minimum(low + (low >= without), len(ranked) - 1)
    above = np.minimum(high + (high >= without), len(ranked) - 1)
    found = (ranked[below, columns] + ranked[above, columns]) / 2
    return np.where(many >= 1, found, np.nan)


def _phi(z: Floats) -> float:
    """A wild value is no sign of correlation, and hides none: scores count up to 4."""
    clipped = np.clip(z, -4.0, 4.0)
    power = np.nanmean(clipped**2)
    pairs = clipped[1:] * clipped[:-1]
    pairs = pairs[~np.isnan(pairs)]
    if not pairs.size or not power > 0:
        return 0.0
    # What so few values say of it is too little, by (1 + 3 phi)/n (Kendall 1954), and one deviation more is allowed.
    phi = float(pairs.mean() / power)
    phi += (1 + 3 * max(phi, 0.0)) / pairs.size + 1 / np.sqrt(pairs.size)
    return float(min(max(phi, 0.0), PHI_MAX))
