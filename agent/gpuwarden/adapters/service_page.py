"""A service's Prometheus page as series: what stands there now, since the service started.

The page is a stranger's. Lines that say nothing of interest are not looked at; of the others whatever is no number
costs its series (``faults``), never the page, and never more than ``LINES_MAX`` lines.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise

from gpuwarden.adapters.service_maps import (
    FAMILIES,
    IN_FLIGHT_ENDS,
    NOT_SERVED,
    PATHS,
    START,
    Line,
    Where,
)
from gpuwarden.evaluate.fast.histogram import Cumulative
from gpuwarden.evaluate.fast.series import Kind, kind_of

LINES_MAX = 2000
"""Of interest: a service with more label sets than that is refused."""
VALUE_MAX = 1e18
CUSTOM = "configured"
OTHER = "any"
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"', re.ASCII)
# {method="GET",le="0.5"} - a quote inside a value is escaped, so this is the label itself
_LE = re.compile(r'(?:^|[{,\s])le="([^"\\]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class PageReading:
    """One look. Counts and spreads are cumulative, as on the page."""

    at: float
    counts: Mapping[str, float] = field(default_factory=dict)
    levels: Mapping[str, float] = field(default_factory=dict)
    spreads: Mapping[str, Cumulative] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    """Series that stand there and cannot be read, with why."""
    start: float | None = None
    """When the service's process started (Unix seconds), where it says."""
    family: str = ""


@dataclass(slots=True)
class _Use:
    """What one line name is for."""

    line: Line
    family: str
    role: str
    """``value``, ``bucket``, ``sum`` or ``count``."""
    rank: int = 0
    """Of lines of which only the first that is there counts: its place among them, whatever the page's order."""


class PageReader:
    """Reads pages of one service. ``configured`` lines come before those of known servers."""

    def __init__(
        self, configured: Sequence[Line] = (), kinds: Mapping[str, Kind] | None = None
    ) -> None:
        """``kinds``: of custom series."""
        self._kinds = dict(kinds or {})
        self._uses: dict[str, list[_Use]] = {}
        self._ranks: dict[tuple[str, str], int] = {}
        for line in configured:
            self._learn(line, CUSTOM)
        for family, lines in FAMILIES.items():
            for line in lines:
                self._learn(line, family)

    def _learn(self, line: Line, family: str) -> None:
        kind = self._kinds.get(line.series) or kind_of(line.series) or Kind.LEVEL
        roles = {line.metric: "value"}
        if kind is Kind.SPREAD and line.count:
            roles = {line.metric: "sum", line.count: "count"}
        elif kind is Kind.SPREAD:
            roles = {f"{line.metric}_bucket": "bucket", f"{line.metric}_sum": "sum"}
        rank = 0
        if line.is_first:
            rank = self._ranks[family, line.series] = self._ranks.get((family, line.series), -1) + 1
        for name, role in roles.items():
            use = _Use(line=line, family=family, role=role, rank=rank)
            self._uses.setdefault(name, []).append(use)

    def read(self, text: str, at: float) -> PageReading:
        """The page; ``ValueError`` where it holds more lines of interest than any service has."""
        found: _Readings = {}
        start, seen = None, 0
        for row in text.split("\n"):
            name = row.partition("{")[0].partition(" ")[0]
            uses = self._uses.get(name)
            if uses is None:
                if name == START:
                    start = _number(row)
                elif name.endswith(IN_FLIGHT_ENDS) and row[:1] != "#":
                    self._take(found, _OTHER_USE, name, row)
                continue
            seen += 1
            if seen > LINES_MAX:
                raise ValueError(f"more than {LINES_MAX} lines of {name}")
            for use in uses:
                self._take(found, use, name, row)
        return self._reading(found, at, start if start is not None and start > 0 else None)

    def _take(self, found: "_Readings", use: _Use, name: str, row: str) -> None:
        into = found.setdefault((use.family, use.line.series, use.rank), _Found())
        labels = row[len(name) : row.rfind("}") + 1]
        if use.line.where and not _matches(labels, use.line.where):
            into.is_told = True
            return
        if use.family == "plain" and labels and _is_not_served(labels):
            return
        value = _number(row)
        if value is None or (value < 0 and use.role != "value") or abs(value) > VALUE_MAX:
            into.fault = f"{name} is {row[-40:].strip()!r}"
            return
        into.add(use.role, value * (use.line.scale if use.role in ("value", "sum") else 1.0))
        if use.role == "bucket":
            into.bucket(labels, value, use.line.scale, name)

    def _reading(self, found: "_Readings", at: float, start: float | None) -> PageReading:
        families = [family for family in FAMILIES if any(f == family for f, _, _ in found)]
        family = families[0] if families else ""
        counts: dict[str, float] = {}
        levels: dict[str, float] = {}
        spreads: dict[str, Cumulative] = {}
        faults: dict[str, str] = {}
        for source in (OTHER, family, CUSTOM):  # a later one takes the place of an earlier
            for (whose, series), each in _first(found).items():
                if whose != source:
                    continue
                kind = self._kinds.get(series) or kind_of(series) or Kind.LEVEL
                try:
                    if each.fault:
                        raise ValueError(each.fault)
                    if kind is Kind.SPREAD:
                        spreads[series] = each.spread()
                    elif kind is Kind.COUNT:
                        counts[series] = each.not_negative(series)
                    elif each.has_value:
                        levels[series] = each.total
                    faults.pop(series, None)
                except ValueError as error:
                    faults[series] = str(error)
        _complete(counts, spreads)
        return PageReading(
            at=at,
            counts=counts,
            levels=levels,
            spreads=spreads,
            faults=faults,
            start=start,
            family=family,
        )


