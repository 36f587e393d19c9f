"""Rule fabric: registration, and the conditions the driver states."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.device import Device
from gpuwarden.model.finding import Scope, Severity
from gpuwarden.policy.health import fabric
from gpuwarden.policy.health.rule import Claim
from tests.policy.builders import NOW, Story, config
from tests.policy.health.ward import ask, enters, leaves, sampled

WELL = 0b10101010
"""Each of the four conditions is false."""


def found(state: int | None, **setup: Any) -> dict[str, Claim]:
    return ask(fabric.JUDGES, sampled(setup={"fabric_state": state, **setup}))


@pytest.mark.parametrize(
    ("state", "setup"),
    [
        (None, {}),
        (0, {"fabric_health_mask": 0}),  # what a lone H100 tells
        (3, {"fabric_status": 0, "fabric_health_mask": WELL}),
        (3, {"fabric_status": 0, "fabric_health_mask": 0}),  # no condition is supported
        (3, {"fabric_health_mask": WELL | 1 << 8}),  # nothing is wrong with its configuration
    ],
)
def test_no_fabric_or_a_whole_one(state: int | None, setup: dict[str, int]) -> None:
    assert found(state, **setup) == {}


@pytest.mark.parametrize("state", [1, 2, 4])
def test_a_registration_that_is_not_complete_is_the_nodes(state: int) -> None:
    claim = found(state, fabric_status=0)["fabric-incomplete"]
    assert (claim.severity, claim.scope) == (Severity.ERROR, Scope.NODE)


def test_a_registration_that_failed() -> None:
    assert list(found(3, fabric_status=999, fabric_health_mask=WELL)) == ["fabric-failed"]


@pytest.mark.parametrize(
    ("mask", "severity", "words"),
    [
        (WELL ^ 0b11, Severity.WARNING, "degraded bandwidth"),
        (WELL ^ 0b11 << 2, Severity.WARNING, "route recovery"),
        (WELL ^ 0b11 << 4, Severity.ERROR, "unhealthy route"),
        (WELL ^ 0b11 << 6, Severity.WARNING, "access time-out"),
        (WELL | 5 << 8, Severity.ERROR, "incorrect configuration (5)"),
        (0x55, Severity.ERROR, "degraded bandwidth, a route recovery in progress, an unhealthy"),
    ],
)
def test_each_condition(mask: int, severity: Severity, words: str) -> None:
    claim = found(3, fabric_health_mask=mask)["fabric-unhealthy"]
    assert claim.severity is severity
    assert words in claim.summary


def waiting(at: float) -> Device:
    return sampled(at=at, setup={"fabric_state": 2})


def joined(at: float) -> Device:
    return sampled(at=at, setup={"fabric_state": 3})


def test_it_enters_and_leaves_slowly() -> None:
    ward, at = enters("setup", waiting, "fabric-incomplete GPU-0", 120.0)
    leaves("setup", joined, "fabric-incomplete GPU-0", 300.0, ward, at)


def test_eight_devices_outside_their_fabric_are_one_incident_and_one_page() -> None:
    story = Story(config())
    for n in range(140):
        at = NOW + n
        sample = NOW + n // 60 * 60
        devices = [sampled(i, at=sample, setup={"fabric_state": 1}) for i in range(8)]
        story.see(at, gpus=devices)
    assert len(story.looks[-1].findings) == 8
    assert [kind.value for _, kind, _ in story.ordered] == ["page"]
    assert len(story.mem.open_incidents) == 1
