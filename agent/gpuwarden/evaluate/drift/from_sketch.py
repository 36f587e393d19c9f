"""A DDSketch read on a profile's edges, with what it does not know about them."""

import bisect
import math
from collections.abc import Iterator

from gpuwarden.evaluate.drift.profile import NumericProfile, NumericWindow
from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.model.evaluation import Sketch


def window(profile: NumericProfile, sketch: Sketch, *, missing: int = 0) -> NumericWindow:
    """Counts of the sketch's bins on the profile's.

    What lies in a sketch's bin that an edge cuts is shared out as the reference lies there, so that where nothing
    has changed nothing seems to have. ``slack`` is the largest share of rows of which this is a guess, by which a
    cumulative share may be off: a value that fills the reference's part of such a bin alone (a default, a constant)
    is none.
    """
    counts = [0.0] * (len(profile.edges) + 1)
    slack = 0.0
    rows = sketches.count(sketch)
    beyond = _beyond(profile, sketch)
    if beyond is not None:  # known for certain, however near
        counts[beyond] = rows
        return NumericWindow(counts=_rounded(counts), missing=missing, total=sketch.total)
    for low, high, times in _bins(sketch):
        first, last = _bin(profile.edges, low), _bin(profile.edges, high)
        if first == last:
            counts[first] += times
            continue
        parts = _parts(profile, low, high, first, last)
        for place, part in enumerate(parts, start=first):
            counts[place] += times * part
        slack = max(slack, times * (1 - max(parts)))
    return NumericWindow(
        counts=_rounded(counts),
        missing=missing,
        total=sketch.total,
        slack=slack / rows if rows else 0.0,
    )


def _beyond(profile: NumericProfile, sketch: Sketch) -> int | None:
    """The outer bin in which all rows are, where all are beyond what the reference ever was."""
    if sketch.low is not None and sketch.low > profile.high:
        return len(profile.edges)
    return 0 if sketch.high is not None and sketch.high < profile.low else None


def _bins(sketch: Sketch) -> Iterator[tuple[float, float, int]]:
    """Ends (as near as values may come) and counts."""
    gamma = sketches.gamma_of(sketch.accuracy)
    for key, times in sketch.bins.items():
        yield gamma ** (key - 1), gamma**key, times
    for key, times in sketch.negatives.items():
        yield -(gamma**key), -(gamma ** (key - 1)), times
    if sketch.zeros:
        yield 0.0, 0.0, sketch.zeros


def _parts(profile: NumericProfile, low: float, high: float, first: int, last: int) -> list[float]:
    """What share of the reference between two values lies in each of the profile's bins ``first`` to ``last``; where
    it has nothing there, by the width of each."""
    widths, masses = [], []
    for place in range(first, last + 1):
        start = profile.edges[place - 1] if place else min(profile.low, low)
        end = profile.edges[place] if place < len(profile.edges) else max(profile.high, high)
        inside = max(0.0, min(end, high) - max(start, low))
        width = end - start
        is_point = 0 <= width <= 4 * math.ulp(start)
        widths.append(inside / (high - low))
        masses.append(profile.counts[place] * (1.0 if is_point else inside / width))
    whole = math.fsum(masses)
    if whole > 0:
        return [mass / whole for mass in masses]
    whole = math.fsum(widths)
    return [width / whole for width in widths] if whole > 0 else [1.0] + [0.0] * (last - first)


def _rounded(counts: list[float]) -> tuple[int, ...]:
    """Whole numbers with the same sums from the left, to the nearest."""
    found, before, total = [], 0, 0.0
    for count in counts:
        total += count
        upto = math.floor(total + 0.5)
        found.append(upto - before)
        before = upto
    return tuple(found)


def _bin(edges: tuple[float, ...], value: float) -> int:
    return bisect.bisect_right(edges, value)
