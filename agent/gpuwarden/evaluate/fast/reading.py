"""The value of an expression in a window, with how much it stands on; or why there is none."""

import math
from dataclasses import dataclass

from gpuwarden.evaluate.fast import histogram as histograms
from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.evaluate.fast.expression import (
    QUANTILES,
    Expression,
    Name,
    Node,
    Number,
    Of,
    Pair,
    Past,
)
from gpuwarden.model.evaluation import Histogram, Lack, Missing, Sketch, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A number. ``support``: how many requests, values or readings it stands on; infinity where that says nothing.

    ``events`` of ``trials`` where it is a share of counts: what a test of shares needs.
    """

    value: float
    support: float = math.inf
    events: float | None = None
    trials: float | None = None


class _Nothing(Exception):
    """There is no number here."""

    def __init__(self, why: Missing, series: str, detail: str = "") -> None:
        super().__init__(series)
        self.lack = Lack(series=series, why=why, detail=detail)


def read(
    expression: Expression, window: Window | None, past: Window | None = None
) -> Reading | Lack:
    """The value; a ``Lack`` names the series for which there is none."""
    if window is None:
        return Lack(series=min(expression.series, default=""), why=Missing.NO_DATA)
    try:
        found = _read(expression.root, window, past)
    except _Nothing as nothing:
        return nothing.lack
    if not math.isfinite(found.value):
        return Lack(series=expression.text, why=Missing.UNREADABLE, detail="not finite")
    return found


def _read(node: Node, window: Window, past: Window | None) -> Reading:
    match node:
        case Number(value=value):
            return Reading(value=value)
        case Name(series=name):
            return _plain(name, window)
        case Of():
            return _of(node, window)
        case Past():
            return _against(node, window, past)
        case Pair():
            return _pair(node, _read(node.left, window, past), _read(node.right, window, past))


def _absent(name: str, window: Window) -> _Nothing:
    for lack in window.lacks:
        if lack.series in (name, ""):
            return _Nothing(lack.why, name, lack.detail)
    has_any = window.counts or window.levels or window.histograms or window.sketches
    return _Nothing(Missing.UNKNOWN_SERIES if has_any else Missing.NO_DATA, name)


def _plain(name: str, window: Window) -> Reading:
    number = window.counts.get(name)
    if number is not None:
        return Reading(value=number, support=number)
    level = window.levels.get(name)
    if level is not None and level.count:
        return Reading(value=level.total / level.count, support=level.count)
    raise _absent(name, window)


def _of(node: Of, window: Window) -> Reading:
    name, function = node.series, node.function
    if function == "rate":
        return Reading(value=_plain(name, window).value / window.length_s)
    level = window.levels.get(name)
    if level is not None and level.count and function in ("mean", "min", "max", "last"):
        told = {"mean": level.total / level.count, "min": level.low, "max": level.high}
        return Reading(value=told.get(function, level.last), support=level.count)
    spread = _spread(name, window)
    value, support = (
        _of_sketch(node, spread) if isinstance(spread, Sketch) else _of_histogram(node, spread)
    )
    if support <= 0:
        raise _Nothing(Missing.TOO_FEW, name, "no values")
    if value is None:
        raise _Nothing(Missing.UNKNOWN_SERIES, name, f"its histogram does not tell {function}")
    return Reading(value=value, support=support)


def _spread(name: str, window: Window) -> Sketch | Histogram:
    """Where a service tells it in both ways, the one that has more values: they are the same requests."""
    sketch, histogram = window.sketches.get(name), window.histograms.get(name)
    if sketch is None and histogram is None:
        raise _absent(name, window)
    if histogram is None or (
        sketch is not None and sketches.count(sketch) >= histograms.count(histogram)
    ):
        assert sketch is not None
        return sketch
    return histogram


def _of_sketch(node: Of, sketch: Sketch) -> tuple[float | None, float]:
    support = float(sketches.count(sketch))
    if (share := QUANTILES.get(node.function)) is not None:
        return sketches.quantile(sketch, share), support
    if node.function in ("above", "below"):
        above = sketches.share_above(sketch, node.limit)
        return _side(node.function, above), support
    told = {"mean": sketches.mean(sketch), "min": sketch.low, "max": sketch.high}
    return told.get(node.function), support


def _of_histogram(node: Of, histogram: Histogram) -> tuple[float | None, float]:
    support = histograms.count(histogram)
    if (share := QUANTILES.get(node.function)) is not None:
        return histograms.quantile(histogram, share), support
    if node.function in ("above", "below"):
        return _side(node.function, histograms.share_above(histogram, node.limit)), support
    return (histograms.mean(histogram) if node.function == "mean" else None), support


def _side(function: str, above: float | None) -> float | None:
    if above is None or function == "above":
        return above
    return 1.0 - above


def _against(node: Past, window: Window, past: Window | None) -> Reading:
    now = _read(node.inner, window, None)
    if past is None:
        raise _Nothing(Missing.TOO_FEW, "", "nothing to compare with yet")
    was = _read(node.inner, past, None)
    support = min(now.support, was.support)
    if node.function == "drop":
        return Reading(value=was.value - now.value, support=support)
    if was.value <= 0:
        raise _Nothing(Missing.TOO_FEW, "", "it was nothing before")
    return Reading(value=now.value / was.value, support=support)


def _pair(node: Pair, left: Reading, right: Reading) -> Reading:
    support = min(left.support, right.support)
    match node.sign:
        case "+":
            return Reading(value=left.value + right.value, support=support)
        case "-":
            return Reading(value=left.value - right.value, support=support)
        case "*":
            return Reading(value=left.value * right.value, support=support)
    if right.value == 0:
        raise _Nothing(Missing.TOO_FEW, _first_name(node.right), "none to divide by")
    if isinstance(node.right, Number):
        return Reading(value=left.value / right.value, support=left.support)
    is_share = isinstance(node.left, Name) and isinstance(node.right, Name)
    return Reading(
        value=left.value / right.value,
        support=right.support,
        events=left.value if is_share else None,
        trials=right.value if is_share else None,
    )


def _first_name(node: Node) -> str:
    match node:
        case Name(series=name) | Of(series=name):
            return name
        case Pair(left=left, right=right):
            return _first_name(left) or _first_name(right)
    return ""
