"""Online clustering: a row far from every group of rows seen so far, groups that learn as they go."""

from dataclasses import dataclass

import numpy as np

from gpuwarden.evaluate.anomaly.reconstruction import table
from gpuwarden.evaluate.inputs import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """Centres (groups x columns, in the unit of the rows scaled by ``scale``) and their weights."""

    scale: Floats
    centres: Floats
    weights: Floats
    radius: float  # in scaled units; nearer belongs to the group


def start(rows: object, *, radius: float = 4.0) -> Clusters:
    """From reference rows: columns scaled by their deviation, groups made in one pass."""
    x = table(rows)  # type: ignore[arg-type]
    std = x.std(axis=0)
    scale = np.where(std > 0, std, 1.0)
    none = Clusters(
        scale=scale,
        centres=np.empty((0, x.shape[1])),
        weights=np.empty(0),
        radius=radius * float(np.sqrt(x.shape[1])),
    )
    clusters, _ = feed(none, x)
    return clusters


def feed(
    clusters: Clusters, rows: object, *, groups_max: int = 64, fade: float = 0.999
) -> tuple[Clusters, tuple[int, ...]]:
    """The groups after these rows, and the 0-based indexes of rows that started a group of their own.

    A row within ``radius`` of the nearest centre moves it; another starts a group, and the lightest is
    forgotten beyond ``groups_max``. Old rows fade by ``fade`` a row. A group that was started by an
    outlier is normal once it has company: what is new is told once.
    """
    x = table(rows, columns=clusters.scale.size) / clusters.scale  # type: ignore[arg-type]
    centres, weights = clusters.centres.copy(), clusters.weights.copy()
    new = []
    for index, row in enumerate(x):
        weights *= fade
        far = ((centres - row) ** 2).sum(axis=1) if len(centres) else np.empty(0)
        nearest = int(far.argmin()) if far.size else -1
        if nearest >= 0 and far[nearest] <= clusters.radius**2:
            weights[nearest] += 1
            step = 1 / min(weights[nearest], 1000.0)
            centres[nearest] += step * (row - centres[nearest])
            continue
        new.append(index)
        centres, weights = np.vstack([centres, row]), np.append(weights, 1.0)
        if len(weights) > groups_max:
            lightest = int(weights[:-1].argmin())
            centres, weights = np.delete(centres, lightest, axis=0), np.delete(weights, lightest)
    kept = Clusters(scale=clusters.scale, centres=centres, weights=weights, radius=clusters.radius)
    return kept, tuple(new)
