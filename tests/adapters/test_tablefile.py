"""Tables as batches of rows; hostile ones are refused with their line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from gpuwarden.adapters import tablefile
from gpuwarden.adapters.tablefile import opened
from gpuwarden.errors import Refused


def _read(path: Path) -> tuple[tuple[str, ...], list[list[Any]]]:
    with opened(path) as table:
        return table.header, [list(row) for batch in table.batches for row in batch]


def _csv(folder: Path, data: bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(data)
    return path


def test_csv(tmp_path: Path) -> None:
    header, rows = _read(_csv(tmp_path, b'\xef\xbb\xbfa,b\r\n1,"x, ""y""\nz"\n\n2,\n'))
    assert header == ("a", "b")
    assert rows == [["1", 'x, "y"\nz'], ["2", ""]]


def test_many_batches(tmp_path: Path) -> None:
    path = _csv(tmp_path, b"a\n" + b"".join(b"%d\n" % n for n in range(10_000)))
    with opened(path) as table:
        sizes = [len(batch) for batch in table.batches]
    assert sizes == [4096, 4096, 1808]


def test_long_rows_make_short_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tablefile, "BATCH_MAX_CHARS", 1000)
    path = _csv(tmp_path, b"a\n" + b"x" * 400 + b"\n" + b"y\n" * 5 + (b"z" * 400 + b"\n") * 4)
    with opened(path) as table:
        sizes = [len(batch) for batch in table.batches]
    assert sizes == [8, 2]


def test_by_columns_a_csv_is_the_same_and_a_ragged_row_is_refused(tmp_path: Path) -> None:
    with tablefile.columns(_csv(tmp_path, b"a,b\n1,x\n2,\n")) as table:
        assert (table.header, list(table.batches)) == (("a", "b"), [[("1", "2"), ("x", "")]])
    with (
        pytest.raises(Refused, match="row 3: 1 fields, the header names 2"),
        tablefile.columns(_csv(tmp_path, b"a,b\n1,x\n2,y\n3\n")) as table,
    ):
        list(table.batches)


def test_by_columns_numbers_of_parquet_are_arrays(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    made = pyarrow.table({"n": [1, None, 3], "s": ["a", None, "c"], "t": [True, None, False]})
    parquet.write_table(made, path)
    with tablefile.columns(path) as table:
        ((numbers, names, truths),) = table.batches
    assert (numbers[0], numbers[2], numbers.dtype.kind) == (1.0, 3.0, "f")
    assert numbers[1] != numbers[1]
    assert (names, truths) == (["a", None, "c"], [True, None, False])


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "no header"),
        (b"a,b\n1,\xff\n", "line 2: not UTF-8"),
        (b'a,b\n1,"never closed\n', "unexpected end"),
        (b'a,b\n1,"x"y\n', "line 2"),
        (b"a,b\n" + b"x" * ((4 << 20) + 1), "line 2: longer than 4 MiB"),
        (b"a,b\n" + b"x" * (2 << 20), "line 2: field larger"),
        (b",".join(b"c%d" % n for n in range(10_001)), "10001 columns"),
    ],
)
def test_what_is_no_table(tmp_path: Path, data: bytes, fault: str) -> None:
    with pytest.raises(Refused, match=fault):
        _read(_csv(tmp_path, data))


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    made = pyarrow.table(
        {
            "n": [1, None, 3],
            "f": [0.5, float("nan"), 2.0],
            "s": ["a", "b", None],
            "l": [[1], [], None],
        }
    )
    parquet.write_table(made, path)
    assert _read(path) == (
        ("n", "f", "s", "l"),
        [[1, 0.5, "a", "[1]"], [None, None, "b", "[]"], [3, 2.0, None, None]],
    )


def test_what_is_no_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.parquet"
    parquet.write_table(pyarrow.table({"n": list(range(1000))}), path)
    whole = path.read_bytes()
    for length in (0, 3, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(Refused, match="no Parquet file"):
            _read(path)
    path.write_bytes(whole)
    monkeypatch.setattr(tablefile, "_ROW_GROUP_MAX_BYTES", 100)
    with pytest.raises(Refused, match="row group 0"):
        _read(path)
