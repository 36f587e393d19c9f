"""What a value is usually at this hour, and how far it is from that: a series without its day."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.inputs import Floats, sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Season:
    """Median and spread (a sigma of normal data) by slot of the period, unit of the values."""

    medians: tuple[float, ...]
    spread: float
    phi: float  # lag-one correlation of what is left: how long it stays high


def learn(values: npt.ArrayLike, *, period: int) -> Season:
    """From at least two periods of evenly spaced values, the first of slot 0.

    The spread is 1.4826 MAD of what the slot's median leaves (its mean deviation where that is 0).
    """
    if period < 1:
        raise ValueError(f"period: expected 1 or more, got {period}")
    x = sample(values, "values", at_least=2 * period)
    slots = np.arange(x.size) % period
    medians = np.array([np.median(x[slots == slot]) for slot in range(period)])
    left = x - medians[slots]
    spread = 1.4826 * float(np.median(np.abs(left))) or 1.2533 * float(np.abs(left).mean())
    power = float(left @ left)
    phi = float(left[1:] @ left[:-1]) / power if power else 0.0
    return Season(medians=tuple(medians.tolist()), spread=spread, phi=min(max(phi, 0.0), 0.99))


def scores(season: Season, values: npt.ArrayLike, *, first_slot: int) -> Floats:
    """Robust z of each value in its slot; where nothing ever moved any move scores 1e6, for lack of a sigma."""
    x = sample(values, "values")
    slots = (first_slot + np.arange(x.size)) % len(season.medians)
    left = x - np.array(season.medians)[slots]
    if season.spread == 0:
        return np.where(left == 0, 0.0, np.copysign(1e6, left))
    return np.asarray(left / season.spread)


def window_cut(season: Season, *, window: int, cut: float) -> float:
    """The cut for the mean of ``window`` scores that is as rare as ``cut`` for one.

    Values that stay high are no independent witnesses: the variance of their mean is
    (1 + phi)/(1 - phi)/window of one's, at most all of it.
    """
    if window < 1:
        raise ValueError(f"window: expected 1 or more, got {window}")
    shrink = min(1.0, (1 + season.phi) / (1 - season.phi) / window)
    return float(cut * np.sqrt(shrink))
