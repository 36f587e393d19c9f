"""CSV and Parquet files as batches of rows or of columns, within bounds. Nothing is judged here.

CSV by the standard library; Parquet by pyarrow, where it is installed. A line without an end, a field of a gigabyte, text
that is no UTF-8: refused with the line's number.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuwarden.errors import Refused, Unsupported

Value = str | float | int | bool | None

BATCH_ROWS = 4096
BATCH_MAX_CHARS = 32 << 20
"""Of a CSV: long rows make short batches."""
READ_BYTES = 1 << 20
"""Of a column of a Parquet file at once: a row group is never in memory as a whole."""
LINE_MAX_BYTES = 4 << 20
FIELD_MAX_CHARS = 1 << 20
COLUMNS_MAX = 10_000
_ROW_GROUP_MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """``batches`` can be gone through once, while the file is open."""

    header: tuple[str, ...]
    batches: Iterator[list[Sequence[Value]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFile:
    """``batches`` can be gone through once, while the file is open: of each column in turn its values, as values or, where
    a typed file says that they are numbers, as an array of them (not-a-number: missing)."""

    header: tuple[str, ...]
    batches: Iterator[list[Any]]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[TableFile]:
    """By its name: ``.parquet`` or ``.pq``, else CSV. Raises ``Refused`` (also while batches are read) or ``Unsupported``."""
    if path.suffix.lower() in (".parquet", ".pq"):
        with _parquet(path) as parquet:
            yield TableFile(header=tuple(parquet.schema_arrow.names), batches=_typed(parquet))
        return
    with path.open("rb") as file:
        lines = _lines(file)
        rows = _rows(csv.reader(lines, strict=True))
        header = next(rows, None)
        if not header:
            raise Refused("no header: the first line has to name the columns")
        if len(header) > COLUMNS_MAX:
            raise Refused(f"{len(header)} columns; at most {COLUMNS_MAX} are read")
        header[0] = header[0].removeprefix("\ufeff")
        yield TableFile(header=tuple(header), batches=_batches(rows))


@contextlib.contextmanager
def columns(path: Path) -> Iterator[ColumnFile]:
    """The same file by columns, in a tenth of the time. A row of another length than the header's is refused."""
    if path.suffix.lower() in (".parquet", ".pq"):
        with _parquet(path) as file:
            yield ColumnFile(header=tuple(file.schema_arrow.names), batches=_arrays(file))
        return
    with opened(path) as table:
        yield ColumnFile(header=table.header, batches=_turned(table))


def _turned(table: TableFile) -> Iterator[list[Any]]:
    wanted, before = len(table.header), 0
    for batch in table.batches:
        for number, row in enumerate(batch, before + 1):
            if len(row) != wanted:
                raise Refused(f"row {number}: {len(row)} fields, the header names {wanted}")
        before += len(batch)
        yield list(zip(*batch, strict=True))


def _lines(file: Any) -> Iterator[str]:
    for number in itertools.count(1):
        line = file.readline(LINE_MAX_BYTES + 1)
        if not line:
            return
        if len(line) > LINE_MAX_BYTES:
            raise Refused(f"line {number}: longer than {LINE_MAX_BYTES >> 20} MiB")
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refused(f"line {number}: not UTF-8 ({error.reason})") from error


def _rows(reader: Any) -> Iterator[list[str]]:
    before = csv.field_size_limit(FIELD_MAX_CHARS)
    try:
        for row in reader:
            if row:  # a blank line is no row
                yield row
    except csv.Error as error:
        raise Refused(f"line {reader.line_num}: {error}") from error
    finally:
        csv.field_size_limit(before)


def _batches(rows: Iterator[list[str]]) -> Iterator[list[Sequence[Value]]]:
    batch: list[Sequence[Value]] = []
    chars = 0
    for row in rows:
        batch.append(row)
        chars += sum(map(len, row))
        if len(batch) >= BATCH_ROWS or chars >= BATCH_MAX_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _within_bounds(file: Any) -> None:
    meta = file.metadata
    if meta.num_columns > COLUMNS_MAX:
        raise Refused(f"{meta.num_columns} columns; at most {COLUMNS_MAX} are read")
    for number in range(meta.num_row_groups):
        size = meta.row_group(number).total_byte_size
        if size > _ROW_GROUP_MAX_BYTES:
            raise Refused(f"row group {number}: {size >> 20} MiB; at most 1 GiB is read at once")


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise Unsupported("pyarrow is not installed: pip install 'gpuwarden[parquet]'") from error
    try:
        with parquet.ParquetFile(
            path, memory_map=False, pre_buffer=False, buffer_size=READ_BYTES
        ) as file:
            _within_bounds(file)
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        raise Refused(f"no Parquet file: {str(error)[:200]}") from error


def _arrays(file: Any) -> Iterator[list[Any]]:
    from pyarrow import types

    for batch in file.iter_batches(batch_size=BATCH_ROWS):
        yield [
            column.to_numpy(zero_copy_only=False)
            if types.is_integer(column.type) or types.is_floating(column.type)
            else [_plain(value) for value in column.to_pylist()]
            for column in batch.columns
        ]


def _typed(file: Any) -> Iterator[list[Sequence[Value]]]:
    for batch in file.iter_batches(batch_size=BATCH_ROWS):
        columns = [[_plain(value) for value in column.to_pylist()] for column in batch.columns]
        yield [list(row) for row in zip(*columns, strict=True)]


def _plain(value: Any) -> Value:
    """Numbers, truths and text as they are; anything else (times, decimals, lists) as its text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return str(value)[:FIELD_MAX_CHARS]
