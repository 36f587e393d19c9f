"""Rule inforom: once an hour, and healed only by a look that finds it well."""

from __future__ import annotations

import pytest

from gpuwarden.model.device import Device
from gpuwarden.policy.health import inforom
from tests.policy.builders import NOW
from tests.policy.health.ward import ask, enters, leaves, sampled


@pytest.mark.parametrize(("bad", "told"), [(None, False), (False, False), (True, True)])
def test_corrupted(bad: bool | None, told: bool) -> None:
    assert bool(ask(inforom.JUDGES, sampled(deep={"inforom_corrupted": bad}))) is told


def ill(at: float) -> Device:
    return sampled(at=at, deep={"inforom_corrupted": True})


def well(at: float) -> Device:
    return sampled(at=at, deep={"inforom_corrupted": False})


def test_it_enters_at_once_and_leaves_with_the_next_good_look() -> None:
    ward, at = enters("deep", ill, "inforom-corrupted GPU-0", 0.0)
    assert ward.see(at + 3_599.0, ill(at))
    leaves("deep", well, "inforom-corrupted GPU-0", 0.0, ward, NOW)
