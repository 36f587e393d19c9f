"""From a journal to where the last agent stopped: memory, open actions, incidents; and on from there."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from gpuwarden.clock import Clock
from gpuwarden.config import Config
from gpuwarden.errors import Unavailable
from gpuwarden.model.action import REPAIRS, Action, Kind, Outcome, Result
from gpuwarden.model.decision import Incident
from gpuwarden.model.memory import Memory, Rung
from gpuwarden.node.journal import Record
from gpuwarden.node.loop import Node
from gpuwarden.policy import archive, fold, guard
from gpuwarden.policy.archive import Archive
from gpuwarden.ports import Ports


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """An action that was intended and has no outcome on disk: it may or may not have happened."""

    action: Action
    wall: float
    """When it was decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """Where to go on from."""

    memory: Memory
    incidents: tuple[Incident, ...]
    unsettled: tuple[Unsettled, ...]


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
    pending: dict[str, Unsettled] = {}
    for record in records:
        if record.config is not None:
            cfg = _understood(record.config, cfg)
        if record.kind in ("memory", "tick") and record.decision is None and record.memory:
            memory = record.memory
        if record.decision is not None:
            memory = record.decision.memory
            for action in record.decision.actions:
                pending[action.id] = Unsettled(action=action, wall=memory.last_wall)
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


def _is_repeated(cfg: Config, unsettled: Unsettled, wall: float) -> bool:
    """Whether to carry an action out again without knowing whether it was.

    A page too many wakes nobody twice, for who receives it joins the two by their incident; a move that
    was begun leaves a protected service down until it is finished, and one that was finished is found
    so. Neither is worth it when it is old: what still stands is then judged afresh.
    """
    if not 0 <= wall - unsettled.wall <= cfg.ladder.page_again_s:
        return False
    if unsettled.action.kind is Kind.RELOCATE:
        return cfg.ladder.allow_protected_restart and guard.is_enforcing(cfg, "locked")
    return unsettled.action.kind is Kind.PAGE


def _understood(config: str, before: Config) -> Config:
    """The configuration of a record; one of another version that says what this one cannot read
    changes nothing: only what incidents tell of it is taken from it."""
    try:
        return Config.model_validate_json(config)
    except ValueError:
        return before


def resume(
    cfg: Config,
    ports: Ports,
    clock: Clock,
    recovered: Recovered,
    begin: Callable[[Memory], None],
) -> Node:
    """A node that goes on where the last agent stopped. ``begin`` opens the journal for it; where that
    fails, the node runs without harm and keeps trying."""
    now, wall = clock.now(), clock.wall()
    again = [u for u in recovered.unsettled if _is_repeated(cfg, u, wall)]
    lost = left_open(ports, [u for u in recovered.unsettled if u not in again], now, wall)
    memory = resumed(recovered.memory, lost, now)
    known, told = archive.concluded(Archive(incidents=recovered.incidents), lost)
    node = Node(cfg, ports, clock, memory, known.incidents, [u.action for u in again])
    try:
        begin(memory)
        if lost:
            ports.journal.conclude(lost)
        if told:
            ports.journal.keep(told)
    except Unavailable as error:
        node.lose_journal(clock.now(), error)
    return node


DOUBT = "the agent ended between intent and outcome"


def left_open(
    ports: Ports, unsettled: Iterable[Unsettled], at: float, wall: float
) -> tuple[Outcome, ...]:
    """The outcomes to write down for what is unsettled: of a repair's step the marks tell, else nobody knows."""
    outcomes = []
    for action in (u.action for u in unsettled):
        is_done = ports.remedies.is_done(action.id) if action.kind in REPAIRS else None
        result = {True: Result.DONE, False: Result.REFUSED, None: Result.UNKNOWN}[is_done]
        told = {True: "done before it ended", False: "the agent ended before it began", None: DOUBT}
        outcomes.append(_outcome(action, result, told[is_done], at, wall))
    return tuple(outcomes)


def _outcome(action: Action, result: Result, detail: str, at: float, wall: float) -> Outcome:
    return Outcome(
        action=action.id,
        kind=action.kind,
        incident=action.incident,
        tenant=action.target.tenant if action.target is not None else None,
        device=action.device,
        result=result,
        at=at,
        wall=wall,
        detail=detail,
    )


def resumed(memory: Memory, outcomes: tuple[Outcome, ...], at: float) -> Memory:
    """Memory to start with: waits for an answer that will never come are over, unless it is asked for again
    (``is_unsure``), and whoever may have been frozen since TERM has its grace from now on, when it can
    hear it."""
    memory = memory.after(outcomes)
    frozen = {debt.tenant for debt in memory.debts if debt.kind is Kind.THAW}
    cases = {}
    for tenant, case in memory.cases.items():
        is_deaf = case.rung is Rung.TERMED and tenant in frozen
        cases[tenant] = replace(
            case,
            is_restart_settled=case.is_restart_settled or not case.is_unsure,
            is_detached=case.is_detached or not case.is_unsure,
            since=at if is_deaf else case.since,
        )
    return replace(memory, cases=cases, devices=fold.unbreached(memory.devices))
