"""Windows and verdicts that nodes send, field by field: validated, and as the model has them.

``Refused`` names the field; it is of one window, those beside it are taken. A series that is not known here (of a
newer node) is left out and counted, and takes nothing else along.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from gpuwarden.errors import Refused
from gpuwarden.model.evaluation import (
    Categories,
    Cohort,
    Colour,
    Histogram,
    Lack,
    Level,
    Missing,
    Sketch,
    Verdict,
    Window,
)
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.v1 import evaluation_pb2 as pb

WINDOWS_MAX = 256
VERDICTS_MAX = 256
SERIES_MAX = 64
"""Of each kind in one window."""
NAMES_MAX = 400
"""Of one feature of names: what a node holds while it counts (``evaluate.fast.categories``)."""
BINS_MAX = 6000
"""Of one sketch: those of 1 % accuracy have at most 5,600 (``evaluate.fast.sketch``)."""
BOUNDS_MAX = 256
LACKS_MAX = 64
DEVICES_MAX = check.DEVICES_MAX
NAME_MAX_CHARS = 128
LENGTH_MIN_S, LENGTH_MAX_S = 0.5, 900.0
VALUE_MAX = 1e18
"""Of any number: sums of a million of them still are numbers."""
KEY_MAX = 100_000
AHEAD_S = 60.0
"""How far a node's clock may be ahead; what is told of a later time would be taken for the newest for ever."""
BEHIND_S = 86_400.0
ACCURACY = 0.01
"""Of every sketch that travels (``evaluate.fast.sketch``): others do not merge with it."""
EDGE_S = 1e-3


class _Named(Protocol):
    name: str


S = TypeVar("S", bound=_Named)
Kinds = Mapping[str, str]
"""By name of a known series, its kind: count, level or spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One window of a node, with where the service ran."""

    sequence: int
    window: Window
    tenant: str = ""
    devices: tuple[str, ...] = ()
    data: bytes = b""
    """As it came, with its tenant and devices; empty: not every series of it was taken."""
    unknown: int = 0
    """Series left out, for they are not known here."""


def from_window(message: pb.ServiceWindow, kinds: Kinds, wall: float) -> Told:
    """``kinds``: the known series; further ones begin with ``feature.`` or ``custom.``."""
    begin = check.number("window.begin_wall", message.begin_wall, wall - BEHIND_S, wall + AHEAD_S)
    length = check.number("window.length_s", message.length_s, LENGTH_MIN_S, LENGTH_MAX_S)
    if abs(begin / length - round(begin / length)) * length > EDGE_S:
        raise Refused(f"window.begin_wall: {begin:g} is no multiple of {length:g} s")
    names = _Names(kinds)
    counts = {
        name: check.number(f"count {name}", each.value, 0.0, VALUE_MAX)
        for each, name in names.of(message.counts, "counts", "count")
    }
    levels = {
        name: _level(each, name) for each, name in names.of(message.levels, "levels", "level")
    }
    histograms = {
        name: _histogram(each, name)
        for each, name in names.of(message.histograms, "histograms", "spread")
    }
    sketches = {
        name: _sketch(each, name) for each, name in names.of(message.sketches, "sketches", "spread")
    }
    categories = {
        name: _categories(each, name)
        for each, name in names.of(message.categories, "categories", "spread")
    }
    check.length("window.lacks", message.lacks, LACKS_MAX)
    check.length("window.devices", message.devices, DEVICES_MAX)
    return Told(
        sequence=check.count("window.sequence", message.sequence, check.SEQUENCE_MAX),
        window=Window(
            cohort=from_cohort(message.cohort),
            begin_wall=begin,
            length_s=length,
            revision=message.revision,
            counts=counts,
            levels=levels,
            histograms=histograms,
            sketches=sketches,
            categories=categories,
            lacks=tuple(_lack(each) for each in message.lacks),
            dropped=check.count("window.dropped", message.dropped, check.SEQUENCE_MAX),
        ),
        tenant=check.text("window.tenant", message.tenant, check.NAME_MAX_CHARS),
        devices=tuple(check.identifier("window.devices", each) for each in message.devices),
        data=b"" if names.unknown else message.SerializeToString(),
        unknown=names.unknown,
    )


def from_cohort(message: pb.Cohort) -> Cohort:
    if not message.service:
        raise Refused("cohort.service: empty")
    values = {
        name: _name(f"cohort.{name}", getattr(message, name))
        for name in ("service", "version", "arm", "segment")
    }
    return Cohort(**values)


def from_verdict(message: pb.GuardrailVerdict, wall: float) -> Verdict:
    """What a node says of its own share of a service."""
    colour = message.colour
    if colour not in tuple(Colour):
        raise Refused(f"verdict.colour: {colour[:32]!r}")
    missing = None
    if message.missing:
        missing = _missing("verdict.missing", message.missing)
    if missing is None and colour == Colour.UNKNOWN:
        raise Refused("verdict.missing: not said, though nothing is known")
    if not message.guardrail:
        raise Refused("verdict.guardrail: empty")
    return Verdict(
        guardrail=_name("verdict.guardrail", message.guardrail),
        cohort=from_cohort(message.cohort),
        colour=Colour(colour),
        since_wall=check.number("verdict.since_wall", message.since_wall, 0.0, wall + AHEAD_S),
        at_wall=check.number("verdict.wall", message.wall, wall - BEHIND_S, wall + AHEAD_S),
        value=_optional(message, "value"),
        limit=_optional(message, "limit"),
        missing=missing,
        severity=check.text("verdict.severity", message.severity, 16),
        summary=check.text("verdict.summary", message.summary, 512),
    )


