"""Distributions that merge without loss: a DDSketch of fixed relative accuracy (Masson, Rim & Lee 2019).

Written here and not taken from ddsketch 3.0.1: the bins are the wire format, a merge of many is one loop over
them, and the agent carries no dense store. Tests hold it equal to that library, bin for bin.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from gpuwarden.model.evaluation import Sketch

ACCURACY = 0.01
"""Of every sketch that travels: others do not merge with it."""
TINY = 1e-9
"""What is nearer to 0 counts as 0."""
HUGE = 1e15
"""What is larger counts as this: a sketch has at most 5,600 bins, whatever it is told."""
_SLACK = 1e-12
"""A key this little above an integer is that integer: rounding in log()."""


def gamma_of(accuracy: float) -> float:
    """Ratio of a bin's edges."""
    return (1 + accuracy) / (1 - accuracy)


def key_of(value: float, accuracy: float = ACCURACY) -> int:
    """The bin of a positive value: ceil(log_gamma(value))."""
    return math.ceil(math.log(value) / math.log(gamma_of(accuracy)) - _SLACK)


def value_of(key: int, accuracy: float = ACCURACY) -> float:
    """What stands for a bin: 2 gamma^key / (1 + gamma), within ``accuracy`` of every value in it."""
    gamma = gamma_of(accuracy)
    return float(2 * gamma**key / (1 + gamma))


class Builder:
    """A sketch that is being filled. One thread."""

    __slots__ = (
        "_scale",
        "accuracy",
        "bins",
        "count",
        "high",
        "low",
        "negatives",
        "total",
        "zeros",
    )

    def __init__(self, accuracy: float = ACCURACY) -> None:
        self.accuracy = accuracy
        self._scale = 1 / math.log(gamma_of(accuracy))
        self.bins: dict[int, int] = {}
        self.negatives: dict[int, int] = {}
        self.zeros = 0
        self.count = 0
        self.total = 0.0
        self.low = math.inf
        self.high = -math.inf

    def add(self, value: float, times: int = 1) -> None:
        """``ValueError`` for what is not finite."""
        if not -math.inf < value < math.inf:
            raise ValueError(f"{value} is no value")
        if value < self.low:  # noqa: PLR1730  a call of min() costs more than the rest
            self.low = value
        if value > self.high:  # noqa: PLR1730
            self.high = value
        self.count += times
        self.total += value * times
        size = min(abs(value), HUGE)
        if size < TINY:
            self.zeros += times
            return
        key = math.ceil(math.log(size) * self._scale - _SLACK)
        bins = self.bins if value > 0 else self.negatives
        bins[key] = bins.get(key, 0) + times

    def merge(self, sketch: Sketch) -> None:
        """``ValueError`` when the accuracies differ: merged they would hold neither."""
        if sketch.accuracy != self.accuracy:
            raise ValueError(f"sketches of accuracy {self.accuracy} and {sketch.accuracy}")
        for mine, theirs in ((self.bins, sketch.bins), (self.negatives, sketch.negatives)):
            if not mine:
                mine.update(theirs)
                continue
            get = mine.get
            for key, times in theirs.items():
                mine[key] = get(key, 0) + times
        self.zeros += sketch.zeros
        self.count += count(sketch)
        self.total += sketch.total
        if sketch.low is not None and sketch.low < self.low:
            self.low = sketch.low
        if sketch.high is not None and sketch.high > self.high:
            self.high = sketch.high

    def done(self) -> Sketch:
        """What it holds now; it may be filled on."""
        return Sketch(
            accuracy=self.accuracy,
            bins=dict(self.bins),
            negatives=dict(self.negatives),
            zeros=self.zeros,
            total=self.total,
            low=self.low if self.low < math.inf else None,
            high=self.high if self.high > -math.inf else None,
        )


def of(values: Iterable[float], accuracy: float = ACCURACY) -> Sketch:
    """The sketch of some values."""
    builder = Builder(accuracy)
    for value in values:
        builder.add(value)
    return builder.done()


def merge(sketches: Iterable[Sketch]) -> Sketch | None:
    """One of all values; ``None`` of none. ``ValueError`` when accuracies differ."""
    builder: Builder | None = None
    for sketch in sketches:
        builder = builder or Builder(sketch.accuracy)
        builder.merge(sketch)
    return None if builder is None else builder.done()


def count(sketch: Sketch) -> int:
    """How many values it holds."""
    return sum(sketch.bins.values()) + sum(sketch.negatives.values()) + sketch.zeros


def mean(sketch: Sketch) -> float | None:
    """Exact; ``None`` without values."""
    values = count(sketch)
    return sketch.total / values if values else None


def quantile(sketch: Sketch, share: float) -> float | None:
    """The ``share`` quantile (0..1), of rank share x (n-1), within the accuracy; ``None`` without values."""
    values = count(sketch)
    if not values:
        return None
    rank = share * (values - 1)
    found = _at(sketch, rank)
    if sketch.low is not None:
        found = max(found, sketch.low)
    return found if sketch.high is None else min(found, sketch.high)


def _at(sketch: Sketch, rank: float) -> float:
    seen = 0
    for key in sorted(sketch.negatives, reverse=True):
        seen += sketch.negatives[key]
        if seen > rank:
            return -value_of(key, sketch.accuracy)
    seen += sketch.zeros
    if seen > rank:
        return 0.0
    key = 0
    for key in sorted(sketch.bins):
        seen += sketch.bins[key]
        if seen > rank:
            break
    return value_of(key, sketch.accuracy)


def share_above(sketch: Sketch, limit: float) -> float | None:
    """Share of the values above ``limit``, to the nearest edge of a bin; ``None`` without values."""
    values = count(sketch)
    if not values:
        return None
    above = _above(sketch.bins, limit, sketch.accuracy)
    if limit < 0:
        size, within = -limit, sum(sketch.negatives.values())
        beyond = _above(sketch.negatives, size, sketch.accuracy)
        above = sum(sketch.bins.values()) + sketch.zeros + within - beyond
    return above / values


def _above(bins: Mapping[int, int], limit: float, accuracy: float) -> int:
    if limit < TINY:
        return sum(bins.values())
    edge = key_of(limit, accuracy)
    return sum(times for key, times in bins.items() if key > edge)


def thinned(sketch: Sketch, bins_max: int) -> Sketch:
    """The same with at most so many bins a sign: the smallest values share the lowest bin that stays."""
    return replace(
        sketch,
        bins=_thinned(sketch.bins, bins_max),
        negatives=_thinned(sketch.negatives, bins_max),
    )


def _thinned(bins: Mapping[int, int], bins_max: int) -> dict[int, int]:
    keys = sorted(bins)
    if len(keys) <= bins_max:
        return dict(bins)
    kept = keys[-bins_max:]
    few = {key: bins[key] for key in kept}
    few[kept[0]] += sum(bins[key] for key in keys[:-bins_max])
    return few
