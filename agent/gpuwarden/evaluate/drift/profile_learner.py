"""Profiles of a reference too large for memory, in two passes over it.

The first pass learns what each column is and where its edges are; the second counts on them. Edges come from a
sample of at most ``SAMPLE`` values (all of them where there are no more, and then the profile is that of
``profile.of_numbers``), so that a bin meant to hold a twentieth holds 4.6 to 5.4 %. Counts, means, ends and missing values
are of every row, so an error of the edges is none of a comparison on them.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from gpuwarden.evaluate.drift.profile import (
    CATEGORIES_MAX,
    CategoryProfile,
    NumericProfile,
    edges_of,
)
from gpuwarden.evaluate.drift.profile_parts import Names, Part, Sample, name_of
from gpuwarden.evaluate.inputs import Floats
from gpuwarden.evaluate.quality.table import is_missing

SERIES_MAX = 400
"""Columns times segments: what is kept of each is at most 2 MiB."""
SEGMENTS_MAX = 32
"""As many as a node tells of one service."""
STRAY_SHARE = 0.01
"""Words among numbers, and numbers among words, up to which a column is still the one or the other."""
COVER_LEAST = 0.5
"""Of the rows, that the named categories must hold: else it is an identifier or free text."""
WHOLE = ""
"""The segment of all rows."""


class LeftOut(StrEnum):
    """Why a column has no profile."""

    EMPTY = "empty"
    """Nothing but missing values."""
    MIXED = "mixed"
    """Numbers and words, more than ``STRAY_SHARE`` of each."""
    FLOOD = "flood"
    """Names of which the commonest hold less than ``COVER_LEAST`` of the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """Of one segment. ``notes`` say what was decided of a column that was not clear."""

    rows: int
    features: Mapping[str, NumericProfile | CategoryProfile]
    left_out: Mapping[str, LeftOut]
    notes: Mapping[str, str]


@dataclass(slots=True)
class _Scout:
    """What the first pass knows of one column of one segment."""

    numbers: int = 0
    sample: Sample = field(default_factory=Sample)
    names: Names = field(default_factory=Names)

    def add(self, part: Part) -> None:
        self.numbers += part.numbers.size
        self.sample.add(part.numbers)
        self.names.add(part.names)

    def counter(self) -> "_Numbers | _Categories | LeftOut":
        words, all_told = self.names.total, self.numbers + self.names.total
        if not all_told:
            return LeftOut.EMPTY
        if words <= STRAY_SHARE * all_told:
            return _Numbers(edges=edges_of(self.sample.values()))
        if self.numbers <= STRAY_SHARE * all_told:
            return _Categories(counts=dict.fromkeys(self.names.commonest(CATEGORIES_MAX), 0))
        return LeftOut.MIXED


@dataclass(slots=True)
class _Numbers:
    """The second pass over a column of numbers. Moments are merged batch by batch (Chan et al. 1979)."""

    edges: Floats
    counts: Floats = field(init=False)
    sums: Floats = field(init=False)
    rows: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    missing: int = 0
    words: int = 0
    too_large: int = 0

    def __post_init__(self) -> None:
        self.counts = np.zeros(self.edges.size + 1)
        self.sums = np.zeros(self.edges.size + 1)

    def add(self, part: Part) -> None:
        words = part.names.total()
        self.missing += part.missing + words
        self.words += words
        self.too_large += part.too_large
        x = part.numbers
        if not x.size:
            return
        which = np.searchsorted(self.edges, x, side="right")
        self.counts += np.bincount(which, minlength=self.counts.size)
        self.sums += np.bincount(which, weights=x, minlength=self.counts.size)
        mean, before, self.rows = float(x.mean()), self.rows, self.rows + x.size
        gap = mean - self.mean
        self.squares += float(((x - mean) ** 2).sum()) + gap * gap * before * x.size / self.rows
        self.mean += gap * x.size / self.rows
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))

    def profile(self) -> NumericProfile:
        ends = np.concatenate([self.edges[:1], self.edges])
        centres = np.where(self.counts > 0, self.sums / np.maximum(self.counts, 1), ends)
        is_constant = self.low == self.high
        return NumericProfile(
            edges=tuple(self.edges.tolist()),
            counts=tuple(int(n) for n in self.counts),
            centres=tuple(centres.tolist()),
            missing=self.missing,
            mean=self.low if is_constant else self.mean,
            std=0.0 if is_constant else float(np.sqrt(self.squares / self.rows)),
            low=self.low,
            high=self.high,
        )

    def note(self) -> str:
        notes = []
        if self.words:
            notes.append(f"{self.words} values are no numbers: counted as missing")
        if self.too_large:
            notes.append(f"{self.too_large} values are too large: counted as missing")
        if self.low == self.high:
            notes.append("constant")
        return "; ".join(notes)


@dataclass(slots=True)
class _Categories:
    """The second pass over a column of names: only those of the first are told apart."""

    counts: dict[str, int]
    other: int = 0
    missing: int = 0

    def add(self, part: Part) -> None:
        self.missing += part.missing
        for name, times in part.names.items():
            if name in self.counts:
                self.counts[name] += times
            else:
                self.other += times

    def profile(self) -> CategoryProfile:
        ranked = sorted(self.counts, key=lambda name: (-self.counts[name], name))
        return CategoryProfile(
            counts={name: self.counts[name] for name in ranked if self.counts[name]},
            other=self.other,
            missing=self.missing,
        )

    @property
    def cover(self) -> float:
        named = sum(self.counts.values())
        return named / (named + self.other) if named else 0.0

    def note(self) -> str:
        if not self.other:
            return ""
        return f"the {len(self.counts)} commonest names hold {self.cover:.0%}; the others count together"


