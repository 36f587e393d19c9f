"""A cordoned device says so, and is used again once it has been well for long enough."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.device import Sight
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.memory import Rung
from tests.policy.builders import (
    NOW,
    Story,
    budgets,
    case,
    config,
    device_id,
    device_memory,
    gpu,
    memory,
    remembering,
    tenant,
)

CORDONED = {device_id(0): device_memory(cordoned_by=IncidentId("inc-7"))}


def story(mode: str = "enforce", **rest: Any) -> Story:
    cfg = config(mode, ladder={"uncordon_after_s": 300})
    return Story(cfg, mem=memory(devices=CORDONED), **rest)


def is_cordoned(told: Story) -> bool:
    return told.mem.devices[device_id(0)].cordoned_by is not None


def test_it_is_told_while_it_lasts_and_opens_no_incident() -> None:
    told = story()
    seen = told.see(NOW)
    (claim,) = seen.findings
    assert (claim.rule, claim.device) == ("cordon", device_id(0))
    assert "inc-7" in claim.summary
    assert seen.incidents == ()


@pytest.mark.parametrize(("waited", "is_over"), [(299.9, False), (300.0, True)])
def test_it_ends_after_long_enough_without_a_fault(waited: float, is_over: bool) -> None:
    told = story()
    told.see(NOW)
    assert told.see(NOW + waited).wake_at is not None or is_over
    assert is_cordoned(told) is not is_over
    assert bool(told.times(Kind.UNCORDON)) is is_over


def test_its_end_belongs_to_the_incident_that_began_it() -> None:
    told = story()
    told.see(NOW)
    (action,) = told.see(NOW + 300).actions
    assert (action.incident, action.device, action.kind) == ("inc-7", device_id(0), Kind.UNCORDON)


@pytest.mark.parametrize(
    "ill",
    [
        {"recovery_action": 1},
        {"sight": Sight.BLIND},
        {"sight": Sight.LOST},
    ],
)
def test_a_relapse_starts_the_probation_anew(ill: dict[str, Any]) -> None:
    told = story()
    told.see(NOW)
    told.see(NOW + 200, gpus=[gpu(**ill)])
    told.see(NOW + 299, gpus=[gpu()])
    told.see(NOW + 500, gpus=[gpu()])
    assert is_cordoned(told)
    told.see(NOW + 599 + 10, gpus=[gpu()])
    assert not is_cordoned(told)


def test_bytes_that_are_stuck_there_keep_it() -> None:
    who = tenant()
    mem = remembering(case(who, Rung.STUCK), devices=CORDONED)
    told = Story(config(), mem=mem)
    for at in (0, 100, 200, 400, 800):
        told.see(NOW + at)
    assert is_cordoned(told)


def test_giving_a_device_back_is_never_withheld() -> None:
    told = story("observe")
    told.see(NOW, can_record=False)
    seen = told.see(NOW + 300, can_record=False)
    assert [a.kind for a in seen.actions] == [Kind.UNCORDON]
    assert budgets(seen) == []
