"""Carries out what operators ask for. An operator's word counts in observe mode too: it is theirs, not ours."""

from dataclasses import dataclass, replace

from gpuwarden.model.command import Answer, Command, Verb
from gpuwarden.model.decision import NoteKind
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.ids import DeviceId, IncidentId
from gpuwarden.model.repair import NODE, Phase
from gpuwarden.policy import cordon, rollback
from gpuwarden.policy.cordon import NODE_ITSELF
from gpuwarden.policy.desk import Desk

UNDER_WAY = frozenset({Phase.EMPTYING, Phase.ACTING, Phase.VERIFYING})
"""A repair in these needs what it repairs to stay out of use."""
PREFIX_MIN_CHARS = 8
"""The shortest beginning of a UUID that names a device: ``GPU-`` and some of it."""


class _No(Exception):
    """Why a command is not carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What a command is about."""

    id: DeviceId
    words: str


def obey(desk: Desk) -> tuple[Answer, ...]:
    """Every command of this tick, in order, with its answer."""
    return tuple(_answer(desk, command) for command in desk.scene.snap.commands)


def _answer(desk: Desk, command: Command) -> Answer:
    try:
        if not desk.scene.snap.can_record:
            raise _No("the journal cannot be written: nothing is done that is not on record")
        if command.verb is Verb.ROLL_BACK:
            text, at = rollback.begin(desk, command)
            return Answer(command=command.id, is_done=True, text=text, incident=at)
        place = _place(desk, command.subject)
        text, incident = {
            Verb.CORDON: _cordon,
            Verb.UNCORDON: _uncordon,
            Verb.DRAIN: _drain,
            Verb.SET_HEALTHY: _set_healthy,
        }[command.verb](desk, command, place)
    except (_No, rollback.Cannot) as no:
        return Answer(command=command.id, is_done=False, text=str(no))
    return Answer(command=command.id, is_done=True, text=text, incident=incident)


def _place(desk: Desk, subject: str) -> _Place:
    if subject == NODE:
        return _Place(id=NODE_ITSELF, words="the node")
    devices = [d for d in desk.scene.snap.devices if d.parent is None]
    found = [
        d
        for d in devices
        if subject in (str(d.index), d.id) or subject.lower() == (d.pci or "-").lower()
    ] or [d for d in devices if len(subject) >= PREFIX_MIN_CHARS and d.id.startswith(subject)]
    if len(found) == 1:
        return _Place(id=found[0].id, words=f"GPU {found[0].index}")
    # A device that is not there any more may still be cordoned.
    if DeviceId(subject) in desk.devices and subject != NODE:
        return _Place(id=DeviceId(subject), words=subject)
    known = ", ".join(str(d.index) for d in devices) or "none is seen"
    raise _No(
        f"{'several devices are' if found else 'no device is'} {subject[:80]} (there are: {known}; node)"
    )


def _cordon(desk: Desk, command: Command, place: _Place) -> tuple[str, IncidentId]:
    state = desk.device(place.id)
    said = f"{command.name} cordons {place.words}: {command.reason}"
    if state.cordoned_by is not None:
        if state.held_by:
            raise _No(
                f"{place.words} is cordoned already, by {state.held_by} ({state.cordoned_by})"
            )
        desk.devices[place.id] = replace(state, held_by=command.name)
        desk.note(state.cordoned_by, NoteKind.EVIDENCE, said)
        return (
            f"{place.words} was cordoned, and now stays so until it is uncordoned",
            state.cordoned_by,
        )
    finding = Finding(
        rule="cordon",
        key=f"cordon {place.id}",
        severity=Severity.WARNING,
        summary=said,
        device=None if place.id == NODE_ITSELF else place.id,
    )
    incident = desk.incident(_subject(place), finding)
    if all(n.incident != incident for n in desk.notes):
        desk.note(incident, NoteKind.EVIDENCE, said)
    cordon.take(desk, place.id, incident, f"{place.words}: {command.reason} ({command.name})")
    desk.devices[place.id] = replace(desk.device(place.id), held_by=command.name)
    return f"{place.words} is cordoned until it is uncordoned", incident


