"""Is a table what it is expected to be: columns, kinds, ranges, missing values, new categories, duplicates.

Streaming: rows come in batches and are forgotten; what is kept has a bound, whatever the table holds. Values are what
a reader gives: text of a CSV, or numbers, truths, text and None of a typed file.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

Value = str | float | int | bool | None

MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})
"""Of a text, in small letters."""
_TRUTHS = frozenset({"true", "false", "0", "1", "yes", "no", "t", "f"})
EXAMPLES_MAX = 3
EXAMPLE_CHARS = 40
NEW_CATEGORIES_MAX = 256
KEYS_MAX = 100_000


class Kind(StrEnum):
    """What the values of a column are."""

    NUMBER = "number"
    INTEGER = "integer"
    TRUTH = "truth"
    CATEGORY = "category"
    """One of a set of texts."""
    TEXT = "text"
    """Any text: nothing but missing values is judged."""


class Fault(StrEnum):
    """What can be wrong."""

    MISSING_COLUMN = "missing-column"
    UNKNOWN_COLUMN = "unknown-column"
    REPEATED_COLUMN = "repeated-column"
    RAGGED_ROW = "ragged-row"
    TOO_FEW_ROWS = "too-few-rows"
    WRONG_KIND = "wrong-kind"
    NOT_FINITE = "not-finite"
    TOO_LOW = "too-low"
    TOO_HIGH = "too-high"
    MISSING_VALUE = "missing-value"
    NEW_CATEGORY = "new-category"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What is expected of a column. None: not judged."""

    name: str
    kind: Kind
    low: float | None = None
    high: float | None = None
    categories: frozenset[str] | None = None
    missing_max: float = 0.0
    """Largest share of missing values."""
    wrong_max: float = 0.0
    """Largest share of values of another kind, beyond the range, or of a new category (each on its own)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What is expected of a table."""

    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    """Columns that together name a row; empty: all of them do."""
    duplicates_max: float = 0.0
    rows_min: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFinding:
    """One thing that was found, and how often."""

    fault: Fault
    column: str = ""
    count: float = 0
    share: float | None = None
    """Of the rows; None: it is not about rows."""
    limit: float | None = None
    is_beyond: bool = True
    """More than is allowed. False: told for the record."""
    is_estimate: bool = False
    """From a sample of the keys: there were more than are remembered."""
    first_row: int | None = None
    """Counted from 1, without the header."""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReport:
    """``findings`` are in the order of the columns; well where none is beyond its limit."""

    rows: int
    findings: tuple[TableFinding, ...]

    @property
    def is_well(self) -> bool:
        return not any(each.is_beyond for each in self.findings)


@dataclass(slots=True)
class _Tally:
    """Counts of one fault in one column."""

    count: int = 0
    first_row: int | None = None
    examples: list[str] = field(default_factory=list)

    def add(self, row: int, value: Value) -> None:
        self.count += 1
        if self.first_row is None:
            self.first_row = row
        said = shown(value)
        if len(self.examples) < EXAMPLES_MAX and said not in self.examples:
            self.examples.append(said)


def shown(value: Value) -> str:
    """A value for people: short, one line."""
    text = str(value)[: EXAMPLE_CHARS + 1]
    plain = "".join(each if each.isprintable() else "?" for each in text)
    return plain if len(plain) <= EXAMPLE_CHARS else plain[:EXAMPLE_CHARS] + "..."


def is_missing(value: Value) -> bool:
    """None, not-a-number as a float, and the words that stand for nothing."""
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, str) and value.strip().lower() in MISSING_WORDS


