"""What to expect of a table, learned from one that was good, and as a file that people edit.

{"columns": [{"name": "age", "kind": "integer", "low": 0, "high": 120, "missing_max": 0.01},
             {"name": "site", "kind": "category", "categories": ["a", "b"]}],
 "key": ["id"], "duplicates_max": 0, "rows_min": 100}
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuwarden.evaluate.quality.table import (
    Column,
    Duplicates,
    Expectations,
    Kind,
    Value,
    is_missing,
    is_truth,
    number_of,
)

CATEGORIES_MAX = 100
"""More different texts than this, or different ones in more than half of the rows, are no categories."""
COLUMNS_MAX = 10_000
TEXT_MAX_CHARS = 16 << 20
SLACK = 0.01
"""A share that was 0 in the good table may be this much in another: a first missing value is no alarm."""


@dataclass(slots=True)
class _Seen:
    """One column of a good table."""

    count: int = 0
    missing: int = 0
    numbers: int = 0
    integers: int = 0
    truths: int = 0
    low: float = math.inf
    high: float = -math.inf
    texts: set[str] | None = field(default_factory=set)


class Learner:
    """Rows of a good table in, expectations out. Bounded, as the check is."""

    def __init__(self, header: Sequence[str]) -> None:
        self._header = tuple(header)
        self._seen = [_Seen() for _ in self._header]
        self._duplicates = Duplicates()

    def add(self, rows: Iterable[Sequence[Value]]) -> None:
        """Rows of another length than the header's are left out."""
        for row in rows:
            if len(row) != len(self._header):
                continue
            self._duplicates.add(tuple(row), self._duplicates.rows + 1)
            for seen, value in zip(self._seen, row, strict=True):
                _add(seen, value)

    def expectations(self) -> Expectations:
        """Ranges are those that were seen; a share may be twice what it was, and ``SLACK`` at the least."""
        return Expectations(
            columns=tuple(
                _column(name, seen) for name, seen in zip(self._header, self._seen, strict=True)
            ),
            duplicates_max=min(1.0, max(SLACK, 2 * (self._duplicates.share or 0.0))),
        )


def _add(seen: _Seen, value: Value) -> None:
    seen.count += 1
    if is_missing(value):
        seen.missing += 1
        return
    number = number_of(value)
    if number is not None and math.isfinite(number):
        seen.numbers += 1
        seen.integers += number == math.floor(number)
        seen.low, seen.high = min(seen.low, number), max(seen.high, number)
    seen.truths += is_truth(value)
    if seen.texts is not None:
        seen.texts.add(str(value)[:256])
        if len(seen.texts) > CATEGORIES_MAX:
            seen.texts = None


