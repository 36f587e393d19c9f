"""Rule throttle: the share of a minute that heat or the power brake took; a power cap is no fault."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.device import Device
from gpuwarden.model.finding import Severity
from gpuwarden.policy.health import throttle
from tests.policy.builders import NOW
from tests.policy.health.ward import Ward, ask, enters, leaves, sampled

HEAT = "clock_event_hw_thermal_s_total"
BRAKE = "clock_event_hw_power_brake_s_total"
WARM = "clock_event_sw_thermal_s_total"


def held(counter: str, share: float, *, seconds: int = 180) -> list[str]:
    """Faults that stand after three minutes with this share of each held down."""
    ward = Ward()
    found: dict[str, Any] = {}
    for n in range(seconds // 5 + 1):
        at = NOW + 5.0 * n
        counters = {HEAT: 0.0, BRAKE: 0.0, WARM: 0.0, counter: share * 5.0 * n}
        found = ward.see(at, sampled(at=at, vitals=counters))
    return [key.split()[0] for key in found]


@pytest.mark.parametrize(
    ("counter", "share", "faults"),
    [
        (HEAT, 0.04, []),
        (HEAT, 0.06, ["throttle-heat"]),
        (BRAKE, 0.04, []),
        (BRAKE, 1.0, ["throttle-power"]),
        (WARM, 0.24, []),
        (WARM, 0.26, ["throttle-warm"]),
    ],
)
def test_the_share_of_a_minute(counter: str, share: float, faults: list[str]) -> None:
    assert held(counter, share) == faults


def test_it_stands_a_minute_after_the_first_bad_minute() -> None:
    assert held(HEAT, 0.5, seconds=115) == []
    assert held(HEAT, 0.5, seconds=120) == ["throttle-heat"]


@pytest.mark.parametrize("mask", [0x1, 0x2, 0x4, 0x10, 0x100, None])
def test_idle_a_cap_and_settings_are_no_fault(mask: int | None) -> None:
    assert ask(throttle.JUDGES, sampled(vitals={"clock_event_mask": mask})) == {}


@pytest.mark.parametrize(
    ("mask", "fault", "severity"),
    [
        (0x48, "throttle-heat", Severity.ERROR),
        (0x88, "throttle-power", Severity.ERROR),
        (0x20, "throttle-warm", Severity.WARNING),
    ],
)
def test_a_driver_without_counters_is_judged_by_its_reasons(
    mask: int, fault: str, severity: Severity
) -> None:
    claims = ask(throttle.JUDGES, sampled(vitals={"clock_event_mask": mask}))
    assert {f: c.severity for f, c in claims.items()} == {fault: severity}


def test_where_there_are_counters_one_glimpse_of_a_reason_is_none() -> None:
    ward = Ward()
    for n in range(30):
        at = NOW + 5.0 * n
        mask = 0x48 if n % 12 == 0 else 0
        vitals = {HEAT: 0.2 * n / 12, "clock_event_mask": mask}
        assert not ward.see(at, sampled(at=at, vitals=vitals))


def hot(at: float) -> Device:
    return sampled(at=at, vitals={"clock_event_mask": 0x48})


def cool(at: float) -> Device:
    return sampled(at=at, vitals={"clock_event_mask": 0x4})


def test_it_enters_and_leaves_slowly() -> None:
    ward, at = enters("vitals", hot, "throttle-heat GPU-0", 60.0)
    leaves("vitals", cool, "throttle-heat GPU-0", 300.0, ward, at)


def test_a_driver_that_is_loaded_again_is_no_throttling() -> None:
    ward = Ward()
    for n in range(40):
        at = NOW + 5.0 * n
        total = 9_000.0 if n < 20 else 0.0
        assert not ward.see(at, sampled(at=at, vitals={HEAT: total}))
