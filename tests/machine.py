"""Tests marked `systemd` run in the machine of `scripts/services up systemd`; here they are shown and counted.

All of a run go there at once, and each is reported as its turn comes: with the outcome, the traceback and the
output it had in there. No fixture of theirs is set up on this side. `systemd(outside=True)` needs the machine
too, and looks at it from here.
"""

from __future__ import annotations

import ast
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import IO, Any

import pytest

from tests import machine_inside, prerequisites

END_TIMEOUT_S = 30.0
# Each test has its own deadline in there; this one is for the run as a whole.
REPORT_TIMEOUT_S = 600.0


def goes_there(item: pytest.Item) -> bool:
    """Whether this test runs in the machine: there is one, and this process is not in there itself."""
    mark = item.get_closest_marker("systemd")
    return (
        mark is not None
        and not mark.kwargs.get("outside")
        and not machine_inside.is_inside()
        and prerequisites.missing("systemd") is None
    )


class Machine:
    """One pytest run in there, of all tests of the session that go there, in their order."""

    def __init__(self, session: pytest.Session, required: frozenset[str]) -> None:
        name = prerequisites.services_environment()["GPUWARDEN_TEST_MACHINE"]
        items = [item for item in session.items if goes_there(item)]
        carried = {mark.name for item in items for mark in item.iter_markers()}
        require = ",".join(sorted(required & carried))  # what others need may be missing in there
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        self._reports: dict[str, list[Mapping[str, Any]]] = {}
        self._ended: set[str] = set()
        self._process = subprocess.Popen(
            [
                *(prerequisites.MACHINE_PROGRAM, "run", name),
                *("-E", f"GPUWARDEN_TEST_REQUIRE={require}"),
                *(sys.executable, machine_inside.__file__),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
        )
        assert self._process.stdin is not None
        with self._process.stdin as stdin:
            stdin.write(json.dumps([item.nodeid for item in items]).encode())

    def reports(self, item: pytest.Item) -> list[pytest.TestReport]:
        """What became of the test; AssertionError when the run in there ended without it."""
        assert self._process.stdout is not None
        while item.nodeid not in self._ended:
            line = self._process.stdout.readline()
            if not line.endswith(b"\n"):
                raise AssertionError(f"the run in the machine broke off:\n{self._tail()}")
            nodeid, data = ast.literal_eval(line.decode())
            if data is None:
                self._ended.add(nodeid)
            else:
                self._reports.setdefault(nodeid, []).append(data)
        load = item.config.hook.pytest_report_from_serializable
        return [load(config=item.config, data=data) for data in self._reports.pop(item.nodeid)]

    def show(self, item: pytest.Item) -> None:
        """The test's protocol, as if it had run here."""
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports: list[pytest.TestReport] = []
        call = pytest.CallInfo.from_call(
            lambda: reports.extend(self.reports(item)), when="call", reraise=(KeyboardInterrupt,)
        )
        for report in reports or [pytest.TestReport.from_item_and_call(item, call)]:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def close(self) -> None:
        """A run that nobody reads any more ends by itself with its next report."""
        assert self._process.stdout is not None
        self._process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_TIMEOUT_S)
        self._process.kill()
        self._process.wait(END_TIMEOUT_S)
        self._said.close()

    def _tail(self) -> str:
        self._said.seek(0)
        return self._said.read().decode(errors="replace")[-4000:]
