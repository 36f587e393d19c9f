"""Divergences between two vectors of shares; names say which logarithm, for a JS of 0.1 may mean two things."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.inputs import Floats, sample

Band = Literal["stable", "moderate", "major"]
SUM_TOLERANCE = 1e-6
"""How far shares may sum from 1: what rounding to seven digits leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergences:
    """All in nats but the distances, Hellinger and total variation (0..1)."""

    psi: float
    kl_ref_to_cur: float
    kl_cur_to_ref: float
    js_divergence: float
    js_distance_base_e: float
    js_distance_base_2: float
    hellinger: float
    tvd: float
    band: Band


def kl(p: Floats, q: Floats) -> float:
    """Sum p ln(p/q), nats; terms with p = 0 are 0. ``q`` must not be 0 where ``p`` is not."""
    used = p > 0
    return max(0.0, math.fsum(p[used] * np.log(p[used] / q[used])))


def jensen_shannon(p: Floats, q: Floats) -> float:
    """Mean of the divergences from the mixture, nats, at most ln 2; zeros are allowed."""
    middle = (p + q) / 2
    return (kl(p, middle) + kl(q, middle)) / 2


def hellinger(p: Floats, q: Floats) -> float:
    """sqrt(1 - sum sqrt(p q)), written so that equal shares give exactly 0."""
    return math.sqrt(math.fsum((np.sqrt(p) - np.sqrt(q)) ** 2) / 2)


def band(psi: float, *, moderate_from: float, major_from: float) -> Band:
    """Which band a PSI (nats) is in; both bounds belong to the band they start."""
    if psi >= major_from:
        return "major"
    return "moderate" if psi >= moderate_from else "stable"


def divergences(
    ref_shares: npt.ArrayLike,
    cur_shares: npt.ArrayLike,
    *,
    moderate_from: float = 0.1,
    major_from: float = 0.25,
) -> Divergences:
    """All divergences of two share vectors without zeros, each summing to 1.

    The bands 0.1 and 0.25 are the usual reading of a PSI (Siddiqi 2006).
    """
    p, q = sample(ref_shares, "ref_shares"), sample(cur_shares, "cur_shares")
    if p.size != q.size:
        raise ValueError(f"expected as many shares on both sides, got {p.size} and {q.size}")
    for name, vector in (("ref_shares", p), ("cur_shares", q)):
        if (vector <= 0).any():
            raise ValueError(f"{name}: a share is 0 or negative; raise it to a floor first")
        if abs(float(vector.sum()) - 1) > SUM_TOLERANCE:
            raise ValueError(f"{name}: the shares sum to {float(vector.sum()):.9g}, not to 1")
    psi = max(0.0, math.fsum((q - p) * np.log(q / p)))
    js = jensen_shannon(p, q)
    return Divergences(
        psi=psi,
        kl_ref_to_cur=kl(p, q),
        kl_cur_to_ref=kl(q, p),
        js_divergence=js,
        js_distance_base_e=math.sqrt(js),
        js_distance_base_2=math.sqrt(js / math.log(2)),
        hellinger=hellinger(p, q),
        tvd=math.fsum(np.abs(p - q)) / 2,
        band=band(psi, moderate_from=moderate_from, major_from=major_from),
    )
