"""A suite of every outcome, for tests/test_machine.py; no run collects it by itself."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine_inside import INSIDE_VARIABLE

pytestmark = pytest.mark.systemd


@pytest.mark.systemd(outside=True)
def test_beside_it() -> None:
    assert INSIDE_VARIABLE not in os.environ


@pytest.mark.parametrize("odd", ["$HOME %n 'x'", "line\nbreak"])
def test_that_passes(odd: str) -> None:
    assert Path("/proc/1/comm").read_text() == "systemd\n"


def test_that_fails() -> None:
    sys.stdout.write("what the test printed\n")
    assert Path("/proc/1/comm").read_text() == "what pid 1 never is"


def test_that_skips() -> None:
    pytest.skip("a reason of its own")


@pytest.mark.xfail(strict=True)
def test_that_fails_as_expected() -> None:
    raise AssertionError


@pytest.fixture
def untidy() -> Iterator[None]:
    yield
    raise ValueError("what the teardown raised")


def test_with_a_teardown_that_fails(untidy: None) -> None:
    pass


@pytest.mark.timeout(1)
def test_that_hangs() -> None:
    signal.pause()


def test_that_ends_the_run() -> None:
    os._exit(3)


def test_that_is_never_reached() -> None:
    pass