_Readings = dict[tuple[str, str, int], "_Found"]
"""By server, series, and place among the lines of which the first counts."""


def _first(found: _Readings) -> "dict[tuple[str, str], _Found]":
    """Of lines of one series the first, in the order of the map, that the page says anything with. Two that are on
    one page may count different things: a histogram leaves out what was turned away."""
    chosen: dict[tuple[str, str], _Found] = {}
    for family, series, rank in sorted(found):
        known, each = chosen.get((family, series)), found[family, series, rank]
        if known is None or not known.says_something:
            chosen[family, series] = each
    return chosen


_OTHER_USE = _Use(line=Line(series="in_flight", metric=""), family=OTHER, role="value")


def _complete(counts: dict[str, float], spreads: Mapping[str, Cumulative]) -> None:
    """A counter with labels shows its first failure by its first line: where requests are told, no errors are 0."""
    if "requests" in counts:
        counts.setdefault("errors", 0.0)
    elif "latency_s" in spreads:
        counts["requests"] = spreads["latency_s"].count


class _Found:
    """What a page says of one series, over all label sets."""

    __slots__ = ("buckets", "count", "fault", "has_value", "is_told", "sum", "total")

    def __init__(self) -> None:
        self.buckets: dict[float, float] = {}
        self.count: float | None = None
        self.sum: float | None = None
        self.total = 0.0
        self.has_value = False
        self.is_told = False
        self.fault = ""

    @property
    def says_something(self) -> bool:
        return self.has_value or bool(self.buckets or self.fault) or self.sum is not None

    def add(self, role: str, value: float) -> None:
        if role == "value":
            self.total += value
            self.has_value = True
        elif role == "sum":
            self.sum = (self.sum or 0.0) + value
        elif role == "count":
            self.count = (self.count or 0.0) + value

    def bucket(self, labels: str, value: float, scale: float, name: str) -> None:
        bound = _LE.search(labels)
        try:
            edge = float(bound[1]) if bound is not None else math.nan
        except ValueError:
            edge = math.nan
        if math.isnan(edge):
            self.fault = f"a line of {name} without a bound"
            return
        self.buckets[edge * scale] = self.buckets.get(edge * scale, 0.0) + value

    def not_negative(self, series: str) -> float:
        if self.total < 0:
            raise ValueError(f"{series} is {self.total:g}")
        return self.total

    def spread(self) -> Cumulative:
        if self.buckets:
            bounds = tuple(sorted(self.buckets))
            counts = tuple(self.buckets[bound] for bound in bounds)
            if bounds[-1] != math.inf:
                raise ValueError("no bucket le=+Inf")
            if any(late < early for early, late in pairwise(counts)):
                raise ValueError("buckets that fall")
            return Cumulative(bounds=bounds, counts=counts, total=self.sum)
        if self.count is None or self.sum is None:
            raise ValueError("neither buckets nor a count")
        return Cumulative(bounds=(math.inf,), counts=(self.count,), total=self.sum)


def _number(row: str) -> float | None:
    """The value of a line; ``None`` for what is no finite number."""
    # http_requests_total{code="200"} 1027 1395066363000
    words = row[row.rfind("}") + 1 :].split() if "}" in row else row.split()[1:]
    try:
        value = float(words[0]) if words else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _matches(labels: str, where: Where) -> bool:
    told = dict(_LABEL.findall(labels))
    return all(_any(told.get(name, ""), patterns) for name, patterns in where)


def _is_not_served(labels: str) -> bool:
    if not any(path in labels for path in PATHS):
        return False
    told = dict(_LABEL.findall(labels))
    return any(_any(told[path], NOT_SERVED) for path in PATHS if path in told)


def _any(value: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns)
