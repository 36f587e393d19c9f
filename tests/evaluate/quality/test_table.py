"""What is wrong with a table is counted, named, and held against its limit, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.evaluate.quality import table
from gpuwarden.evaluate.quality.table import (
    Column,
    Duplicates,
    Expectations,
    Fault,
    Kind,
    TableCheck,
    TableFinding,
    by_column,
    number_of,
)

EXPECTED = Expectations(
    columns=(
        Column(name="id", kind=Kind.INTEGER),
        Column(name="age", kind=Kind.NUMBER, low=0, high=120, missing_max=0.25),
        Column(name="site", kind=Kind.CATEGORY, categories=frozenset({"a", "b"})),
        Column(name="smoker", kind=Kind.TRUTH),
        Column(name="note", kind=Kind.TEXT, missing_max=1.0),
    ),
    key=("id",),
)
HEADER = ["id", "age", "site", "smoker", "note"]
GOOD: list[list[table.Value]] = [
    ["1", "34", "a", "true", ""],
    ["2", "0", "b", "no", "x"],
    [3, 120.0, "a", True, None],
    ["4", "NA", "b", "0", "y"],
]


def _findings(
    rows: Sequence[Sequence[table.Value]],
    header: list[str] = HEADER,
    expected: Expectations = EXPECTED,
) -> list[TableFinding]:
    check = TableCheck(expected, header)
    check.add(rows)
    return [each for each in check.report().findings if each.is_beyond]


def test_a_good_table_is_well_and_what_is_within_its_limit_is_told() -> None:
    check = TableCheck(EXPECTED, HEADER)
    check.add(GOOD)
    report = check.report()
    assert report.is_well
    assert [(each.column, each.fault, each.share) for each in report.findings] == [
        ("age", Fault.MISSING_VALUE, 0.25),
        ("note", Fault.MISSING_VALUE, 0.5),
    ]


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("id", "1.5", Fault.WRONG_KIND),
        ("id", "seven", Fault.WRONG_KIND),
        ("id", "", Fault.MISSING_VALUE),
        ("id", True, Fault.WRONG_KIND),
        ("id", "1_000", Fault.WRONG_KIND),
        ("age", "-0.001", Fault.TOO_LOW),
        ("age", 120.5, Fault.TOO_HIGH),
        ("age", "inf", Fault.NOT_FINITE),
        ("age", "1e999", Fault.NOT_FINITE),
        ("age", 10**400, Fault.NOT_FINITE),
        ("age", "9" * 100, Fault.WRONG_KIND),
        ("site", "c", Fault.NEW_CATEGORY),
        ("site", "A", Fault.NEW_CATEGORY),
        ("site", float("nan"), Fault.MISSING_VALUE),
        ("smoker", "perhaps", Fault.WRONG_KIND),
        ("smoker", 2, Fault.WRONG_KIND),
    ],
)
def test_one_bad_value(column: str, value: table.Value, fault: Fault) -> None:
    bad = [list(row) for row in GOOD]
    bad[3][1] = "50"
    bad[2][HEADER.index(column)] = value
    (found,) = _findings(bad)
    assert (found.column, found.fault, found.count, found.share, found.first_row) == (
        column,
        fault,
        1,
        0.25,
        3,
    )


def test_columns_that_are_missing_new_or_there_twice() -> None:
    rows: list[list[table.Value]] = [["1", "2", "3", "true"]]
    found = _findings(rows, ["id", "id", "extra", "smoker"])
    assert [(each.fault, each.column) for each in found] == [
        (Fault.MISSING_COLUMN, "age"),
        (Fault.MISSING_COLUMN, "site"),
        (Fault.MISSING_COLUMN, "note"),
        (Fault.UNKNOWN_COLUMN, "extra"),
        (Fault.REPEATED_COLUMN, "id"),
    ]


def test_ragged_rows_and_none_at_all() -> None:
    ragged: list[list[table.Value]] = [*GOOD, ["5"], ["6", "1", "a", "true", "", "more"]]
    (found,) = _findings(ragged)
    assert (found.fault, found.count, found.first_row) == (Fault.RAGGED_ROW, 2, 5)
    (found,) = _findings([])
    assert (found.fault, found.limit) == (Fault.TOO_FEW_ROWS, 1.0)


def test_a_flood_of_new_categories_is_bounded_and_its_commonest_are_named() -> None:
    expected = Expectations(columns=(Column(name="s", kind=Kind.CATEGORY, categories=frozenset()),))
    check = TableCheck(expected, ["s"])
    check.add([["often"], ["often"]] + [[f"new{number}"] for number in range(5000)])
    found = check.report().findings[0]
    assert (found.fault, found.count) == (Fault.NEW_CATEGORY, 5002)
    assert found.examples[0] == "often (2)"
    assert sum(map(len, check._new.values())) <= table.NEW_CATEGORIES_MAX


def test_examples_are_short_and_plain() -> None:
    bad = [list(row) for row in GOOD]
    bad[0][1] = "\x1b[31m" + "z" * 500
    (found,) = _findings(bad)
    assert found.examples == ("?[31m" + "z" * 35 + "...",)


def test_duplicates_by_key_and_by_the_whole_row() -> None:
    twice: list[list[table.Value]] = [*GOOD, ["4", "50", "a", "true", "other"]]
    (found,) = _findings(twice)
    assert (found.fault, found.count, found.share, found.first_row) == (Fault.DUPLICATE, 1, 0.2, 5)
    assert found.examples == ("4",)
    whole = Expectations(columns=EXPECTED.columns)
    assert _findings(twice, expected=whole) == []
    (found,) = _findings([*GOOD, GOOD[0]], expected=whole)
    assert found.fault is Fault.DUPLICATE


def test_values_that_only_look_alike_are_no_duplicates() -> None:
    found = Duplicates()
    keys: list[list[table.Value]] = [["ab", "c"], ["a", "bc"], ["1", ""], [1, ""], ["", "1"]]
    for row, key in enumerate(keys, 1):
        found.add(key, row)
    assert found.share == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=200))
def test_duplicates_against_counting(keys: list[int]) -> None:
    found = Duplicates()
    for row, key in enumerate(keys, 1):
        found.add([key], row)
    counts = Counter(keys)
    assert found.share == (None if not keys else sum(n - 1 for n in counts.values()) / len(keys))


def test_more_keys_than_are_remembered_are_sampled_without_bias() -> None:
    shares = []
    for start in range(20):
        found = Duplicates(keys_max=2000)
        for number in range(40_000):
            key = (
                number if number % 10 else number // 20 * 20
            )  # every second ten repeats the one before
            found.add([start, key], number + 1)
        assert found.is_sample
        assert len(found._rows_by_key) <= 2000
        assert not any(digest & found._mask for digest in found._rows_by_key), (
            "all of a key or none"
        )
        shares.append(found.share or 0.0)
    # 1 of 20 rows repeats a key. A share of 2,000 sampled rows has a deviation of 0.005; of 20 means, 0.0011.
    assert sum(shares) / len(shares) == pytest.approx(0.05, abs=0.0045)


def test_findings_by_column() -> None:
    check = TableCheck(EXPECTED, HEADER)
    check.add([["x", "-5", "a", "true", ""], ["y", "500", "a", "true", ""]])
    found = by_column(check.report())
    assert [each.fault for each in found["age"]] == [Fault.TOO_LOW, Fault.TOO_HIGH]
    assert [each.count for each in found["id"]] == [2]


def test_numbers() -> None:
    assert (number_of(" 1e3 "), number_of("-"), number_of(None), number_of(True)) == (
        1000.0,
        None,
        None,
        None,
    )
