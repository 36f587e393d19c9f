"""Rule pcie: replays by lane and generation, the width always, the generation under load."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.device import Device
from gpuwarden.model.finding import Scope, Severity
from gpuwarden.model.health_memory import DeviceHistory
from gpuwarden.policy.health import pcie
from gpuwarden.policy.health.rule import Claim
from tests.policy.builders import NOW, config
from tests.policy.health.ward import Ward, ask, enters, grew, leaves, sampled

FULL = {
    "pcie_link_generation": 5,
    "pcie_link_generation_max": 5,
    "pcie_link_width": 16,
    "pcie_link_width_max": 16,
}


def link(busy: float | None = 1.0, **setup: Any) -> dict[str, Claim]:
    device = sampled(vitals={"utilization_ratio": busy}, errors={}, setup={**FULL, **setup})
    return ask(pcie.JUDGES, device)


def replaying(count: float, **setup: Any) -> dict[str, Claim]:
    history = DeviceHistory(errors=grew(60.0, pcie_replays_total=count))
    return ask(pcie.JUDGES, sampled(errors={}, setup={**FULL, **setup}), history=history)


@pytest.mark.parametrize(
    ("generation", "width", "allowed"),
    [
        (1, 16, 3),
        (2, 16, 5),
        (3, 16, 8),
        (4, 16, 16),
        (5, 16, 31),
        (6, 16, 62),
        (9, 16, 62),
        (4, 8, 8),
        (1, 1, 1),
    ],
)
def test_replays_a_minute_by_lane_and_generation(generation: int, width: int, allowed: int) -> None:
    full = {"pcie_link_generation_max": generation, "pcie_link_width_max": width}
    now = {"pcie_link_generation": generation, "pcie_link_width": width, **full}
    assert replaying(float(allowed), **now) == {}
    claims = replaying(allowed + 1.0, **now)
    assert list(claims) == ["pcie-replays"]
    assert claims["pcie-replays"].scope is Scope.LINK


@pytest.mark.parametrize("unknown", ["pcie_link_generation", "pcie_link_width"])
def test_a_link_that_is_not_known_allows_no_verdict(unknown: str) -> None:
    assert replaying(10_000.0, **{unknown: None}) == {}
    history = DeviceHistory(errors=grew(60.0, pcie_replays_total=10_000.0))
    assert ask(pcie.JUDGES, sampled(errors={}), history=history) == {}


def test_fatal_errors_page_and_others_are_told() -> None:
    counters = {"pcie_fatal_errors_total": 1.0, "pcie_non_fatal_errors_total": 2.0}
    claims = ask(
        pcie.JUDGES, sampled(errors={}), history=DeviceHistory(errors=grew(60.0, **counters))
    )
    assert claims["pcie-fatal"].severity is Severity.ERROR
    assert claims["pcie-non-fatal"].severity is Severity.WARNING


@pytest.mark.parametrize(
    ("setup", "faults"),
    [
        ({}, []),
        ({"pcie_link_width": 8}, ["pcie-width"]),
        ({"pcie_link_width": 8, "pcie_link_width_max": 8}, []),  # a slot of eight lanes
        ({"pcie_link_width": None}, []),
        ({"pcie_link_width_max": None}, []),
        ({"pcie_link_generation": 3}, ["pcie-generation"]),
        ({"pcie_link_generation": None}, []),
    ],
)
def test_the_link_against_what_device_and_slot_can_do(
    setup: dict[str, int | None], faults: list[str]
) -> None:
    assert list(link(**setup)) == faults


@pytest.mark.parametrize("busy", [None, 0.0, 0.49])
def test_a_slow_link_is_how_an_idle_one_saves_power(busy: float | None) -> None:
    assert link(busy, pcie_link_generation=1) == {}
    assert list(link(busy, pcie_link_generation=1, pcie_link_width=8)) == ["pcie-width"]


def narrow(at: float) -> Device:
    return sampled(at=at, setup={**FULL, "pcie_link_width": 4})


def wide(at: float) -> Device:
    return sampled(at=at, setup=FULL)


def test_width_enters_and_leaves_slowly() -> None:
    ward, at = enters("setup", narrow, "pcie-width GPU-0", 60.0)
    leaves("setup", wide, "pcie-width GPU-0", 300.0, ward, at)


def test_a_link_that_is_retrained_in_between_is_no_fault() -> None:
    ward = Ward(cfg=config(health={"pcie": {"link_grace_s": 120}}))
    for n in range(12):
        at = NOW + 60.0 * n
        assert not ward.see(at, narrow(at) if n % 3 else wide(at))
