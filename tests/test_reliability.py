"""Every test that RELIABILITY.md names is there; every fault it has to hold stands in it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
AGENT = TESTS.parent / "agent" / "gpuwarden"
PAGE = (TESTS / "RELIABILITY.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)
FAULTS = ["1", *map(str, range(7, 25)), "49", "51"]


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_what_is_named_is_there(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in functions_of(path)


def test_no_fault_and_no_row_is_without_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and " | " in line]
    bodies = [row for row in rows if not row.startswith("| case |")]
    assert [row for row in bodies if not re.search(r"`[\w/]+\.py::\w+`", row)] == []
    assert [row.split(" | ")[0].strip("| ") for row in bodies][: len(FAULTS)] == FAULTS


def test_no_path_inside_a_containers_root_is_opened() -> None:
    """What lies there is the tenant's, and its links lead where it wants."""
    for path in AGENT.rglob("*.py"):
        if "sim" not in path.relative_to(AGENT).parts and path.name != "node_pb2.py":
            assert not re.search(r"\}/root\b|/rootfs|MergedDir", path.read_text(encoding="utf-8"))
