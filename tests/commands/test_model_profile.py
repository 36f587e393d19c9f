"""``gpuwarden model profile``: files that can be read back, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet
from pyarrow.compute import binary_join_element_wise

from gpuwarden.cli import main
from gpuwarden.evaluate.drift import profile_file
from gpuwarden.evaluate.drift.profile import CategoryProfile, NumericProfile, of_numbers

MEMORY_MAX_MIB = 1024


def _run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["model", "profile", *map(str, words)])


def _table(path: Path, rows: int = 2000) -> Path:
    lines = ["age,site,scanner,id,note"]
    lines += [
        f"{20 + n * 37 % 60},{'abc'[n % 3]},{'old/1' if n % 4 == 0 else 'new'},x{n},"
        for n in range(rows)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_of_a_csv_and_its_segments(tmp_path: Path) -> None:
    table, target = _table(tmp_path / "good.csv"), tmp_path / "profile.json"
    ran = _run("--from", table, "--out", target, "--segment-column", "scanner")
    assert ran.exit_code == 0, ran.output
    assert f"{target}: 2 features over 2000 rows" in ran.output
    assert "left out: flood" in ran.output
    assert "left out: empty" in ran.output
    read = profile_file.read(target.read_text())
    ages = np.array([20 + n * 37 % 60 for n in range(2000)], dtype=float)
    assert read.rows == 2000
    age = read.features["age"]
    assert isinstance(age, NumericProfile)
    assert (age.edges, age.counts) == (of_numbers(ages).edges, of_numbers(ages).counts)
    assert read.features["site"] == CategoryProfile(
        counts={"a": 667, "b": 667, "c": 666}, other=0, missing=0
    )
    old = profile_file.read((tmp_path / "profile.old%2F1.json").read_text())
    assert old.rows == 500
    said = json.loads(_run("--from", table, "--out", target, "--column", "age", "--json").output)
    assert said["segments"][""] == {
        "rows": 2000, "features": ["age"], "left_out": {}, "notes": {},
    }  # fmt: skip


def test_parquet_gives_the_same_as_csv(tmp_path: Path) -> None:
    r = np.random.default_rng(1)
    values = r.normal(size=9000)
    kinds = r.integers(0, 5, size=9000)
    csv, typed = tmp_path / "t.csv", tmp_path / "t.parquet"
    csv.write_text(
        "x,k,g\n"
        + "".join(
            f"{'' if n % 100 == 0 else repr(float(v))},{k},{'ab'[k % 2]}\n"
            for n, (v, k) in enumerate(zip(values, kinds, strict=True))
        )
    )
    holes = [None if n % 100 == 0 else float(v) for n, v in enumerate(values)]
    made = pyarrow.table({"x": holes, "k": kinds, "g": ["ab"[k % 2] for k in kinds]})
    parquet.write_table(made, typed)
    for source, target in ((csv, "one.json"), (typed, "two.json")):
        ran = _run("--from", source, "--out", tmp_path / target, "--category", "k")
        assert ran.exit_code == 0, ran.output
    assert (tmp_path / "one.json").read_text() == (tmp_path / "two.json").read_text()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "no header"),
        ("a,b\n", "an empty reference"),
        ("a,b\n1,2\n1,2,3\n", "row 2: 3 fields, the header names 2"),
        ("a,a\n1,2\n", "'a' is there twice"),
        ('a,b\n1,"open\n', "unexpected end"),
        ("a\n" + "x\n7\n" * 50, "1 to 256 features"),
        (",".join(f"c{n}" for n in range(300)) + "\n" + ",".join(["1"] * 300) + "\n", "256 features"),
    ],
)  # fmt: skip
def test_what_makes_no_profile_is_refused_and_writes_nothing(
    tmp_path: Path, data: str, why: str
) -> None:
    table, target = tmp_path / "bad.csv", tmp_path / "profile.json"
    table.write_text(data)
    ran = _run("--from", table, "--out", target)
    assert ran.exit_code == 1
    assert why in ran.output
    assert not target.exists()


def test_the_reference_itself_is_never_overwritten(tmp_path: Path) -> None:
    table = _table(tmp_path / "good.csv", rows=10)
    before = table.read_text()
    assert _run("--from", table, "--out", table).exit_code == 1
    assert table.read_text() == before
    assert _run("--from", table, "--out", tmp_path / "no" / "where.json").exit_code == 1
    ran = _run("--from", table, "--out", tmp_path / "p.json", "--column", "none")
    assert "no column 'none'" in ran.output


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_ten_million_rows_take_less_than_a_gibibyte(tmp_path: Path, ending: str) -> None:
    """Peak resident memory of a process of its own; one row group holds all rows of the Parquet file."""
    rows, r = 10_000_000, np.random.default_rng(1)
    source, target = tmp_path / f"big.{ending}", tmp_path / "profile.json"
    table = pyarrow.table(
        {
            **{f"x{n}": r.lognormal(size=rows).astype(np.float32) for n in range(3)},
            "site": pyarrow.array(r.integers(0, 50, size=rows)).cast(pyarrow.string()),
            "id": binary_join_element_wise(
                "u", pyarrow.array(np.arange(rows)).cast(pyarrow.string()), ""
            ),
        }
    )
    if ending == "parquet":
        parquet.write_table(table, source, row_group_size=rows)
    else:
        from pyarrow import csv

        csv.write_csv(table, source)
    del table
    code = (
        "import resource, sys; from gpuwarden.cli import main\n"
        f"try: main(['model', 'profile', '--from', {str(source)!r}, '--out', {str(target)!r}, '--category', 'site'])\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=1500
    )
    assert int(ran.stderr.split()[-1]) < MEMORY_MAX_MIB
    read = profile_file.read(target.read_text())
    assert read.rows == rows
    assert sorted(read.features) == ["site", "x0", "x1", "x2"]
