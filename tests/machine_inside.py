"""The other end of tests/machine.py: a pytest run inside the booted machine, one report a line.

    python tests/machine_inside.py < NODE_IDS

Standard input holds a JSON list of node ids. A line of standard output is the literal `(node id, report)`, or
`(node id, None)` when the test has ended (JSON would make lists of tuples, and pytest looks for tuples);
what pytest itself says goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parent.parent
INSIDE_VARIABLE = "GPUWARDEN_TEST_INSIDE"
OPTIONS = (
    "-q",
    "-p",
    "no:cacheprovider",
    f"--rootdir={ROOT}",
    f"--config-file={ROOT}/pyproject.toml",
)


def is_inside() -> bool:
    return INSIDE_VARIABLE in os.environ


class Reports:
    """A pytest plugin that hands on every report."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._config: pytest.Config | None = None

    def pytest_configure(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        assert self._config is not None
        write = self._config.hook.pytest_report_to_serializable
        self._say(report.nodeid, write(config=self._config, report=report))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._say(nodeid, None)

    def _say(self, nodeid: str, data: object) -> None:
        self._out.write(repr((nodeid, data)) + "\n")
        self._out.flush()


def main() -> int:
    nodeids = json.load(sys.stdin)
    os.environ[INSIDE_VARIABLE] = "yes"
    os.chdir(ROOT)
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as out:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        return int(pytest.main([*OPTIONS, *nodeids], plugins=[Reports(out)]))


if __name__ == "__main__":
    sys.exit(main())
