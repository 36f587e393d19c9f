"""What is withheld is said once and stands until it is done after all, or its incident is over."""

from __future__ import annotations

from gpuwarden.model.action import Action, Kind, Withheld
from gpuwarden.model.decision import Decision
from gpuwarden.model.ids import IncidentId
from gpuwarden.node.status import still_withheld
from tests.policy.builders import memory, tenant_id

INC, OTHER = IncidentId("inc-1"), IncidentId("inc-2")


def held(kind: Kind = Kind.TERM, incident: IncidentId = INC, budget: str = "journal") -> Withheld:
    return Withheld(
        kind=kind,
        incident=incident,
        tenant=tenant_id("hog"),
        device=None,
        budget=budget,
        detail="the intent cannot be written down",
    )


BOTH_OPEN = memory(open_incidents={"tenant/hog": INC, "node": OTHER})
QUIET = Decision(memory=BOTH_OPEN)


def test_it_stands_when_the_next_decision_does_not_repeat_it() -> None:
    now = still_withheld((), Decision(memory=BOTH_OPEN, withheld=(held(),)))
    assert now == (held(),)
    assert still_withheld(now, QUIET) == (held(),)


def test_it_ends_with_its_incident_and_no_other() -> None:
    other = held(incident=OTHER)
    closed = Decision(memory=memory(open_incidents={"node": OTHER}))
    assert still_withheld((held(), other), closed) == (other,)


def test_it_ends_when_the_action_is_ordered_after_all() -> None:
    kill = held(Kind.KILL)
    order = Action(id="inc-1/2", kind=Kind.TERM, incident=INC, why="test")
    ordered = Decision(memory=BOTH_OPEN, actions=(order,))
    assert still_withheld((held(), kill), ordered) == (kill,)


def test_said_again_it_is_there_once_and_as_last_said() -> None:
    again = Decision(memory=BOTH_OPEN, withheld=(held(),))
    assert still_withheld((held(),), again) == (held(),)
