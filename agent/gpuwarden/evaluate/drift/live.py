"""A live window of one feature against its profile: the p-value and the effect that must agree.

Beside ``feature``, for what comes from nodes: of a feature's own missing values nothing is told there; cells in which
a window of this size has next to nothing are judged together (Cochran 1954: five are expected); and where the sketch
is too coarse for the profile's bins, the mean, which a sketch knows exactly, is tested instead.
"""

import math
from dataclasses import dataclass, replace

from gpuwarden.evaluate.drift import feature, wander
from gpuwarden.evaluate.drift.absence import Absence
from gpuwarden.evaluate.drift.feature import FeatureScore
from gpuwarden.evaluate.drift.findings import DriftSettings
from gpuwarden.evaluate.drift.profile import (
    CategoryProfile,
    CategoryWindow,
    NumericProfile,
    NumericWindow,
)
from gpuwarden.evaluate.drift.wander import Wander

EXPECTED_MIN = 5.0
ONE_ROW_MAX = 0.05
"""Sigmas by which one row alone may move the mean: beyond it the mean says nothing of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveScore:
    """``noise``: the PSI, nats, that windows of this size have of themselves: (cells - 1)(1/n + 1/N)."""

    score: FeatureScore
    noise: float = 0.0
    is_by_mean: bool = False
    mean: float | None = None
    new_share: float | None = None
    length_s: float = 0.0
    """Of the window."""
    absence: Absence | None = None
    """None: nobody tells when it is missing."""

    @property
    def excess(self) -> float:
        """PSI beyond the noise, nats; by the mean its square, which is about as much. What ``wander`` is about."""
        if self.is_by_mean:
            return (self.score.wasserstein_norm or 0.0) ** 2
        return self.score.psi - self.noise


def numbers(
    profile: NumericProfile,
    window: NumericWindow,
    *,
    low: float | None = None,
    high: float | None = None,
    min_rows: int = 100,
) -> LiveScore:
    """``low`` and ``high``: the least and the largest value of the window, where they are known."""
    ref = replace(profile, missing=0)
    cur = replace(window, missing=0)
    ref, cur = _pooled(ref, cur)
    score = feature.of_numbers(ref, cur, min_rows=min_rows)
    seen, whole = sum(cur.counts), sum(ref.counts)
    mean = window.total / seen if seen else None
    noise = (len(ref.counts) - 1) * (1 / seen + 1 / whole) if seen and whole else 0.0
    found = LiveScore(score=score, noise=noise, mean=mean)
    if score.p_value is None and seen >= min_rows and mean is not None:
        return _by_mean(found, profile, mean, low, high)
    return found


def categories(
    profile: CategoryProfile, window: CategoryWindow, *, min_rows: int = 100
) -> LiveScore:
    """Rare categories, new ones and those beyond the profile's are one."""
    seen = sum(window.counts.values()) + window.other
    whole = sum(profile.counts.values()) + profile.other
    kept = {n for n, c in profile.counts.items() if c * seen >= EXPECTED_MIN * whole}
    ref = CategoryProfile(
        counts={n: profile.counts[n] for n in kept},
        other=whole - sum(profile.counts[n] for n in kept),
        missing=0,
    )
    named = {n: c for n, c in window.counts.items() if n in kept}
    cur = CategoryWindow(counts=named, other=seen - sum(named.values()))
    score = feature.of_categories(ref, cur, min_rows=min_rows)
    new = window.other + sum(c for n, c in window.counts.items() if n not in profile.counts)
    return LiveScore(
        score=score,
        noise=len(kept) * (1 / seen + 1 / whole) if seen and whole else 0.0,
        new_share=new / seen if seen else None,
    )


def p_value(found: LiveScore, usual: Wander) -> float | None:
    """The larger of two: as rows of chance, and as a window of a feature that wanders so."""
    if found.score.p_value is None:
        return None
    return max(found.score.p_value, wander.p_value(usual, found.excess, found.score.rows))


def is_material(found: LiveScore, settings: DriftSettings) -> bool:
    """Large enough to matter, beyond what chance alone makes of a window of this size."""
    score = found.score
    moved = score.wasserstein_norm
    if found.is_by_mean:
        return moved is not None and moved >= settings.material_wasserstein_norm
    if score.psi - found.noise < settings.material_psi:
        return False
    if moved is not None:
        return moved >= settings.material_wasserstein_norm
    # near 0 a squared JS distance is an eighth of the PSI, and so is its noise
    return math.sqrt(max(0.0, score.js_distance**2 - found.noise / 8)) >= settings.material_js


def _by_mean(
    found: LiveScore,
    profile: NumericProfile,
    mean: float,
    low: float | None,
    high: float | None,
) -> LiveScore:
    import scipy.special

    rows = found.score.rows
    if not profile.std or low is None or high is None:
        return found
    furthest = max(abs(low - profile.mean), abs(high - profile.mean))
    if furthest > ONE_ROW_MAX * rows * profile.std:
        why = "a single row is so far off that the mean says nothing of the others"
        return replace(found, score=replace(found.score, why_no_p=why))
    spread = profile.std * math.sqrt(1 / rows + 1 / sum(profile.counts))
    p = 2 * float(scipy.special.ndtr(-abs(mean - profile.mean) / spread))
    why = f"{found.score.why_no_p}: judged by the mean"
    return replace(found, score=replace(found.score, p_value=p, why_no_p=why), is_by_mean=True)


def _pooled(ref: NumericProfile, cur: NumericWindow) -> tuple[NumericProfile, NumericWindow]:
    """Bins of which the reference has something, but of which the window expects too little, join their neighbour
    above (the last: below). One of which the reference has nothing stays: that something is there is news."""
    if len(cur.counts) != len(ref.counts):
        raise ValueError("the window is not on this profile's edges: the schema has changed")
    whole, seen = sum(ref.counts), sum(cur.counts)
    if not whole or not seen:
        return ref, cur
    limit = EXPECTED_MIN * whole / seen
    if all(not n or n >= limit for n in ref.counts):
        return ref, cur
    groups: list[list[int]] = [[]]
    for place, n in enumerate(ref.counts):
        groups[-1].append(place)
        held = sum(ref.counts[each] for each in groups[-1])
        if (not n and len(groups[-1]) == 1) or held >= limit:
            groups.append([])
    if not groups[-1]:
        groups.pop()
    held = sum(ref.counts[each] for each in groups[-1])
    if len(groups) > 1 and 0 < held < limit:
        last = groups.pop()
        groups[-1] += last
    return (
        replace(
            ref,
            edges=tuple(ref.edges[group[-1]] for group in groups[:-1]),
            counts=tuple(sum(ref.counts[each] for each in group) for group in groups),
            centres=tuple(_centre(ref, group) for group in groups),
        ),
        replace(cur, counts=tuple(sum(cur.counts[each] for each in group) for group in groups)),
    )


def _centre(ref: NumericProfile, group: list[int]) -> float:
    held = sum(ref.counts[each] for each in group)
    if not held:
        return ref.centres[group[0]]
    return sum(ref.counts[each] * ref.centres[each] for each in group) / held
