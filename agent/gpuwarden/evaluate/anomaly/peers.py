"""This device behaves unlike its peers: the same work, another number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from gpuwarden.evaluate.inputs import Floats, finite_or_none


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlike:
    """A device whose median over the windows is off its peers'; z in robust sigmas of the peers."""

    device: str
    z: float
    value: float
    peers: float


def unlike(
    series: Mapping[str, Sequence[float | None]],
    *,
    cut: float = 6.0,
    min_peers: int = 4,
    min_windows: int = 5,
    least_spread: float = 0.02,
) -> tuple[Unlike, ...]:
    """Devices unlike the median of the others, the furthest first.

    ``series`` are the same windows of every device of one kind at one kind of work; None is missing.
    The spread is 1.4826 MAD over devices, never below ``least_spread`` of the peers' median: eight
    boards that agree to a digit must not make a ninth an outlier. One odd window does nothing.
    """
    medians: dict[str, float] = {}
    for device, values in series.items():
        known = [v for v in values if v is not None and finite_or_none(v) is not None]
        if len(known) >= min_windows:
            medians[device] = float(median(known))
    if len(medians) - 1 < max(min_peers, 1):
        return ()
    every = np.array(list(medians.values()))
    centres = _of_others(every)
    spreads = np.empty_like(every)
    for centre in np.unique(centres):  # three at most: the middle, and its neighbours
        its = centres == centre
        spreads[its] = 1.4826 * _of_others(np.abs(every - centre))[its]
    spreads = np.maximum(np.maximum(spreads, least_spread * np.abs(centres)), 1e-12)
    z = (every - centres) / spreads
    names = list(medians)
    found = [
        Unlike(device=names[i], z=float(z[i]), value=float(every[i]), peers=float(centres[i]))
        for i in np.flatnonzero(np.abs(z) > cut)
    ]
    return tuple(sorted(found, key=lambda each: (-abs(each.z), each.device)))


def _of_others(values: Floats) -> Floats:
    """For each of two or more, the median of the others."""
    order = values.argsort(kind="stable")
    ranked, ranks = values[order], np.empty(values.size, dtype=int)
    ranks[order] = np.arange(values.size)
    low, high = (values.size - 2) // 2, (values.size - 1) // 2
    return np.asarray((ranked[low + (low >= ranks)] + ranked[high + (high >= ranks)]) / 2)