def _drain(desk: Desk, command: Command, place: _Place) -> tuple[str, IncidentId]:
    """A cordon, and whoever may be ended is asked to go; one that stands goes on as a drain."""
    state = desk.device(place.id)
    if state.drained_wall:
        raise _No(f"{place.words} is being drained already, by {state.held_by}")
    if state.cordoned_by is None or not state.held_by:
        _cordon(desk, command, place)
        state = desk.device(place.id)
    incident = state.cordoned_by
    assert incident is not None
    desk.note(incident, NoteKind.EVIDENCE, f"{command.name} drains {place.words}: {command.reason}")
    desk.devices[place.id] = replace(state, drained_wall=desk.scene.snap.wall)
    highest = desk.cfg.repair.drain_evicts
    ends = f"ends tenants up to class {highest.label}" if highest else "ends nobody"
    return (
        f"{place.words} is cordoned and drained: it {ends} (repair.drain_evicts), and waits for the others",
        incident,
    )


def _uncordon(desk: Desk, command: Command, place: _Place) -> tuple[str, IncidentId]:
    state = desk.device(place.id)
    incident = state.cordoned_by
    if incident is None:
        raise _No(f"{place.words} is not cordoned by gpuwarden")
    if state.locked_since is not None:
        raise _No(
            f"{place.words} is locked up ({state.locked_why}): it would be cordoned again at once"
        )
    said = f"{command.name} uncordons {place.words}: {command.reason or 'no reason given'}"
    repair = desk.repairs.get(str(place.id))
    if repair is not None and repair.phase in UNDER_WAY:
        if not state.held_by:
            raise _No(
                f"{place.words} is being repaired ({repair.step}, {repair.phase}): set-healthy ends that"
            )
        desk.devices[place.id] = replace(state, held_by="")
        desk.note(incident, NoteKind.EVIDENCE, said)
        return f"{place.words} stays cordoned until its repair ({repair.step}) is over", incident
    desk.note(incident, NoteKind.EVIDENCE, said)
    cordon.give_back(desk, place.id, said)
    return f"{place.words} is uncordoned", incident


def _set_healthy(desk: Desk, command: Command, place: _Place) -> tuple[str, IncidentId | None]:
    """Its faults are over by an operator's word, and its repair begins to watch whether that is so."""
    subject = str(place.id)
    repair = desk.repairs.get(subject)
    if repair is not None and repair.phase is Phase.ACTING:
        raise _No(f"{repair.step} of {place.words} is under way: wait for its end")
    faults = [k for k, f in desk.memory.faults.items() if f.root.subject == subject]
    state = desk.device(place.id)
    if not faults and repair is None:
        raise _No(f"nothing stands against {place.words}")
    kept = {k: f for k, f in desk.memory.faults.items() if k not in faults}
    desk.memory = replace(desk.memory, faults=kept)
    incident = repair.incident if repair is not None else state.cordoned_by
    if repair is not None:
        desk.repairs[subject] = replace(
            repair, phase=Phase.PROBATION, since=desk.scene.snap.at, is_unsure=False, withheld=()
        )
    if incident is not None:
        said = f"{command.name} says that {place.words} is healthy: {command.reason or 'no reason given'}"
        desk.note(incident, NoteKind.EVIDENCE, said)
    text = f"{place.words}: {len(faults)} faults are forgotten"
    if state.held_by:
        text += f"; it stays cordoned until {state.held_by} or another operator uncordons it"
    elif state.cordoned_by is not None:
        text += f"; its cordon ends after {desk.cfg.ladder.uncordon_after_s:g} s without a fault"
    return text, incident


def _subject(place: _Place) -> str:
    return f"cordon/{place.id}"
