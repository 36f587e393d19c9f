"""Rule power: over its limit, or held below the one that was set."""

from __future__ import annotations

import pytest

from gpuwarden.model.device import Device
from gpuwarden.policy.health import power
from tests.policy.health.ward import ask, enters, leaves, sampled


@pytest.mark.parametrize(
    ("drawn", "limit", "told"),
    [
        (770.0, 700.0, False),
        (771.0, 700.0, True),
        (None, 700.0, False),
        (900.0, None, False),
        (50.0, 0.0, False),
    ],
)
def test_more_than_its_limit(drawn: float | None, limit: float | None, told: bool) -> None:
    device = sampled(vitals={"power_w": drawn}, setup={"power_limit_w": limit})
    assert list(ask(power.JUDGES, device)) == (["power-over"] if told else [])


@pytest.mark.parametrize(
    ("limit", "told_w", "is_held"),
    [
        (700.0, 700.0, False),
        (690.0, 700.0, False),
        (300.0, 700.0, True),
        (300.0, None, False),
        (None, 700.0, False),
        (400.0, 400.0, False),
    ],
)
def test_held_below_what_was_set(limit: float | None, told_w: float | None, is_held: bool) -> None:
    """A limit that the operator lowered is no fault: it is what was set."""
    device = sampled(setup={"power_limit_w": limit, "power_limit_set_w": told_w})
    assert list(ask(power.JUDGES, device)) == (["power-held"] if is_held else [])


def over(at: float) -> Device:
    return sampled(at=at, vitals={"power_w": 900.0}, setup={"power_limit_w": 700.0})


def under(at: float) -> Device:
    return sampled(at=at, vitals={"power_w": 100.0}, setup={"power_limit_w": 700.0})


def test_it_enters_and_leaves_slowly() -> None:
    ward, at = enters("vitals", over, "power-over GPU-0", 60.0)
    leaves("vitals", under, "power-over GPU-0", 300.0, ward, at)
