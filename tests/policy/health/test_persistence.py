"""Rule persistence: off is told, what is not told is not."""

from __future__ import annotations

import pytest

from gpuwarden.model.device import Device
from gpuwarden.policy.health import persistence
from tests.policy.health.ward import ask, enters, leaves, sampled


@pytest.mark.parametrize(("mode", "told"), [(True, False), (None, False), (False, True)])
def test_off(mode: bool | None, told: bool) -> None:
    claims = ask(persistence.JUDGES, sampled(setup={"persistence_enabled": mode}))
    assert bool(claims) is told


def off(at: float) -> Device:
    return sampled(at=at, setup={"persistence_enabled": False})


def on(at: float) -> Device:
    return sampled(at=at, setup={"persistence_enabled": True})


def test_it_enters_and_leaves_slowly() -> None:
    ward, at = enters("setup", off, "persistence-off GPU-0", 120.0)
    leaves("setup", on, "persistence-off GPU-0", 300.0, ward, at)
