"""Incidents as people read them: a fold over what was decided and what became of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gpuwarden.config import Config
from gpuwarden.model.action import Kind, Outcome, Result, Withheld
from gpuwarden.model.decision import (
    Decision,
    Incident,
    IncidentNote,
    IncidentStep,
    NoteKind,
)
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Delivery, Reason
from gpuwarden.model.snapshot import Health, Snapshot
from gpuwarden.policy.advice import advise

TOLD = "notify"
"""Kind of the steps that say what became of a message to people."""
MAX_CLOSED = 200
MAX_STEPS = 200
MAX_POINTS = 240
PIDS_TOLD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Incidents by id; open ones are never dropped, closed ones are bounded."""

    incidents: tuple[Incident, ...] = ()

    def of(self, incident: IncidentId) -> Incident | None:
        """The incident of that id."""
        return next((i for i in self.incidents if i.id == incident), None)


def decided(
    cfg: Config, archive: Archive, snap: Snapshot, decision: Decision
) -> tuple[Archive, tuple[Incident, ...]]:
    """The archive with a decision's notes, and the incidents to write down."""
    if not (archive.incidents or decision.incidents):
        return archive, ()
    known = {i.id: i for i in archive.incidents}
    changed: dict[IncidentId, Incident] = {}
    for note in decision.incidents:
        old = changed.get(note.incident) or known.get(note.incident)
        changed[note.incident] = _noted(cfg, old, note, snap)
    for held in decision.withheld:
        old = changed.get(held.incident) or known.get(held.incident)
        if old is not None:
            text = f"{held.kind}{_of_whom(held, old, snap)} withheld: {held.detail}"
            step = IncidentStep(
                at=_moment(old, snap),
                wall=snap.wall,
                kind="withheld",
                text=text,
                action=held.budget,
            )
            changed[held.incident] = _stepped(old, step)
    for action in decision.actions:
        old = changed.get(action.incident) or known.get(action.incident)
        if old is not None:
            step = IncidentStep(
                at=_moment(old, snap),
                wall=snap.wall,
                kind=action.kind.value,
                text=action.why,
                result="ordered",
                action=action.id,
            )
            changed[action.incident] = _stepped(old, step)
    open_ids = set(decision.memory.open_incidents.values())
    _close_lost(known, changed, snap, open_ids)
    noted = set(changed)  # a new size alone is not worth a line on disk; it goes with the next note
    ending = {n.incident for n in decision.incidents if n.kind is NoteKind.CLOSED}
    _measure(known, changed, snap, open_ids | ending)
    finished = {k: replace(i, advice=advise(i)) for k, i in changed.items()}
    return _merged(known, finished), tuple(i for k, i in finished.items() if k in noted)


def concluded(
    archive: Archive, outcomes: Sequence[Outcome]
) -> tuple[Archive, tuple[Incident, ...]]:
    """The archive with outcomes written to the steps they belong to."""
    known = {i.id: i for i in archive.incidents}
    changed: dict[IncidentId, Incident] = {}
    for outcome in outcomes:
        old = changed.get(outcome.incident) or known.get(outcome.incident)
        if old is None:
            continue
        steps = tuple(
            replace(s, result=outcome.result.value, text=_with(s.text, outcome.detail))
            if s.action == outcome.action
            else s
            for s in old.steps
        )
        changed[outcome.incident] = replace(old, steps=steps)
    finished = {k: replace(i, advice=advise(i)) for k, i in changed.items()}
    return _merged(known, finished), tuple(finished.values())


def delivered(
    archive: Archive, deliveries: Sequence[Delivery], at: float, wall: float
) -> tuple[Archive, tuple[Incident, ...]]:
    """The archive with what became of messages to people; a newer word on one replaces the older."""
    known = {i.id: i for i in archive.incidents}
    changed: dict[IncidentId, Incident] = {}
    for delivery in deliveries:
        old = changed.get(delivery.incident) or known.get(delivery.incident)
        if old is None:
            continue
        step = _told(delivery, at, wall)
        same = [n for n, s in enumerate(old.steps) if s.action == delivery.id]
        if not same:
            changed[old.id] = _stepped(old, step)
        elif old.steps[same[0]] != replace(step, at=old.steps[same[0]].at):
            steps = (*old.steps[: same[0]], step, *old.steps[same[0] + 1 :])
            changed[old.id] = replace(old, steps=steps)
    finished = {k: replace(i, advice=advise(i)) for k, i in changed.items()}
    return _merged(known, finished), tuple(finished.values())