class _Names:
    """Whether series are what they are said to be, none of them twice."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self.unknown = 0

    def of(self, series: Sequence[S], what: str, kind: str) -> list[tuple[S, str]]:
        found, names = [], set[str]()
        check.length(f"window.{what}", series, SERIES_MAX)
        for each in series:
            name = _name(f"window.{what}", each.name)
            if name in names:
                raise Refused(f"window.{what}: {name} twice")
            names.add(name)
            known = self._kinds.get(name)
            if known is None and name.startswith("feature."):
                known = "spread"
            if known is None and not name.startswith("custom."):
                self.unknown += 1
                continue
            if known is not None and known != kind:
                raise Refused(f"window.{what}: {name} is a {known}")
            found.append((each, name))
        return found


def _name(what: str, value: str) -> str:
    """A name of the other side's choice: printable, not long."""
    if len(value) > NAME_MAX_CHARS or not value.isprintable():
        raise Refused(f"{what}: expected at most {NAME_MAX_CHARS} printable characters")
    return value


def _optional(message: pb.GuardrailVerdict, name: str) -> float | None:
    if not message.HasField(name):  # type: ignore[arg-type]
        return None
    return check.number(f"verdict.{name}", getattr(message, name), -VALUE_MAX, VALUE_MAX)


def _missing(what: str, value: str) -> Missing:
    try:
        return Missing(value)
    except ValueError as error:
        raise Refused(f"{what}: {value[:32]!r}") from error


def _lack(message: pb.SeriesLack) -> Lack:
    return Lack(
        series=_name("lack.series", message.series),
        why=_missing("lack.why", message.why),
        detail=check.text("lack.detail", message.detail, 256),
    )


def _level(message: pb.LevelSeries, name: str) -> Level:
    low, high, last = (
        check.number(f"level {name}", value, -VALUE_MAX, VALUE_MAX)
        for value in (message.low, message.high, message.last)
    )
    if not low <= last <= high:
        raise Refused(f"level {name}: the last, {last:g}, is not between {low:g} and {high:g}")
    count = check.count(f"level {name}", message.count, 10**9)
    if count < 1:
        raise Refused(f"level {name}: no reading")
    slack = 1e-6 * max(1.0, abs(low), abs(high)) * count
    total = check.number(f"level {name}", message.total, low * count - slack, high * count + slack)
    return Level(total=total, count=count, low=low, high=high, last=last)


def _histogram(message: pb.HistogramSeries, name: str) -> Histogram:
    what = f"histogram {name}"
    check.length(what, message.bounds, BOUNDS_MAX)
    if len(message.counts) != len(message.bounds) + 1:
        raise Refused(f"{what}: {len(message.bounds)} bounds and {len(message.counts)} counts")
    before = -math.inf
    for bound in message.bounds:
        check.number(what, bound, -VALUE_MAX, VALUE_MAX)
        if bound <= before:
            raise Refused(f"{what}: bound {bound:g} does not come after {before:g}")
        before = bound
    counts = tuple(check.number(what, count, 0.0, VALUE_MAX) for count in message.counts)
    total = None
    if message.HasField("total"):
        total = check.number(what, message.total, -VALUE_MAX, VALUE_MAX)
    return Histogram(bounds=(*message.bounds, math.inf), counts=counts, total=total)


def _sketch(message: pb.SketchSeries, name: str) -> Sketch:
    what = f"sketch {name}"
    if message.accuracy != ACCURACY:
        raise Refused(f"{what}: accuracy {message.accuracy:g}, expected {ACCURACY:g}")
    bins = _bins(what, message.first, message.bins)
    negatives = _bins(what, message.first_negative, message.negatives)
    count = sum(bins.values()) + sum(negatives.values()) + message.zeros
    check.count(what, count, 2**53)
    low = high = None
    if message.HasField("low") and message.HasField("high"):
        low = check.number(what, message.low, -VALUE_MAX, VALUE_MAX)
        high = check.number(what, message.high, low, VALUE_MAX)
    return Sketch(
        accuracy=ACCURACY,
        bins=bins,
        negatives=negatives,
        zeros=message.zeros,
        total=check.number(what, message.total, -VALUE_MAX, VALUE_MAX),
        low=low,
        high=high,
    )


def _categories(message: pb.CategorySeries, name: str) -> Categories:
    what = f"categories {name}"
    check.length(what, message.names, NAMES_MAX)
    if len(message.counts) != len(message.names) or len(set(message.names)) != len(message.names):
        raise Refused(f"{what}: expected as many counts as names, and each name once")
    names = [_name(what, each) for each in message.names]
    check.count(what, sum(message.counts) + message.other, 2**53)
    return Categories(counts=dict(zip(names, message.counts, strict=True)), other=message.other)


def _bins(what: str, first: int, numbers: Sequence[int]) -> dict[int, int]:
    check.length(what, numbers, BINS_MAX)
    if not -KEY_MAX <= first <= KEY_MAX:
        raise Refused(f"{what}: bin {first}")
    return {first + place: number for place, number in enumerate(numbers) if number}
