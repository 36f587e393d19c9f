"""Layers of anomaly detection on one series: cheap and sharp first, and what each found.

A point far off its hour; a stretch that is a little off for long; both calibrated on the series' own
correlation, so that values that stay high for a while are not taken for many witnesses.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.anomaly import iqr, seasonal
from gpuwarden.evaluate.anomaly.seasonal import Season
from gpuwarden.evaluate.inputs import sample


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSettings:
    """Cuts in robust sigmas; a normal series passes 6 once in 500 million values."""

    point_cut: float = 6.0
    window: int = 30
    window_cut: float = 6.0
    fence_factor: float = 3.0  # Tukey's outer fence, of the window's own values


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomalies:
    """0-based indexes: single values, and ends of windows."""

    points: tuple[int, ...]
    windows: tuple[int, ...]


def find(
    season: Season, values: npt.ArrayLike, *, first_slot: int, settings: LayerSettings
) -> Anomalies:
    """A point counts when it is far off its hour and outside the fences of what surrounds it; a window when
    the mean of its scores is, for values as correlated as these are."""
    z = seasonal.scores(season, sample(values, "values"), first_slot=first_slot)
    far = np.abs(z) > settings.point_cut
    if far.any() and z.size >= 4:
        fenced = iqr.fences(z, inner_factor=1.5, outer_factor=settings.fence_factor)
        odd = set(fenced.extreme_indexes)
        points = tuple(i for i in np.flatnonzero(far).tolist() if i in odd)
    else:
        points = ()
    windows: tuple[int, ...] = ()
    if z.size >= settings.window:
        sums = np.cumsum(
            np.concatenate([[0.0], np.clip(z, -settings.point_cut, settings.point_cut)])
        )
        means = (sums[settings.window :] - sums[: -settings.window]) / settings.window
        cut = seasonal.window_cut(season, window=settings.window, cut=settings.window_cut)
        windows = tuple((np.flatnonzero(np.abs(means) > cut) + settings.window - 1).tolist())
    return Anomalies(points=points, windows=windows)
