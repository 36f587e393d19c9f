"""From a journal to where the last agent stopped: memory, open actions, incidents; and on from there."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from gpuwarden.clock import Clock
from gpuwarden.config import Config
from gpuwarden.errors import Unavailable
from gpuwarden.model.action import Action, Outcome, Result
from gpuwarden.model.decision import Incident
from gpuwarden.model.memory import Memory
from gpuwarden.node.journal import Record
from gpuwarden.node.loop import Node
from gpuwarden.policy import archive
from gpuwarden.policy.archive import Archive
from gpuwarden.ports import Ports


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
    again by rote; the ladder resumes on the same rung and the world is measured first.

    Incidents are folded too: an agent that died between a decision, or an outcome, and the incident
    it belongs to has written the one and not the other.
    """
    cfg = Config()
    memory = Memory()
    known = Archive()
    pending: dict[str, Action] = {}
    for record in records:
        if record.config is not None:
            cfg = Config.model_validate_json(record.config)
        if record.kind in ("memory", "tick") and record.decision is None and record.memory:
            memory = record.memory
        if record.decision is not None:
            memory = record.decision.memory
            pending.update({a.id: a for a in record.decision.actions})
            if record.snapshot is not None:
                known, _ = archive.decided(cfg, known, record.snapshot, record.decision)
        if record.outcomes:
            memory = memory.after(record.outcomes)
            known, _ = archive.concluded(known, record.outcomes)
            for outcome in record.outcomes:
                if outcome.result is not Result.STARTED:
                    pending.pop(outcome.action, None)
        known = archive.restored(known, record.incidents)
    return Recovered(memory=memory, incidents=known.incidents, unsettled=tuple(pending.values()))


def resume(
    cfg: Config,
    ports: Ports,
    clock: Clock,
    recovered: Recovered,
    begin: Callable[[Memory], None],
) -> Node:
    """A node that goes on where the last agent stopped. ``begin`` opens the journal for it; where that
    fails, the node runs without harm and keeps trying."""
    lost = unknown(recovered, clock.now(), clock.wall())
    memory = resumed(recovered.memory, lost)
    known, told = archive.concluded(Archive(incidents=recovered.incidents), lost)
    node = Node(cfg, ports, clock, memory, known.incidents)
    try:
        begin(memory)
        if lost:
            ports.journal.conclude(lost)
        if told:
            ports.journal.keep(told)
    except Unavailable as error:
        node.lose_journal(clock.now(), error)
    return node


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
