"""Skips a test whose prerequisite is absent, with the reason; fails it where it was required.

GPUWARDEN_TEST_REQUIRE=docker,root (set by `scripts/test --require`) says that these must be here: a
missing one ends the run before the first test, and a test that carries such a marker may not be skipped
for any reason but a marker that nobody required.

GPUWARDEN_TEST_COUNTS=FILE appends one line `passed failed skipped` a run, for scripts/test to add up.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

from tests import machine, prerequisites
from tests.kills import tally
from tests.properties import generated

# No test asserts how long anything takes: what generates much, or meets a busy machine, may take its time.
hypothesis.settings.register_profile(
    "gpuwarden", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("gpuwarden")

REQUIRED = pytest.StashKey[frozenset[str]]()
MACHINE = pytest.StashKey[machine.Machine]()  # where the tests marked `systemd` run
WITHHELD = pytest.StashKey[bool]()  # this module skipped the item, for a marker nobody required


def _required(text: str) -> frozenset[str]:
    names = frozenset(word.strip() for word in text.split(",") if word.strip())
    if unknown := sorted(names - prerequisites.PROBES.keys()):
        known = ", ".join(sorted(prerequisites.PROBES))
        raise pytest.UsageError(f"required: no such marker: {', '.join(unknown)} (known: {known})")
    return names


def _lacks(config: pytest.Config, marker: str) -> str | None:
    """`slow` is not a thing a machine lacks: requiring it is enough."""
    if marker == "slow" and marker in config.stash[REQUIRED]:
        return None
    return prerequisites.missing(marker)


def pytest_configure(config: pytest.Config) -> None:
    services = prerequisites.services_environment()
    for name in prerequisites.SERVICE_VARIABLES:
        os.environ.pop(name, None)  # never a daemon that was not started for these tests
        if name in services:
            os.environ[name] = services[name]
    required = _required(os.environ.get("GPUWARDEN_TEST_REQUIRE", ""))
    config.stash[REQUIRED] = required
    absent = {name: why for name in sorted(required) if (why := _lacks(config, name))}
    if absent:
        raise pytest.UsageError(
            "required, and not here: " + "; ".join(f"{name}: {why}" for name, why in absent.items())
        )


def pytest_make_parametrize_id(val: object) -> str | None:
    """A test keeps its name in every process that collects it: pytest-xdist compares them."""
    return "own-pid" if isinstance(val, int) and val == os.getpid() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Last, those that run elsewhere: what pytest sets up for one test it takes down by what the next needs."""
    items.sort(key=machine.goes_there)


def pytest_collection_finish(session: pytest.Session) -> None:
    for item in filter(machine.goes_there, session.items):
        item.add_marker(pytest.mark.timeout(machine.REPORT_TIMEOUT_S), append=False)


def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    if not machine.goes_there(item):
        return None
    stash = item.session.stash
    if MACHINE not in stash:
        stash[MACHINE] = machine.Machine(item.session, item.config.stash[REQUIRED])
    stash[MACHINE].show(item)
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    if MACHINE in session.stash:
        session.stash[MACHINE].close()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers():
        if mark.name not in prerequisites.PROBES:
            continue
        why = _lacks(item.config, mark.name)
        if why is not None:
            item.stash[WITHHELD] = True
            pytest.skip(f"{mark.name}: {why}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    required = item.config.stash[REQUIRED]
    carried = sorted(required & {mark.name for mark in item.iter_markers()})
    is_excused = item.stash.get(WITHHELD, False) or hasattr(report, "wasxfail")
    if report.skipped and carried and not is_excused:
        report.outcome = "failed"
        reason = call.excinfo.value if call.excinfo else "no reason given"
        report.longrepr = f"{', '.join(carried)} was required, yet this test skipped: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips itself hides how many tests did not run."""
    report = yield
    if report.skipped and collector.config.stash[REQUIRED]:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} skipped itself as a whole; mark its tests instead"
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    if line := tally.killed(terminalreporter.stats.get("passed", [])):
        terminalreporter.write_line(line)
    for line in generated.told(terminalreporter.stats.get("passed", [])):
        terminalreporter.write_line(line)
    if "security" in config.getoption(
        "keyword"
    ):  # what is refused, and to whom: one line a case that held
        for report in terminalreporter.stats.get("passed", []):
            _, _, case = report.nodeid.partition("::")
            terminalreporter.write_line(f"held: {case.removeprefix('test_').replace('_', ' ')}")
    path = os.environ.get("GPUWARDEN_TEST_COUNTS")
    if not path or hasattr(
        config, "workerinput"
    ):  # one of several, under xdist: the first one counts
        return
    stats = terminalreporter.stats
    passed = len(stats.get("passed", [])) + len(stats.get("xfailed", []))
    failed = len(stats.get("failed", [])) + len(stats.get("error", []))
    with Path(path).open("a", encoding="utf-8") as counts:
        counts.write(f"{passed} {failed} {len(stats.get('skipped', []))}\n")
