"""One feature of one window against its profile: a p-value, and how much it matters."""

import math
from dataclasses import dataclass

import numpy as np

from gpuwarden.evaluate.drift import chi_square, divergence, psi
from gpuwarden.evaluate.drift.profile import (
    CategoryProfile,
    CategoryWindow,
    NumericProfile,
    NumericWindow,
)
from gpuwarden.evaluate.inputs import Floats

FLOOR = 1e-4
"""Least share of a bin in PSI and KL: one empty bin is no index in the hundreds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureScore:
    """``p_value`` is None where the window is too small, or the distance within the sketch's own error.

    PSI and KL in nats; JS is the distance, base e; ``wasserstein_norm`` in sigmas of the reference, None for
    categories and for a constant reference.
    """

    rows: int
    p_value: float | None
    psi: float
    kl: float
    js_distance: float
    hellinger: float
    tvd: float
    wasserstein_norm: float | None
    missing_share: float
    why_no_p: str = ""


def of_numbers(ref: NumericProfile, cur: NumericWindow, *, min_rows: int = 100) -> FeatureScore:
    """Chi-square over the bins (missing is one), and the distances between the shares."""
    if len(cur.counts) != len(ref.counts):
        raise ValueError("the window is not on this profile's edges: the schema has changed")
    a = np.array([*ref.counts, ref.missing], dtype=np.float64)
    b = np.array([*cur.counts, cur.missing], dtype=np.float64)
    return _score(
        a, b, missing=cur.missing, slack=cur.slack, min_rows=min_rows, moved=_moved(ref, cur)
    )


def of_categories(
    ref: CategoryProfile, cur: CategoryWindow, *, min_rows: int = 100
) -> FeatureScore:
    """The same over categories; new ones together are one."""
    names = [*ref.counts, *(name for name in cur.counts if name not in ref.counts)]
    a = np.array([*(ref.counts.get(n, 0) for n in names), ref.other, ref.missing], dtype=np.float64)
    b = np.array([*(cur.counts.get(n, 0) for n in names), cur.other, cur.missing], dtype=np.float64)
    return _score(a, b, missing=cur.missing, slack=0.0, min_rows=min_rows, moved=None)


def _score(
    a: Floats, b: Floats, *, missing: int, slack: float, min_rows: int, moved: float | None
) -> FeatureScore:
    rows = int(b.sum())
    p, q = a / a.sum(), b / rows if rows else np.zeros_like(b)
    if not rows:
        return FeatureScore(
            rows=0,
            p_value=None,
            psi=0.0,
            kl=0.0,
            js_distance=0.0,
            hellinger=0.0,
            tvd=0.0,
            wasserstein_norm=None,
            missing_share=0.0,
            why_no_p="no rows",
        )
    tvd = float(np.abs(p - q).sum()) / 2
    why = ""
    if rows < min_rows:
        why = f"{rows} rows, {min_rows} are needed"
    elif slack and float(np.abs(np.cumsum(p - q)).max()) <= 2 * slack:
        why = "the distance is within the sketch's own error"
    filled_p, filled_q = np.maximum(p, FLOOR), np.maximum(q, FLOOR)
    return FeatureScore(
        rows=rows,
        p_value=None if why else _p_value(a, b),
        psi=psi.psi(p, q, floor=FLOOR) or 0.0,
        kl=divergence.kl(filled_p / filled_p.sum(), filled_q / filled_q.sum()),
        js_distance=math.sqrt(divergence.jensen_shannon(p, q)),
        hellinger=divergence.hellinger(p, q),
        tvd=tvd,
        wasserstein_norm=moved,
        missing_share=missing / rows,
        why_no_p=why,
    )


def _p_value(a: Floats, b: Floats) -> float:
    places = range(a.size)
    return chi_square.from_counts(
        {place: int(a[place]) for place in places}, {place: int(b[place]) for place in places}
    ).p_value


def _moved(ref: NumericProfile, cur: NumericWindow) -> float | None:
    """Wasserstein-1 between the bins' centres, at least the move of the mean; sigmas of ref.

    What moves within a bin is seen by the mean alone.
    """
    seen = sum(cur.counts)
    if not ref.std or not seen or not sum(ref.counts):
        return None
    below = np.cumsum(ref.counts)[:-1] / sum(ref.counts) - np.cumsum(cur.counts)[:-1] / seen
    area = float((np.abs(below) * np.diff(ref.centres)).sum())
    return max(area, abs(cur.total / seen - ref.mean)) / ref.std