class Learner:
    """``scan`` every batch, then ``settle``, then ``count`` every batch again; then ``learned``.

    A batch is of each column in turn its values. Bounded, whatever they are. Mistakes are a ValueError.
    """

    def __init__(
        self,
        header: Sequence[str],
        *,
        columns: Collection[str] = (),
        categories: Collection[str] = (),
        segment_column: str | None = None,
    ) -> None:
        """``columns``: only these (empty: all); ``categories``: names, though they look like numbers or are many."""
        if twice := sorted(name for name, times in Counter(header).items() if times > 1):
            raise ValueError(f"the column {twice[0]!r} is there twice")
        wanted = [*columns, *categories, *([segment_column] if segment_column is not None else [])]
        if unknown := [name for name in wanted if name not in header]:
            raise ValueError(f"no column {unknown[0]!r}")
        self._places = {
            name: place
            for place, name in enumerate(header)
            if name != segment_column and (not columns or name in columns or name in categories)
        }
        if not self._places:
            raise ValueError("no column is left to profile")
        self._categories = frozenset(categories)
        self._segment = None if segment_column is None else list(header).index(segment_column)
        self._rows: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()
        self._scouts: dict[tuple[str, str], _Scout] = {}
        self._counters: dict[tuple[str, str], _Numbers | _Categories | LeftOut] = {}

    def scan(self, batch: Sequence[Any]) -> None:
        """A batch of the first pass."""
        for segment, rows, parts in self._split(batch):
            self._rows[segment] += rows
            if len(self._rows) * len(self._places) > SERIES_MAX:
                raise ValueError(
                    f"{len(self._places)} columns of {len(self._rows)} segments: at most {SERIES_MAX} together; "
                    "name fewer columns"
                )
            if len(self._rows) > SEGMENTS_MAX + 1:
                raise ValueError(f"more than {SEGMENTS_MAX} segments: is it the right column?")
            for name, part in parts:
                self._scouts.setdefault((segment, name), _Scout()).add(part)

    def settle(self) -> None:
        """Between the passes."""
        if not self._rows:
            raise ValueError("an empty reference has no profile")
        for (segment, name), scout in self._scouts.items():
            if name in self._categories and scout.names.total:
                named = dict.fromkeys(scout.names.commonest(CATEGORIES_MAX), 0)
                self._counters[segment, name] = _Categories(counts=named)
            else:
                self._counters[segment, name] = scout.counter()
        self._scouts.clear()

    def count(self, batch: Sequence[Any]) -> None:
        """A batch of the second pass."""
        for segment, rows, parts in self._split(batch):
            self._counted[segment] += rows
            for name, part in parts:
                counter = self._counters.get((segment, name), LeftOut.EMPTY)
                if not isinstance(counter, LeftOut):
                    counter.add(part)

    def learned(self) -> Mapping[str, Learned]:
        """By segment; ``WHOLE`` is all of them together."""
        if self._counted != self._rows:
            raise ValueError("the reference has changed while it was read")
        return {segment: self._of(segment) for segment in sorted(self._rows)}

    def _of(self, segment: str) -> Learned:
        features: dict[str, NumericProfile | CategoryProfile] = {}
        left_out: dict[str, LeftOut] = {}
        notes: dict[str, str] = {}
        for name in self._places:
            counter = self._counters[segment, name]
            if isinstance(counter, LeftOut):
                left_out[name] = counter
            elif (
                isinstance(counter, _Categories)
                and counter.cover < COVER_LEAST
                and name not in self._categories
            ):
                left_out[name] = LeftOut.FLOOD
            else:
                features[name] = counter.profile()
                if note := counter.note():
                    notes[name] = note
        return Learned(rows=self._rows[segment], features=features, left_out=left_out, notes=notes)

    def _split(self, batch: Sequence[Any]) -> Iterable[tuple[str, int, list[tuple[str, Part]]]]:
        """The batch as a whole, and of each segment its rows."""
        columns = {name: batch[place] for name, place in self._places.items()}
        rows = len(batch[0]) if batch else 0
        if not rows:
            return
        yield WHOLE, rows, self._parts(WHOLE, columns)
        if self._segment is None:
            return
        where: dict[str, list[int]] = {}
        for row, value in enumerate(_values(batch[self._segment])):
            segment = WHOLE if is_missing(value) else name_of(value)
            where.setdefault(segment, []).append(row)
        for segment, places in where.items():
            if segment != WHOLE:
                yield (
                    segment,
                    len(places),
                    self._parts(
                        segment, {name: _chosen(values, places) for name, values in columns.items()}
                    ),
                )

    def _parts(self, segment: str, columns: Mapping[str, Any]) -> list[tuple[str, Part]]:
        return [
            (name, Part.of(values, is_named=self._is_named(segment, name)))
            for name, values in columns.items()
        ]

    def _is_named(self, segment: str, name: str) -> bool:
        return name in self._categories or isinstance(
            self._counters.get((segment, name)), _Categories
        )


def _values(column: Any) -> Sequence[Any]:
    return list(column)


def _chosen(column: Any, places: Sequence[int]) -> Any:
    if isinstance(column, np.ndarray):
        return column[list(places)]
    return [column[place] for place in places]
