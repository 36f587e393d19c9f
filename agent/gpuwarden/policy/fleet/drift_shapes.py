"""What a profile and a live window look like, side by side, in a few numbers: for people, nothing is judged by it."""

import math
from collections.abc import Iterable, Mapping, Sequence

from gpuwarden.evaluate.drift.profile import (
    CategoryProfile,
    CategoryWindow,
    NumericProfile,
    NumericWindow,
)
from gpuwarden.evaluate.drift.profile_file import Profile
from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.model.drift import FeatureShape, NameShare
from gpuwarden.model.evaluation import Sketch
from gpuwarden.policy.fleet.drift_feature import Feature

STEPS = 20
"""Quantiles from the least to the largest value, one more than this."""
NAMES_MAX = 10
"""Of each of the two."""


def of(ref: Profile, each: Feature) -> FeatureShape | None:
    """None: nothing of the profile's kind has come."""
    if isinstance(ref, CategoryProfile):
        return None if each.categories is None else names(ref, each.categories)
    if each.builder is not None:
        live = quantiles(each.builder.done())
    else:
        live = () if each.numbers is None else _of_counts(ref, each.numbers)
    was = between(ref.low, ref.edges, ref.high, ref.counts)
    return FeatureShape(profile=was, live=live) if live and was else None


def quantiles(sketch: Sketch) -> tuple[float, ...]:
    """At equal steps, within the sketch's accuracy; empty without values."""
    found = [sketches.quantile(sketch, step / STEPS) for step in range(STEPS + 1)]
    return _finite(value for value in found if value is not None)


def between(
    low: float, edges: Sequence[float], high: float, counts: Sequence[int]
) -> tuple[float, ...]:
    """Quantiles of counts on edges; within a bin values are taken to lie evenly."""
    total = sum(counts)
    if total <= 0:
        return ()
    ends = [low, *(min(max(edge, low), high) for edge in edges), high]
    found, seen, place = [], 0, 0
    for step in range(STEPS + 1):
        wanted = total * step / STEPS
        while place < len(counts) - 1 and seen + counts[place] < wanted:
            seen += counts[place]
            place += 1
        part = (wanted - seen) / counts[place] if counts[place] else 0.0
        found.append(ends[place] + min(1.0, part) * (ends[place + 1] - ends[place]))
    return _finite(found)


def names(ref: CategoryProfile, window: CategoryWindow) -> FeatureShape | None:
    """The commonest of either."""
    was = sum(ref.counts.values()) + ref.other
    now = sum(window.counts.values()) + window.other
    if not was or not now:
        return None
    shown = dict.fromkeys((*_commonest(ref.counts), *_commonest(window.counts)))
    return FeatureShape(
        names=tuple(
            NameShare(
                name=name,
                profile=ref.counts.get(name, 0) / was,
                live=window.counts.get(name, 0) / now,
            )
            for name in shown
        )
    )


def _commonest(counts: Mapping[str, int]) -> list[str]:
    return sorted(counts, key=lambda name: (-counts[name], name))[:NAMES_MAX]


def _of_counts(ref: NumericProfile, window: NumericWindow) -> tuple[float, ...]:
    """On the profile's edges nothing is known of how far beyond them the values lie."""
    if len(window.counts) != len(ref.counts):
        return ()
    return between(ref.low, ref.edges, ref.high, window.counts)


def _finite(values: Iterable[float]) -> tuple[float, ...]:
    """All of them, or none."""
    found = tuple(values)
    return found if all(math.isfinite(value) for value in found) else ()
