"""Rule thermal: against the device's own limits."""

from __future__ import annotations

import pytest

from gpuwarden.model.device import Device
from gpuwarden.model.finding import Severity
from gpuwarden.policy.health import thermal
from tests.policy.builders import NOW
from tests.policy.health.ward import Ward, ask, enters, leaves, sampled

LIMITS = {
    "temperature_slowdown_c": 89.0,
    "temperature_shutdown_c": 95.0,
    "temperature_memory_max_c": 95.0,
}


@pytest.mark.parametrize(
    ("vitals", "faults"),
    [
        ({"temperature_c": 88.0, "memory_temperature_c": 94.0}, []),
        ({"temperature_c": 89.0}, ["thermal-core"]),
        ({"memory_temperature_c": 95.0}, ["thermal-memory"]),
        ({}, []),
    ],
)
def test_at_its_limit(vitals: dict[str, float], faults: list[str]) -> None:
    assert list(ask(thermal.JUDGES, sampled(vitals=vitals, setup=LIMITS))) == faults


def test_a_device_that_states_no_limit_is_at_none() -> None:
    hot = {"temperature_c": 120.0, "memory_temperature_c": 120.0}
    assert ask(thermal.JUDGES, sampled(vitals=hot, setup={})) == {}
    assert ask(thermal.JUDGES, sampled(vitals=hot)) == {}
    none = {"temperature_slowdown_c": 0.0, "temperature_memory_max_c": 0.0}
    assert ask(thermal.JUDGES, sampled(vitals=hot, setup=none)) == {}


@pytest.mark.parametrize(("margin", "told"), [(None, False), (1.0, False), (0.0, True), (-4, True)])
def test_no_margin_left(margin: float | None, told: bool) -> None:
    claims = ask(thermal.JUDGES, sampled(errors={"temperature_margin_c": margin}))
    assert bool(claims) is told
    assert all(claim.severity is Severity.WARNING for claim in claims.values())


def hot(at: float) -> Device:
    return sampled(at=at, vitals={"temperature_c": 90.0}, setup=LIMITS)


def cool(at: float) -> Device:
    return sampled(at=at, vitals={"temperature_c": 60.0}, setup=LIMITS)


def test_it_enters_and_leaves_slowly() -> None:
    ward, at = enters("vitals", hot, "thermal-core GPU-0", 30.0)
    leaves("vitals", cool, "thermal-core GPU-0", 300.0, ward, at)


def test_a_limit_that_is_not_known_any_more_heals_nothing() -> None:
    ward, at = enters("vitals", hot, "thermal-core GPU-0", 30.0)
    for n in range(1, 100):
        later = at + 5.0 * n
        assert ward.see(later, sampled(at=later, vitals={"temperature_c": 60.0}))


def test_a_sample_that_is_too_old_is_not_judged() -> None:
    ward = Ward()
    assert not ward.see(NOW, hot(NOW - 13.0))
    assert ward.health.signs == {}
    ward.see(NOW, hot(NOW - 12.0))
    assert list(ward.health.signs) == ["thermal-core GPU-0"]
