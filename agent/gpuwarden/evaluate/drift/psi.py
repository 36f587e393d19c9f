"""Population stability index over bins that the reference alone fixes."""

import math

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.inputs import Floats, sample

MOST_BINS = 100_000


def edges(ref: npt.ArrayLike, bins: int) -> Floats:
    """Inner edges: the quantiles 1/bins .. (bins-1)/bins of ``ref``, linear interpolation.

    The outer bins are open: a value beyond all the reference ever showed still counts.
    """
    if not 1 <= bins <= MOST_BINS:
        raise ValueError(f"bins: expected 1 to {MOST_BINS}, got {bins}")
    return np.quantile(sample(ref, "ref"), np.linspace(0, 1, bins + 1))[1:-1]


def shares(values: npt.ArrayLike, inner: Floats) -> Floats:
    """Share of the values in each bin, closed on the left; one more than there are inner edges."""
    array = sample(values, "values")
    which = np.searchsorted(inner, array, side="right")
    return np.bincount(which, minlength=inner.size + 1) / array.size


def psi(ref_shares: Floats, cur_shares: Floats, *, floor: float) -> float | None:
    """Sum (cur - ref) ln(cur/ref) in nats, each share raised to at least ``floor``, not renormalised.

    The floor is what keeps one empty bin from an index in the hundreds. None where it is 0 and only
    one side of a bin is empty.
    """
    if not 0 <= floor < 1:
        raise ValueError(f"floor: expected 0 to below 1, got {floor:g}")
    a, b = np.maximum(ref_shares, floor), np.maximum(cur_shares, floor)
    used = (a > 0) | (b > 0)
    a, b = a[used], b[used]
    if not (a > 0).all() or not (b > 0).all():
        return None
    total = math.fsum((b - a) * np.log(b / a))
    return max(0.0, total)


def from_samples(
    ref: npt.ArrayLike, cur: npt.ArrayLike, *, bins: int, floor: float
) -> float | None:
    """PSI of two samples over the reference's quantile bins, nats."""
    inner = edges(ref, bins)
    return psi(shares(ref, inner), shares(cur, inner), floor=floor)