def _column(name: str, seen: _Seen) -> Column:
    told = seen.count - seen.missing
    missing_max = min(1.0, max(SLACK, 2 * seen.missing / seen.count)) if seen.count else 1.0
    few = seen.texts is not None and len(seen.texts) <= max(2, told // 2)
    if told and seen.truths == told and seen.texts is not None and len(seen.texts) <= 2:
        return Column(name=name, kind=Kind.TRUTH, missing_max=missing_max)
    if told and seen.numbers == told:
        kind = Kind.INTEGER if seen.integers == told else Kind.NUMBER
        return Column(name=name, kind=kind, low=seen.low, high=seen.high, missing_max=missing_max)
    if told and few and seen.texts is not None:
        categories = frozenset(seen.texts)
        return Column(name=name, kind=Kind.CATEGORY, categories=categories, missing_max=missing_max)
    return Column(name=name, kind=Kind.TEXT, missing_max=missing_max)


def to_text(expected: Expectations) -> str:
    """As JSON, columns one a line."""
    columns = []
    for column in expected.columns:
        said: dict[str, object] = {"name": column.name, "kind": column.kind.value}
        for word in ("low", "high"):
            if (value := getattr(column, word)) is not None:
                said[word] = value
        if column.categories is not None:
            said["categories"] = sorted(column.categories)
        said["missing_max"] = round(column.missing_max, 6)
        said["wrong_max"] = round(column.wrong_max, 6)
        columns.append("  " + json.dumps(said, allow_nan=False))
    rest = json.dumps(
        {
            "key": list(expected.key),
            "duplicates_max": round(expected.duplicates_max, 6),
            "rows_min": expected.rows_min,
        }
    )
    return '{"columns": [\n' + ",\n".join(columns) + "\n],\n " + rest[1:] + "\n"


def from_text(text: str) -> Expectations | tuple[str, ...]:
    """Expectations, or every mistake with its place."""
    if len(text) > TEXT_MAX_CHARS:
        return (f"more than {TEXT_MAX_CHARS} characters",)
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        return (f"no JSON: {str(error)[:100]}",)
    if not isinstance(said, Mapping) or not isinstance(said.get("columns"), list):
        return ('expected {"columns": [...]}',)
    faults: list[str] = _unknown("", said, {"columns", "key", "duplicates_max", "rows_min"})
    if not 0 < len(said["columns"]) <= COLUMNS_MAX:
        return (f"columns: expected 1 to {COLUMNS_MAX}, got {len(said['columns'])}",)
    columns = [
        _read_column(f"columns[{k}]", each, faults) for k, each in enumerate(said["columns"])
    ]
    names = [column.name for column in columns if column is not None]
    for name in sorted({name for name in names if names.count(name) > 1})[:20]:
        faults.append(f"columns: {name[:40]!r} is there twice")
    key = said.get("key", [])
    if not isinstance(key, list) or any(
        not isinstance(each, str) or each not in names for each in key
    ):
        faults.append("key: expected names of columns")
    rows_min = said.get("rows_min", 1)
    if isinstance(rows_min, bool) or not isinstance(rows_min, int) or rows_min < 0:
        faults.append(f"rows_min: expected a number of rows, got {rows_min!r:.40}")
    duplicates_max = _share("duplicates_max", said.get("duplicates_max", 0.0), faults)
    if faults:
        return tuple(faults)
    return Expectations(
        columns=tuple(column for column in columns if column is not None),
        key=tuple(key),
        duplicates_max=duplicates_max,
        rows_min=rows_min,
    )


_KEYS = {"name", "kind", "low", "high", "categories", "missing_max", "wrong_max"}


def _unknown(place: str, said: Mapping[str, Any], known: set[str]) -> list[str]:
    return [f"{place}{name[:40]}: not known" for name in list(said)[:50] if name not in known]


def _read_column(place: str, said: object, faults: list[str]) -> Column | None:
    if not isinstance(said, Mapping):
        faults.append(f"{place}: expected an object")
        return None
    before = len(faults)
    faults += _unknown(f"{place}.", said, _KEYS)
    name, kind = said.get("name"), said.get("kind")
    if not isinstance(name, str) or not name:
        faults.append(f"{place}.name: expected a name")
    if kind not in [each.value for each in Kind]:
        faults.append(f"{place}.kind: expected one of {', '.join(Kind)}, got {str(kind)[:40]!r}")
    bounds = {word: _bound(f"{place}.{word}", said.get(word), faults) for word in ("low", "high")}
    low, high = bounds["low"], bounds["high"]
    if low is not None and high is not None and low > high:
        faults.append(f"{place}: low {low:g} is above high {high:g}")
    words = said.get("categories")
    if words is not None and (
        not isinstance(words, list) or not all(isinstance(each, str) for each in words)
    ):
        faults.append(f"{place}.categories: expected texts")
    missing = _share(f"{place}.missing_max", said.get("missing_max", 0.0), faults)
    wrong = _share(f"{place}.wrong_max", said.get("wrong_max", 0.0), faults)
    if len(faults) > before:
        return None
    return Column(
        name=str(name),
        kind=Kind(str(kind)),
        low=low,
        high=high,
        categories=None if words is None else frozenset(words),
        missing_max=missing,
        wrong_max=wrong,
    )


def _bound(place: str, value: object, faults: list[str]) -> float | None:
    if value is None:
        return None
    number = number_of(value) if isinstance(value, int | float) else None
    if number is None or not math.isfinite(number):
        faults.append(f"{place}: expected a number, got {str(value)[:40]!r}")
        return None
    return number


def _share(place: str, value: object, faults: list[str]) -> float:
    number = number_of(value) if isinstance(value, int | float) else None
    if number is None or not 0 <= number <= 1:
        faults.append(f"{place}: expected a share from 0 to 1, got {str(value)[:40]!r}")
        return 0.0
    return number
