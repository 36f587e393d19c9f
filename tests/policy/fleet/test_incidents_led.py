"""What others claim of the fleet is told as well; who does not lead tells nothing, and goes on where a leader stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import FleetClaim
from gpuwarden.policy.fleet import incidents
from gpuwarden.policy.fleet.decide import decide
from gpuwarden.policy.fleet.fold import FleetMemory
from tests.policy.fleet_builders import CFG, NOW, WALL, fleet

DRIFT = FleetClaim(key="policy drift", severity=Severity.WARNING, summary="3 of 64 nodes")


def after(memory: FleetMemory, epoch: int | None, *claims: FleetClaim) -> list[list[str]]:
    """By pass, what people are told of."""
    pages = []
    for at in range(0, 30, 10):
        decision = decide(CFG, memory, NOW + at, WALL + at, epoch, claims)
        memory = decision.memory
        pages.append([each.key for each in decision.pages])
    return pages


@pytest.mark.parametrize("key", incidents.TOLD)
def test_what_ends_in_nodes_that_only_observe_is_told_once_as_a_warning(key: str) -> None:
    assert after(fleet(3), 1, replace(DRIFT, key=key)) == [[], [key], []]


def test_other_warnings_stand_in_the_status_alone() -> None:
    assert after(fleet(3), 1, replace(DRIFT, key="wallclock")) == [[], [], []]


def test_who_does_not_lead_has_told_nothing_and_does_when_it_leads() -> None:
    memory = fleet(3)
    for at in (0, 10, 20):
        decision = decide(CFG, memory, NOW + at, WALL + at, None, (DRIFT,))
        assert decision.pages == ()
        memory = decision.memory
    led = decide(CFG, memory, NOW + 21, WALL + 21, 7, (DRIFT,))
    assert [each.key for each in led.pages] == ["policy drift"]


def test_who_begins_to_lead_keeps_the_names_of_what_was_told() -> None:
    mine = decide(CFG, fleet(3), NOW, WALL, None, (DRIFT,)).memory.incidents
    (old,) = mine
    before = replace(old, id="fleet-policy-drift-1", opened_wall=1.0, is_paged=True)
    gone = replace(before, id="fleet-silent-1", key="silent", gone_at=NOW)
    assert incidents.adopted(mine, (before, gone)) == (
        replace(old, id="fleet-policy-drift-1", opened_wall=1.0, is_paged=True),
        gone,
    )
    (untold,) = incidents.adopted((replace(old, is_paged=True),), ())
    assert not untold.is_paged
