"""The usual drift scores of two samples over shared equal-width bins, each against its own cut."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.drift import divergence, ks, wasserstein
from gpuwarden.evaluate.inputs import Floats, chance, sample

LEAST_SPREAD = 0.001
"""Floor of the reference's standard deviation, unit of the data (as evidently's normed Wasserstein)."""
MOST_BINS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Distances in the units of ``divergence``; ``drifted`` names those past their cut, in this order."""

    psi: float
    jensenshannon: float
    kl_div: float
    wasserstein_norm: float
    hellinger: float
    ks_p: float
    drifted: tuple[str, ...]


def scores(
    ref: npt.ArrayLike,
    cur: npt.ArrayLike,
    *,
    zero_share_floor: float,
    distance_from: float,
    alpha: float,
) -> Scores:
    """Six scores; bins by Sturges' rule on the pooled sample.

    For PSI and KL an empty bin gets ``zero_share_floor``, or that side's smallest share / 1e6 when that
    share is no larger than the floor. A distance counts as drifted from ``distance_from`` on, the KS p
    below ``alpha``. One cut for unlike distances is evidently's habit: research says do not page on it.
    """
    chance(alpha, "alpha")
    a, b = sample(ref, "ref"), sample(cur, "cur")
    p, q = _shares(a, b)
    p_filled, q_filled = _filled(p, zero_share_floor), _filled(q, zero_share_floor)
    spread = max(float(np.std(a)), LEAST_SPREAD)
    distances = {
        "psi": math.fsum((q_filled - p_filled) * np.log(q_filled / p_filled)),
        "jensenshannon": math.sqrt(divergence.jensen_shannon(p, q)),
        "kl_div": divergence.kl(p_filled / p_filled.sum(), q_filled / q_filled.sum()),
        "wasserstein_norm": wasserstein.wasserstein(a, b) / spread,
        "hellinger": divergence.hellinger(p, q),
    }
    ks_p = ks.p_two_sample(ks.distance(a, b), a.size, b.size)
    drifted = [name for name, value in distances.items() if value >= distance_from]
    return Scores(
        **distances, ks_p=ks_p, drifted=tuple(drifted + (["ks_p"] if ks_p < alpha else []))
    )


def _shares(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    pooled = np.concatenate([a, b])
    low, high = float(pooled.min()), float(pooled.max())
    if not math.isfinite(high - low):
        raise ValueError("the values span more than a float can hold")
    edges = np.histogram_bin_edges(pooled, bins="sturges")
    return np.histogram(a, bins=edges)[0] / a.size, np.histogram(b, bins=edges)[0] / b.size


def _filled(shares: Floats, floor: float) -> Floats:
    if not 0 < floor < 1:
        raise ValueError(f"zero_share_floor: expected a number between 0 and 1, got {floor:g}")
    least = float(shares[shares > 0].min())
    return np.where(shares > 0, shares, least / 1e6 if least <= floor else floor)
