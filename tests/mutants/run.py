"""Puts one mistake into a copy of the tree and asks each suite whether it notices."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.catalogue import Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
WORLDS = 120
DEADLINE_S = 400.0
SUITES: dict[str, list[str]] = {
    "policy": ["-m", "pytest", "-x", "-q", "tests/policy", "tests/node", "tests/model"],
    "scenario": ["-m", "pytest", "-x", "-q", "tests/scenario"],
    "worlds": ["-m", "tests.properties", "--count", str(WORLDS), "--seed", "0", "--jobs", "1"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which suites turned red."""

    mutant: Mutant
    red: tuple[str, ...]
    asked: tuple[str, ...]

    @property
    def is_caught(self) -> bool:
        """Whether any did."""
        return bool(self.red)


def applied(text: str, mutant: Mutant) -> str:
    """The file's text with the mistake in it. ValueError: the line is not there (once) any more."""
    if text.count(mutant.old) != 1:
        raise ValueError(
            f"{mutant.name}: {mutant.file} has its line {text.count(mutant.old)} times"
        )
    return text.replace(mutant.old, mutant.new)


def try_mutant(
    mutant: Mutant, suites: tuple[str, ...] = tuple(SUITES), *, all_of_them: bool
) -> Verdict:
    """Ask suite after suite; unless all of them are wanted, until the first that is red."""
    red: list[str] = []
    asked: list[str] = []
    with tempfile.TemporaryDirectory(prefix="gpuwarden-mutant-") as folder:
        tree = Path(folder)
        skip = shutil.ignore_patterns("__pycache__", "*.pyc")
        for part in ("agent", "tests"):
            shutil.copytree(ROOT / part, tree / part, ignore=skip)
        shutil.copy(ROOT / "pyproject.toml", tree)
        file = tree / mutant.file
        file.write_text(applied(file.read_text(encoding="utf-8"), mutant), encoding="utf-8")
        for suite in suites:
            asked.append(suite)
            if _is_red(tree, SUITES[suite]):
                red.append(suite)
                if not all_of_them:
                    break
    return Verdict(mutant=mutant, red=tuple(red), asked=tuple(asked))


def _is_red(tree: Path, arguments: list[str]) -> bool:
    environment = {**os.environ, "PYTHONPATH": "agent:.", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("GPUWARDEN_TEST_COUNTS", None)
    environment.pop("GPUWARDEN_TEST_REQUIRE", None)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=DEADLINE_S,
        check=False,
    )
    return done.returncode == 1  # red; anything else is a run that did not come about