def number_of(value: Value) -> float | None:
    """None: no number. Infinite where it says so."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    text = "" if value is None else value.strip()
    if len(text) > 64 or "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def is_truth(value: Value) -> bool:
    return isinstance(value, bool) or (
        isinstance(value, str | int) and str(value).strip().lower() in _TRUTHS
    )


class TableCheck:
    """Rows in, findings out."""

    def __init__(self, expected: Expectations, header: Sequence[str]) -> None:
        self._expected = expected
        self._header = tuple(header)
        self._place = {name: place for place, name in reversed(list(enumerate(self._header)))}
        self._judged = tuple(
            (self._place[column.name], column)
            for column in expected.columns
            if column.name in self._place
        )
        key = tuple(self._place[name] for name in expected.key if name in self._place)
        has_key = bool(expected.key) and len(key) == len(expected.key)
        self._key = key if has_key else tuple(range(len(self._header)))
        self._tallies: dict[tuple[str, Fault], _Tally] = {}
        self._new: dict[str, dict[str, int]] = {}
        self._ragged = _Tally()
        self._duplicates = Duplicates()
        self.rows = 0

    def add(self, rows: Iterable[Sequence[Value]]) -> None:
        """The next rows."""
        for row in rows:
            self.rows += 1
            if len(row) != len(self._header):
                self._ragged.add(self.rows, f"{len(row)} values")
                continue
            for place, column in self._judged:
                fault = self._fault(column, row[place])
                if fault is not None:
                    self._tally(column.name, fault).add(self.rows, row[place])
            self._duplicates.add(tuple(row[place] for place in self._key), self.rows)

    def _tally(self, name: str, fault: Fault) -> _Tally:
        return self._tallies.setdefault((name, fault), _Tally())

    def _fault(self, column: Column, value: Value) -> Fault | None:
        if is_missing(value):
            return Fault.MISSING_VALUE
        if column.kind in (Kind.NUMBER, Kind.INTEGER):
            return _of_number(column, value)
        if column.kind is Kind.TRUTH:
            return None if is_truth(value) else Fault.WRONG_KIND
        if column.kind is Kind.CATEGORY and column.categories is not None:
            said = str(value)
            if said not in column.categories:
                seen, short = self._new.setdefault(column.name, {}), said[:256]
                if short in seen or len(seen) < NEW_CATEGORIES_MAX:
                    seen[short] = seen.get(short, 0) + 1
                return Fault.NEW_CATEGORY
        return None

    def report(self) -> TableReport:
        """What is known by now."""
        found = [*self._of_header(), *self._of_rows()]
        for column in self._expected.columns:
            for fault in Fault:
                tally = self._tallies.get((column.name, fault))
                if tally is not None:
                    found.append(self._finding(column, fault, tally))
        found += self._duplicates.findings(self._expected.duplicates_max)
        return TableReport(rows=self.rows, findings=tuple(found))

    def _of_header(self) -> list[TableFinding]:
        expected = {column.name for column in self._expected.columns}
        found = [
            TableFinding(fault=Fault.MISSING_COLUMN, column=column.name, count=1)
            for column in self._expected.columns
            if column.name not in self._place
        ]
        unknown = [name for name in self._header if name not in expected]
        found += [
            TableFinding(fault=Fault.UNKNOWN_COLUMN, column=shown(name), count=1)
            for name in unknown[:NEW_CATEGORIES_MAX]
        ]
        repeated = sorted({name for name in self._header if self._header.count(name) > 1})
        return found + [
            TableFinding(fault=Fault.REPEATED_COLUMN, column=shown(name), count=1)
            for name in repeated[:NEW_CATEGORIES_MAX]
        ]

    def _of_rows(self) -> list[TableFinding]:
        found = []
        if self.rows < self._expected.rows_min:
            limit = float(self._expected.rows_min)
            found.append(TableFinding(fault=Fault.TOO_FEW_ROWS, count=self.rows, limit=limit))
        if self._ragged.count:
            found.append(
                TableFinding(
                    fault=Fault.RAGGED_ROW,
                    count=self._ragged.count,
                    share=self._ragged.count / self.rows,
                    limit=0.0,
                    first_row=self._ragged.first_row,
                    examples=tuple(self._ragged.examples),
                )
            )
        return found

    def _finding(self, column: Column, fault: Fault, tally: _Tally) -> TableFinding:
        limit = column.missing_max if fault is Fault.MISSING_VALUE else column.wrong_max
        share = tally.count / self.rows
        examples = tuple(tally.examples)
        if fault is Fault.NEW_CATEGORY:
            seen = self._new[column.name]
            commonest = sorted(seen, key=lambda name: (-seen[name], name))[:EXAMPLES_MAX]
            examples = tuple(f"{shown(name)} ({seen[name]})" for name in commonest)
        return TableFinding(
            fault=fault,
            column=column.name,
            count=tally.count,
            share=share,
            limit=limit,
            is_beyond=share > limit,
            first_row=tally.first_row,
            examples=() if fault is Fault.MISSING_VALUE else examples,
        )


def _of_number(column: Column, value: Value) -> Fault | None:
    number = number_of(value)
    if number is None:
        return Fault.WRONG_KIND
    if not math.isfinite(number):
        return Fault.NOT_FINITE
    if column.kind is Kind.INTEGER and number != math.floor(number):
        return Fault.WRONG_KIND
    if column.low is not None and number < column.low:
        return Fault.TOO_LOW
    if column.high is not None and number > column.high:
        return Fault.TOO_HIGH
    return None


class Duplicates:
    """Rows whose key was there before, in bounded memory.

    Keys are remembered by a hash of 64 bits. When there are too many, only those whose hash ends in one more zero
    bit are kept from then on (adaptive sampling, Flajolet 1990): all rows of one key are in the sample or none, so that
    the share of duplicates among the sampled rows estimates that of all without bias.
    """

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._max = keys_max
        self._rows_by_key: dict[int, int] = {}
        self._mask = 0
        self._first: tuple[int, str] | None = None
        self.rows = 0

    def add(self, key: Sequence[Value], row: int) -> None:
        self.rows += 1
        digest = _digest(key)
        if digest & self._mask:
            return
        before = self._rows_by_key.get(digest, 0)
        if before and self._first is None:
            self._first = (row, ", ".join(shown(value) for value in key[:4]))
        self._rows_by_key[digest] = before + 1
        while len(self._rows_by_key) > self._max:
            self._mask = self._mask << 1 | 1
            self._rows_by_key = {
                digest: rows
                for digest, rows in self._rows_by_key.items()
                if not digest & self._mask
            }

    @property
    def is_sample(self) -> bool:
        return self._mask != 0

    @property
    def share(self) -> float | None:
        """Of the rows, those that repeat a key; None: no rows."""
        rows = sum(self._rows_by_key.values())
        return (rows - len(self._rows_by_key)) / rows if rows else None

    def findings(self, limit: float) -> list[TableFinding]:
        share = self.share
        if not share:
            return []
        count = share * self.rows
        return [
            TableFinding(
                fault=Fault.DUPLICATE,
                count=round(count) if not self.is_sample else count,
                share=share,
                limit=limit,
                is_beyond=share > limit,
                is_estimate=self.is_sample,
                first_row=None if self._first is None else self._first[0],
                examples=() if self._first is None else (self._first[1],),
            )
        ]


def _digest(key: Sequence[Value]) -> int:
    """Of the values with their kinds and lengths: ("ab", "c") is not ("a", "bc"), and 1 is not "1"."""
    hashed = hashlib.blake2b(digest_size=8)
    for value in key:
        said = str(value).encode("utf-8", "surrogatepass")
        hashed.update(f"{type(value).__name__}{len(said)}:".encode())
        hashed.update(said)
    return int.from_bytes(hashed.digest(), "big")


def by_column(report: TableReport) -> Mapping[str, tuple[TableFinding, ...]]:
    """Findings that are about one column."""
    found: dict[str, list[TableFinding]] = {}
    for each in report.findings:
        if each.column:
            found.setdefault(each.column, []).append(each)
    return {name: tuple(findings) for name, findings in found.items()}