def _told(delivery: Delivery, at: float, wall: float) -> IncidentStep:
    """``first to pagerduty: HTTP 202``."""
    who = f" to {delivery.sink}" if delivery.sink else ""
    detail = f": {delivery.detail}" if delivery.detail else ""
    if delivery.reason is Reason.ACKNOWLEDGED and not delivery.sink:
        detail = f" {delivery.detail}"
    return IncidentStep(
        at=at - (wall - delivery.wall),
        wall=delivery.wall,
        kind=TOLD,
        text=f"{delivery.reason}{who}{detail}",
        result=delivery.result.value,
        action=delivery.id,
    )


def restored(archive: Archive, incidents: Sequence[Incident]) -> Archive:
    """The archive with incidents as they were written down."""
    if not incidents:
        return archive
    return _merged({i.id: i for i in archive.incidents}, {i.id: i for i in incidents})


def _of_whom(held: Withheld, incident: Incident, snap: Snapshot) -> str:
    """Whose, where it is not what the incident's own tenant was spared."""
    if held.tenant is None or held.tenant == incident.tenant:
        return ""
    names = (t.name for t in snap.tenants if t.id == held.tenant)
    return f" of {next(names, held.tenant)}"


def _with(text: str, detail: str) -> str:
    return f"{text} [{detail}]" if detail and detail not in text else text


def _merged(known: dict[IncidentId, Incident], changed: dict[IncidentId, Incident]) -> Archive:
    everything = {**known, **changed}
    newest = sorted(everything.values(), key=lambda i: (-i.opened_wall, i.id))
    closed = 0
    kept = []
    for incident in newest:
        if incident.closed_at is not None:
            closed += 1
            if closed > MAX_CLOSED:
                continue
        kept.append(incident)
    return Archive(incidents=tuple(kept))


def _noted(cfg: Config, old: Incident | None, note: IncidentNote, snap: Snapshot) -> Incident:
    incident = old or _opened(cfg, note, snap)
    now = _moment(incident, snap)
    step = IncidentStep(at=now, wall=snap.wall, kind=note.kind.value, text=note.text)
    incident = _stepped(incident, step)
    if note.used_bytes is not None and note.tenant == incident.tenant:
        incident = replace(incident, peak_bytes=max(incident.peak_bytes or 0, note.used_bytes))
    # What it is about has to be confirmed: a lock-up that joined an overrun decides nothing of it.
    is_own = note.rule == incident.rule
    if note.kind is NoteKind.DECIDED and is_own and incident.decided_at is None:
        incident = replace(incident, decided_at=snap.at)
    told = _who(incident, snap) + (note.evidence or ())
    if told:
        merged = {**dict(incident.evidence), **dict(told)}
        incident = replace(incident, evidence=tuple(merged.items())[:64])
    if note.kind is NoteKind.CLOSED:
        incident = replace(
            incident,
            closed_at=now,
            closed_wall=snap.wall,
            outcome=_outcome(incident),
        )
    red = _red(incident, note, snap)
    if red and incident.closed_at is None:
        incident = replace(incident, harmed=tuple(dict.fromkeys((*incident.harmed, *red)))[:16])
    return incident


def _moment(incident: Incident, snap: Snapshot) -> float:
    """Now, on the clock an incident was opened by: one that outlasts a reboot goes on by wall time."""
    if snap.at >= incident.opened_at:
        return snap.at
    return incident.opened_at + max(0.0, snap.wall - incident.opened_wall)


def _who(incident: Incident, snap: Snapshot) -> tuple[tuple[str, str], ...]:
    """Who its tenant is, while it is there to be asked: afterwards nobody can tell any more."""
    tenant = next((t for t in snap.tenants if t.id == incident.tenant), None)
    if tenant is None:
        return ()
    owner = (("owner", tenant.owner_key),) if tenant.owner_key else ()
    first = ", ".join(str(pid.pid) for pid in tenant.pids[:PIDS_TOLD])
    more = f" and {len(tenant.pids) - PIDS_TOLD} more" if len(tenant.pids) > PIDS_TOLD else ""
    return (*tenant.identity, *owner, *((("pids", first + more),) if first else ()))


def _red(incident: Incident, note: IncidentNote, snap: Snapshot) -> list[str]:
    """Services that suffer where the incident is: on its device, or because it is about them."""
    there = {use.tenant for use in snap.uses if use.device == incident.device}
    if note.rule == "slo" and note.tenant is not None:
        there.add(note.tenant)
    return [s.service for s in snap.services if s.health is Health.RED and s.tenant in there]


