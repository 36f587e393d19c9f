"""Puts one mistake into a copy of the tree and asks each suite whether it notices, and by which test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutant import Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
WORLDS = 120
DEADLINE_S = 400.0
_PYTEST = ["-m", "pytest", "-x", "-q", "-rfE", "--tb=no"]
SUITES: dict[str, list[str]] = {
    "policy": [*_PYTEST, "tests/policy", "tests/node", "tests/model"],
    "scenario": [*_PYTEST, "tests/scenario"],
    "cordons": [*_PYTEST, "tests/adapters/test_cordon_kubernetes.py"],
    "worlds": ["-m", "tests.properties", "--count", str(WORLDS), "--seed", "0", "--jobs", "1"],
}
# FAILED tests/policy/test_guard.py::TestNever::test_a_protected_one[kill] - AssertionError: assert None
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/\S+\.py(?:::\S.*?)?)(?: - |$)", re.MULTILINE)
# WRONG world 17: hit a protected tenant: 1003.2  term ...
WRONG = re.compile(r"^WRONG (world \d+:(?: +[\d.]+ +)? ?[^:\n]{1,60})", re.MULTILINE)


class NoRun(RuntimeError):
    """A suite that could not be asked: neither red nor green."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which suites turned red, and by what."""

    mutant: Mutant | None
    """None: the tree as it is."""
    killers: dict[str, str]
    """Suite -> the first test (or world) that noticed."""
    asked: tuple[str, ...]

    @property
    def is_caught(self) -> bool:
        """Whether any did."""
        return bool(self.killers)


def applied(text: str, mutant: Mutant) -> str:
    """The file's text with the mistake in it. ValueError: the line is not there (once) any more."""
    if text.count(mutant.old) != 1:
        raise ValueError(
            f"{mutant.name}: {mutant.file} has its line {text.count(mutant.old)} times"
        )
    return text.replace(mutant.old, mutant.new)


def try_mutant(
    mutant: Mutant | None, suites: tuple[str, ...] = tuple(SUITES), *, all_of_them: bool
) -> Verdict:
    """Ask suite after suite; unless all of them are wanted, until the first that is red."""
    killers: dict[str, str] = {}
    asked: list[str] = []
    with tempfile.TemporaryDirectory(prefix="gpuwarden-mutant-") as folder:
        tree = Path(folder)
        skip = shutil.ignore_patterns("__pycache__", "*.pyc")
        for part in ("agent", "tests"):
            shutil.copytree(ROOT / part, tree / part, ignore=skip)
        for part in ("pyproject.toml", "README.md"):  # the table of rules is tested too
            shutil.copy(ROOT / part, tree)
        if mutant is not None:
            file = tree / mutant.file
            file.write_text(applied(file.read_text(encoding="utf-8"), mutant), encoding="utf-8")
        for suite in suites:
            asked.append(suite)
            killer = _killer(tree, suite)
            if killer is not None:
                killers[suite] = killer
                if not all_of_them:
                    break
    return Verdict(mutant=mutant, killers=killers, asked=tuple(asked))


def _killer(tree: Path, suite: str) -> str | None:
    """The first test of a suite that is red; None: all are green."""
    environment = {**os.environ, "PYTHONPATH": "agent:.", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("GPUWARDEN_TEST_COUNTS", None)
    environment.pop("GPUWARDEN_TEST_REQUIRE", None)
    try:
        done = subprocess.run(
            [sys.executable, *SUITES[suite]],
            cwd=tree,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"does not end within {DEADLINE_S:.0f} s"
    return read_killer(suite, done.returncode, done.stdout)


def read_killer(suite: str, code: int, output: str) -> str | None:
    """What noticed, by what a suite printed. Too few worlds of a kind are no notice: a suite is red by a
    test that fails or a world that is wrong, or it is not red."""
    if suite == "worlds":
        found = WRONG.search(output)
        is_run = "wrong worlds:" in output
    else:
        found = FAILED.search(output) if code else None
        is_run = code == 0 or found is not None
    if not is_run:
        raise NoRun(f"{suite}: no result (exit code {code}):\n{output[-2000:]}")
    return re.sub(r"\s+", " ", found[1]) if found is not None else None
