"""tests/SCENARIOS.md says which test holds which scenario: all thirty are there, and so is every test."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TABLE = ROOT / "tests" / "SCENARIOS.md"
# | 3 | brief spike | one warning, no kill | `tests/scenario/test_quotas.py::test_s03_brief_spike` |
ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
# def test_s03_brief_spike
NUMBERED = re.compile(r"^test_s(\d\d)_")


def rows() -> dict[int, list[str]]:
    """Scenario -> the ids of its tests."""
    return {
        int(n): re.findall(r"`([^`]+)`", ids) for n, _, _, ids in ROW.findall(TABLE.read_text())
    }


@cache
def names_in(path: str) -> frozenset[str]:
    """Every test of a file, as pytest names it without its parameters."""
    found = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            inside = [n.name for n in node.body if isinstance(n, ast.FunctionDef)]
            found |= {f"{path}::{node.name}::{name}" for name in inside}
        if isinstance(node, ast.FunctionDef):
            found.add(f"{path}::{node.name}")
    return frozenset(found)


def test_all_thirty_are_there() -> None:
    assert sorted(rows()) == list(range(1, 31))


@pytest.mark.parametrize("number", range(1, 31))
def test_each_has_tests_and_they_exist(number: int) -> None:
    ids = rows()[number]
    missing = [name for name in ids if name not in names_in(name.partition("::")[0])]
    assert missing == []
    mine = [name for name in ids if name.startswith("tests/scenario/")]
    assert mine, "no scenario on simulated time"


def test_a_scenario_test_stands_in_the_row_of_its_number() -> None:
    known = rows()
    for file in sorted((ROOT / "tests" / "scenario").glob("test_*.py")):
        for name in names_in(str(file.relative_to(ROOT))):
            numbered = NUMBERED.match(name.rpartition("::")[2])
            if numbered is not None:
                assert name in known[int(numbered[1])], name
