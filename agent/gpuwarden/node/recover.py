"""From a journal to where the last agent stopped: memory, open actions, incidents."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gpuwarden.model.action import Action, Outcome, Result
from gpuwarden.model.decision import Incident
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.memory import Memory
from gpuwarden.node.journal import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """Where to go on from."""

    memory: Memory
    incidents: tuple[Incident, ...]
    unsettled: tuple[Action, ...]
    """Intended, and no outcome on disk: they may or may not have happened."""


def recover(records: Iterable[Record]) -> Recovered:
    """Fold a journal. Of actions without an outcome it is unknown whether they happened: none
    is done
    again by rote; the ladder resumes on the same rung and the world is measured first."""
    memory = Memory()
    incidents: dict[IncidentId, Incident] = {}
    pending: dict[str, Action] = {}
    for record in records:
        if record.kind in ("memory", "tick") and record.decision is None and record.memory:
            memory = record.memory
        if record.decision is not None:
            memory = record.decision.memory
            pending.update({a.id: a for a in record.decision.actions})
        if record.outcomes:
            memory = memory.after(record.outcomes)
            for outcome in record.outcomes:
                if outcome.result is not Result.STARTED:
                    pending.pop(outcome.action, None)
        for incident in record.incidents:
            incidents[incident.id] = incident
    return Recovered(
        memory=memory,
        incidents=tuple(sorted(incidents.values(), key=lambda i: -i.opened_wall)),
        unsettled=tuple(pending.values()),
    )


def unknown(recovered: Recovered, at: float, wall: float) -> tuple[Outcome, ...]:
    """The outcomes to write down for what is unsettled."""
    return tuple(
        Outcome(
            action=action.id,
            kind=action.kind,
            incident=action.incident,
            tenant=action.target.tenant if action.target is not None else None,
            device=action.device,
            result=Result.UNKNOWN,
            at=at,
            wall=wall,
            detail="the agent ended between intent and outcome",
        )
        for action in recovered.unsettled
    )


def resumed(memory: Memory, outcomes: tuple[Outcome, ...]) -> Memory:
    """Memory to start with: waits for a runtime's answer that will never come are over."""
    memory = memory.after(outcomes)
    cases = {
        tenant: replace(case, is_restart_settled=True) for tenant, case in memory.cases.items()
    }
    return replace(memory, cases=cases)
