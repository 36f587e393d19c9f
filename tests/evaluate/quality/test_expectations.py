"""Expectations are learned from a good table and written as a file; every mistake in one is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.evaluate.quality.expectations import Learner, from_text, to_text
from gpuwarden.evaluate.quality.table import Expectations, Kind, TableCheck, Value

HEADER = ["id", "size", "site", "ok", "note", "empty"]
ROWS: list[list[Value]] = [
    [str(n), f"{n / 7:.3f}", "abc"[n % 3], "yes" if n % 2 else "no", f"note {n}", ""]
    for n in range(300)
]


def _learned() -> Expectations:
    learner = Learner(HEADER)
    learner.add(ROWS)
    return learner.expectations()


def test_kinds_ranges_and_categories() -> None:
    columns = {column.name: column for column in _learned().columns}
    assert [columns[name].kind for name in HEADER] == [
        Kind.INTEGER, Kind.NUMBER, Kind.CATEGORY, Kind.TRUTH, Kind.TEXT, Kind.TEXT,
    ]  # fmt: skip
    assert (columns["id"].low, columns["id"].high) == (0, 299)
    assert columns["site"].categories == frozenset("abc")
    assert columns["empty"].missing_max == 1.0
    assert columns["id"].missing_max == 0.01


def test_the_good_table_is_well_by_what_was_learned_from_it() -> None:
    check = TableCheck(_learned(), HEADER)
    check.add(ROWS)
    assert check.report().is_well
    shifted = TableCheck(_learned(), HEADER)
    shifted.add([[row[0], "99", *row[2:]] for row in ROWS])
    assert not shifted.report().is_well


def test_what_is_written_is_read_again() -> None:
    learned = _learned()
    assert from_text(to_text(learned)) == learned


@given(
    st.lists(
        st.lists(
            st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=9), st.booleans()),
            min_size=2,
            max_size=3,
        ),
        max_size=20,
    )
)
def test_any_table_can_be_learned_and_written(rows: list[list[Value]]) -> None:
    learner = Learner(["a", "b"])
    learner.add(rows)
    assert isinstance(from_text(to_text(learner.expectations())), Expectations)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", 'expected {"columns": [...]}'),
        ('{"columns": []}', "columns: expected 1 to 10000, got 0"),
        ('{"columns": [3]}', "columns[0]: expected an object"),
        ('{"columns": [{"kind": "number"}]}', "columns[0].name: expected a name"),
        ('{"columns": [{"name": "a", "kind": "odd"}]}', "columns[0].kind: expected one of"),
        ('{"columns": [{"name": "a", "kind": "number", "lo": 3}]}', "columns[0].lo: not known"),
        ('{"columns": [{"name": "a", "kind": "number", "low": 3, "high": 2}]}', "columns[0]: low 3 is above"),
        ('{"columns": [{"name": "a", "kind": "number", "low": NaN}]}', "columns[0].low: expected a number"),
        ('{"columns": [{"name": "a", "kind": "number", "low": true}]}', "columns[0].low: expected a number"),
        ('{"columns": [{"name": "a", "kind": "category", "categories": [1]}]}', "categories: expected texts"),
        ('{"columns": [{"name": "a", "kind": "text", "missing_max": 1.5}]}', "missing_max: expected a share"),
        ('{"columns": [{"name": "a", "kind": "text"}, {"name": "a", "kind": "text"}]}', "'a' is there twice"),
        ('{"columns": [{"name": "a", "kind": "text"}], "key": ["b"]}', "key: expected names"),
        ('{"columns": [{"name": "a", "kind": "text"}], "rows_min": -1}', "rows_min: expected"),
        ('{"columns": [{"name": "a", "kind": "text"}], "kye": []}', "kye: not known"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_place(text: str, fault: str) -> None:
    found = from_text(text)
    assert isinstance(found, tuple)
    assert any(fault in each for each in found), found
