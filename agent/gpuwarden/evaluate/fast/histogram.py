"""Histograms that a service has made itself: what came between two looks, and what many of them say together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gpuwarden.model.evaluation import Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Cumulative:
    """As on a Prometheus page: since the service started, how many values were at most each bound.

    ``bounds`` ascend and end with infinity; ``counts`` never fall from one to the next on an honest page.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float | None = None
    """Sum of the values, where the page says."""

    @property
    def count(self) -> float:
        return self.counts[-1] if self.counts else 0.0


class Break(StrEnum):
    """Why nothing can be said of what came between two looks."""

    RESET = "reset"
    """Counters went back: the service, or a part of it, started afresh."""
    CHANGED = "changed-buckets"


def between(before: Cumulative, after: Cumulative) -> Histogram | Break:
    """What ended between two looks.

    After a reset what came before it and since is lost, a look's worth: Prometheus counts what stands there
    since, but of a sum over label sets of which one has vanished that would be hours in one second.
    """
    if before.bounds != after.bounds:
        return Break.CHANGED
    counts, low = [], 0.0
    for old, new in zip(before.counts, after.counts, strict=True):
        grown = new - old
        if grown < low:
            return Break.RESET
        counts.append(grown - low)
        low = grown
    total = None
    if before.total is not None and after.total is not None:
        total = after.total - before.total
        if total < 0:
            return Break.RESET
    return Histogram(bounds=after.bounds, counts=tuple(counts), total=total)


def merge(histograms: Sequence[Histogram]) -> Histogram | None:
    """One of all, on the edges that all of them have; exact there. ``None`` of none."""
    if not histograms:
        return None
    first = histograms[0].bounds
    if all(each.bounds == first for each in histograms):
        bounds = first
    else:
        bounds = tuple(sorted(set(first).intersection(*(h.bounds for h in histograms[1:]))))
    columns = [_on(each, bounds) for each in histograms]
    totals = [each.total for each in histograms]
    return Histogram(
        bounds=bounds,
        counts=tuple(map(sum, zip(*columns, strict=True))),
        total=None if None in totals else sum(t for t in totals if t is not None),
    )


def _on(histogram: Histogram, bounds: tuple[float, ...]) -> tuple[float, ...]:
    if histogram.bounds == bounds:
        return histogram.counts
    counts, waiting, wanted = [], 0.0, iter(bounds)
    edge = next(wanted, math.inf)
    for bound, number in zip(histogram.bounds, histogram.counts, strict=True):
        waiting += number
        if bound == edge:
            counts.append(waiting)
            waiting, edge = 0.0, next(wanted, math.inf)
    return tuple(counts)


def count(histogram: Histogram) -> float:
    """How many values it holds."""
    return sum(histogram.counts)


def mean(histogram: Histogram) -> float | None:
    """``None`` without values, or where the service does not tell their sum."""
    values = count(histogram)
    return None if values <= 0 or histogram.total is None else histogram.total / values


def quantile(histogram: Histogram, share: float) -> float | None:
    """The ``share`` quantile (0..1); ``None`` without values, or where there is no bucket but the last.

    Linear inside a bucket, as Prometheus' histogram_quantile; the last finite bound where it falls beyond it.
    """
    values = count(histogram)
    if values <= 0 or histogram.bounds == (math.inf,):
        return None
    rank, seen, low = share * values, 0.0, 0.0
    for bound, inside in zip(histogram.bounds, histogram.counts, strict=True):
        if seen + inside >= rank and inside > 0:
            if bound == math.inf:
                return low
            low = min(low, bound)
            return low + (bound - low) * max(0.0, rank - seen) / inside
        seen += inside
        low = low if bound == math.inf else bound
    return low


def share_above(histogram: Histogram, limit: float) -> float | None:
    """Share of the values above ``limit``, linear inside the bucket that holds it; ``None`` without values."""
    values = count(histogram)
    if values <= 0:
        return None
    above, low = 0.0, 0.0
    for bound, inside in zip(histogram.bounds, histogram.counts, strict=True):
        if low >= limit or bound == math.inf:
            above += inside
        elif bound > limit:
            above += inside * (bound - limit) / (bound - low)
        low = bound
    return above / values
