"""What became of messages to people stands in their incidents; a newer word replaces the older one."""

from __future__ import annotations

from dataclasses import replace

from gpuwarden.model.decision import Incident
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Delivery, Reason, Result
from gpuwarden.policy import archive
from gpuwarden.policy.archive import Archive
from tests.policy.builders import NOW, WALL

INCIDENT = Incident(
    id=IncidentId("inc-1"),
    rule="sight",
    summary="s",
    opened_at=NOW - 60,
    opened_wall=WALL + NOW - 60,
)
FAILED = Delivery(
    id="inc-1/pd/1",
    incident=INCIDENT.id,
    sink="pd",
    reason=Reason.FIRST,
    result=Result.FAILED,
    wall=WALL + NOW - 10,
    detail="HTTP 500",
)
KEPT = Archive(incidents=(INCIDENT,))


def told(kept: Archive, *deliveries: Delivery, at: float = NOW) -> tuple[Archive, bool]:
    fresh, changed = archive.delivered(kept, deliveries, at, WALL + at)
    return fresh, bool(changed)


def test_is_a_step_at_its_own_time() -> None:
    kept, is_changed = told(KEPT, FAILED)
    (step,) = kept.incidents[0].steps
    assert is_changed
    assert (step.kind, step.result, step.text) == ("notify", "failed", "first to pd: HTTP 500")
    assert (step.at, step.action) == (NOW - 10, "inc-1/pd/1")
    assert "Nobody could be told yet" in kept.incidents[0].advice[-1]


def test_a_newer_word_replaces_it() -> None:
    kept, _ = told(KEPT, FAILED)
    kept, is_changed = told(kept, replace(FAILED, result=Result.DELIVERED, detail="HTTP 202"))
    assert is_changed
    assert [s.result for s in kept.incidents[0].steps] == ["delivered"]
    assert not any("Nobody" in line for line in kept.incidents[0].advice)


def test_the_same_word_again_changes_nothing() -> None:
    kept, _ = told(KEPT, FAILED)
    again, is_changed = told(kept, FAILED, at=NOW + 5)
    assert not is_changed
    assert again.incidents == kept.incidents


def test_held_back_and_acknowledged_are_said() -> None:
    held = replace(FAILED, id="h", sink="", reason=Reason.SILENCED, result=Result.HELD, detail="x")
    acked = replace(
        FAILED,
        id="a",
        sink="",
        reason=Reason.ACKNOWLEDGED,
        result=Result.DELIVERED,
        detail="by ann",
    )
    kept, _ = told(KEPT, held, acked)
    assert [s.text for s in kept.incidents[0].steps] == ["silenced: x", "acknowledged by ann"]


def test_of_an_incident_that_nobody_remembers_nothing_is_kept() -> None:
    assert told(KEPT, replace(FAILED, incident=IncidentId("other")))[1] is False