def _opened(cfg: Config, note: IncidentNote, snap: Snapshot) -> Incident:
    tenant = next((t for t in snap.tenants if t.id == note.tenant), None)
    return Incident(
        id=note.incident,
        rule=note.rule,
        summary=note.text,
        opened_at=snap.at,
        opened_wall=snap.wall,
        tenant=note.tenant,
        tenant_name=tenant.name if tenant else "",
        tenant_class=tenant.cls.label if tenant else "",
        runtime=tenant.runtime if tenant else "",
        device=note.device,
        quota_bytes=note.limit_bytes,
        peak_bytes=note.used_bytes,
        noticed_at=snap.at,
        mode=cfg.agent.mode,
        kernel_log=snap.kernel_log.value,
    )


OUTCOMES: Mapping[Kind, str] = {
    Kind.RELOCATE: "protected service moved",
    Kind.REBOOT: "node rebooted",
    Kind.RELOAD_DRIVER: "driver loaded again",
    Kind.RESET_GPU: "device reset",
    Kind.RESTART_SERVICES: "driver services restarted",
    Kind.CORDON: "device cordoned",
    Kind.ROLL_BACK: "service rolled back",
    Kind.STOP: "tenant stopped",
    Kind.KILL: "tenant killed",
    Kind.TERM: "tenant ended on request",
    Kind.RESTART_TENANT: "service restarted",
    Kind.THROTTLE: "tenant throttled",
}
"""What an incident that is over is summed up by: the first of these that was done."""


def _outcome(incident: Incident) -> str:
    backs = [s.result for s in incident.steps if s.kind == Kind.ROLL_BACK]
    ended = [result for result in backs if result != Result.UNKNOWN]
    if backs and any(result != Result.DONE for result in ended):
        is_part = any(result == Result.DONE for result in ended)
        return (
            "service rolled back in part" if is_part else "not rolled back: what ran before runs on"
        )
    done = [s.kind for s in incident.steps if s.result == Result.DONE]
    unsure = [s.kind for s in incident.steps if s.result == Result.UNKNOWN]
    for kind, word in OUTCOMES.items():
        if kind in done:
            return word
        if kind in unsure:
            return f"{word}, as far as known"
    joined = [s.text for s in incident.steps if s.kind == NoteKind.JOINED]
    return joined[-1] if joined else "passed without action"


def _close_lost(
    known: dict[IncidentId, Incident],
    changed: dict[IncidentId, Incident],
    snap: Snapshot,
    open_ids: set[IncidentId],
) -> None:
    """What nobody remembers as open any more is over: the host was started anew, or memory was lost.

    Its times are of another boot's clock; how long it lasted only wall time can tell.
    """
    for incident in known.values():
        if (
            incident.closed_at is None
            and incident.id not in open_ids
            and incident.id not in changed
        ):
            text = "closed: it does not stand since the host or the agent started anew"
            lasted_s = max(0.0, snap.wall - incident.opened_wall)
            at = incident.opened_at + lasted_s
            step = IncidentStep(at=at, wall=snap.wall, kind=NoteKind.CLOSED.value, text=text)
            ended = _stepped(incident, step)
            changed[incident.id] = replace(
                ended, closed_at=step.at, closed_wall=snap.wall, outcome=_outcome(ended)
            )


def _stepped(incident: Incident, step: IncidentStep) -> Incident:
    if len(incident.steps) >= MAX_STEPS:
        return incident
    return replace(incident, steps=(*incident.steps, step))


def _measure(
    known: dict[IncidentId, Incident],
    changed: dict[IncidentId, Incident],
    snap: Snapshot,
    open_ids: set[IncidentId],
) -> None:
    """Add the offender's size to each open incident when a new list has come."""
    for incident_id in open_ids:
        incident = changed.get(incident_id) or known.get(incident_id)
        if incident is None or incident.tenant is None or incident.device is None:
            continue
        device = next((d for d in snap.devices if d.id == incident.device), None)
        if device is None or device.listed_at is None:
            continue
        if incident.points and device.listed_at <= incident.points[-1][0]:
            continue
        used = next(
            (
                u.used_bytes
                for u in snap.uses
                if u.tenant == incident.tenant and u.device == incident.device
            ),
            0,
        )
        if len(incident.points) >= 2 and incident.points[-1][1] == incident.points[-2][1] == used:
            points = (*incident.points[:-1], (device.listed_at, used))
        else:
            points = (*incident.points, (device.listed_at, used))
        changed[incident_id] = replace(
            incident,
            points=_thinned(points),
            peak_bytes=max(incident.peak_bytes or 0, used),
        )


def _thinned(points: tuple[tuple[float, int], ...]) -> tuple[tuple[float, int], ...]:
    """Bounded: when full, every second of the older half goes."""
    if len(points) <= MAX_POINTS:
        return points
    half = len(points) // 2
    return points[:half:2] + points[half:]
