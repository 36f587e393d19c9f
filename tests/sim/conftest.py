"""Simulated hosts for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gpuwarden.sim.driver.build import Built
from gpuwarden.sim.host import SimHost, SimOptions
from tests.sim.sight import built_or_skip, seen


@pytest.fixture(scope="session")
def built() -> Built:
    return built_or_skip()


@pytest.fixture
def host(built: Built) -> Iterator[SimHost]:
    """Two A100 boards, nothing running."""
    with SimHost(SimOptions(devices=2), built=built) as running:
        yield running


@pytest.fixture
def nvml(host: SimHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimHost]:
    """The same, with pynvml initialised on it."""
    with seen(host, monkeypatch):
        yield host
