"""Moves every repair by what happened to it: chosen, emptied, acted, verified, on probation, or handed over."""

from dataclasses import replace

from gpuwarden.model.action import Kind, Withheld
from gpuwarden.model.decision import NoteKind
from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.repair import Attempt, Fault, Phase, Repair, Step
from gpuwarden.policy import cordon, guard, incidents
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.fault.remember import BY_RECOVERY, settle_s
from gpuwarden.policy.guard import Refusal
from gpuwarden.policy.repair import empty, evidence, ladders, report, verify
from gpuwarden.policy.repair.permit import must_wait, permit
from gpuwarden.policy.repair.table import Event, step
from gpuwarden.policy.repair.withdraw import take_out_of_use

KIND_OF = {
    Step.RESTART_SERVICES: Kind.RESTART_SERVICES,
    Step.RESET_GPU: Kind.RESET_GPU,
    Step.RELOAD_DRIVER: Kind.RELOAD_DRIVER,
    Step.REBOOT: Kind.REBOOT,
}
MAX_ATTEMPTS = 16
FINAL = frozenset({"operator", "per-day"})
"""Budgets that time alone does not give back: what is left is for people."""
BUSY_RETRY_S, BUSY_RETRY_MAX_S = 5.0, 300.0
"""A step that found somebody on its device waits at least so long before it is tried again, then longer."""


def advance(desk: Desk, findings: list[Finding]) -> None:
    """Open a repair for each subject with a fault that has a remedy, and take each one step on."""
    if not guard.is_on(desk.cfg, "repair") or not (desk.memory.faults or desk.repairs):
        return
    by_subject: dict[str, list[Fault]] = {}
    for fault in desk.memory.faults.values():
        if fault.root.is_trusted:
            by_subject.setdefault(fault.root.subject, []).append(fault)
    for subject, faults in by_subject.items():
        _choose(desk, subject, faults, findings)
    for subject in list(desk.repairs):
        _move(desk, desk.repairs[subject], by_subject.get(subject, []), findings)


def _choose(desk: Desk, subject: str, faults: list[Fault], findings: list[Finding]) -> None:
    """The strongest ladder of a subject's faults; a stronger one takes over what has not begun."""
    best: tuple[tuple[Step, ...], Fault] | None = None
    for fault in faults:
        ladder = ladders.ladder_of(fault, desk.cfg.repair.repeat_raises)
        if ladder and (best is None or ladders.is_stronger(ladder, best[0])):
            best = ladder, fault
    if best is None:
        return
    ladder, fault = best
    repair = desk.repairs.get(subject)
    if repair is None:
        desk.repairs[subject] = Repair(
            subject=subject,
            device=fault.root.device,
            cls=fault.root.cls,
            incident=_incident(desk, fault, findings),
            ladder=ladder,
            phase=Phase.OPEN,
            since=desk.scene.snap.at,
            opened_at=desk.scene.snap.at,
            is_polled=fault.root.is_condition,
        )
        return
    is_idle = repair.phase in (Phase.OPEN, Phase.EMPTYING)
    if is_idle and ladders.is_stronger(ladder, repair.ladder[repair.rung :]):
        desk.note(
            repair.incident,
            NoteKind.EVIDENCE,
            f"{fault.root.code}: {ladder[0]} instead of {repair.step}",
        )
        desk.repairs[subject] = replace(
            repair, ladder=ladder, rung=0, cls=fault.root.cls, phase=Phase.OPEN, withheld=()
        )


def _incident(desk: Desk, fault: Fault, findings: list[Finding]) -> IncidentId:
    mine = [f for f in findings if f.fault and f.key.endswith(fault.key)]
    mine += [f for f in findings if f.fault and f.device == fault.root.device]
    if mine:
        return desk.incident(incidents.subject_of(desk, mine[0]), mine[0])
    return desk.incident(f"device/{fault.root.subject}" if fault.root.device else "node/fault")


def _move(desk: Desk, repair: Repair, faults: list[Fault], findings: list[Finding]) -> None:
    event, detail = _event(desk, repair, faults)
    phase = step(repair.phase, event)
    if phase is repair.phase:
        return
    now = desk.scene.snap.at
    moved = replace(repair, phase=phase, since=now)
    if event in (Event.FAILED, Event.UNVERIFIED, Event.RECURRED):
        moved = _raised(desk, repair, moved, event, detail)
    if event is Event.BUSY:
        _refund(desk, repair)
    if event is Event.VERIFIED:
        moved = replace(moved, is_unsure=False)
    if phase is Phase.EMPTYING and event is Event.BEGUN:
        take_out_of_use(desk, moved)
    if phase is Phase.ACTING:
        moved = _order(desk, moved)
    if phase is Phase.PROBATION:
        _mended(desk, moved, faults, event)
    if event in (Event.FAILED, Event.UNVERIFIED) or phase is Phase.HANDED_OVER:
        evidence.keep(desk, repair, detail)
    if phase is Phase.HANDED_OVER:
        take_out_of_use(desk, moved)
        report.hand_over(desk, moved, faults, findings, detail)
    desk.note(moved.incident, NoteKind.RUNG, report.text_of(desk, moved, event, detail))
    if phase is Phase.REST:
        del desk.repairs[repair.subject]
        return
    desk.repairs[repair.subject] = moved


def _event(desk: Desk, repair: Repair, faults: list[Fault]) -> tuple[Event, str]:
    """The one event that counts for a repair now, and what there is to say of it."""
    now = desk.scene.snap.at
    standing = [f for f in faults if ladders.ladder_of(f, desk.cfg.repair.repeat_raises)]
    if repair.phase in (Phase.OPEN, Phase.EMPTYING, Phase.HANDED_OVER) and not standing:
        if verify.failing(desk, repair, faults):
            return Event.NOTHING, ""
        event = Event.UNTOUCHED if _is_untouched(desk, repair) else Event.CLEARED
        return event, "the fault does not stand any more"
    if repair.phase is Phase.OPEN:
        return _may_begin(desk, repair)
    if repair.phase is Phase.EMPTYING:
        return _is_ready(desk, repair)
    if repair.phase is Phase.ACTING:
        return _acted(desk, repair)
    if repair.phase is Phase.VERIFYING:
        against = verify.failing(desk, repair, faults)
        if not against and repair.is_unsure and not verify.is_measured(repair, faults):
            against = "whether it was done is not known, and nothing can tell"
        if not against:
            return Event.VERIFIED, ""
        due = repair.since + _verify_s(desk, repair)
        desk.wakes.append(due)
        return (Event.UNVERIFIED, against) if now >= due else (Event.NOTHING, "")
    if repair.phase is Phase.PROBATION:
        if standing:
            return Event.RECURRED, f"{standing[0].root.code} is back"
        due = repair.since + desk.cfg.ladder.uncordon_after_s
        desk.wakes.append(due)
        return (Event.PASSED, "") if now >= due else (Event.NOTHING, "")
    return Event.NOTHING, ""


def _is_untouched(desk: Desk, repair: Repair) -> bool:
    """Whether it was never begun: nothing was tried, and its device, or the node, is in use as ever."""
    state = desk.device(cordon.NODE_ITSELF if repair.device is None else repair.device)
    return repair.phase is not Phase.EMPTYING and not repair.attempts and state.cordoned_by is None


def _is_in_hand(desk: Desk, repair: Repair) -> bool:
    """Whether a lock-up is still being dealt with by who set it off going, or the last resort: first those,
    for they give the device back, or its protected tenants another one, with nothing reset."""
    if repair.device is None:
        return False
    state = desk.device(repair.device)
    if any(device == repair.device for device, _ in desk.busy()):
        return True
    if state.last_resort == "observe":  # rule locked may not act: nor may this one in its stead
        return guard.is_enforcing(desk.cfg, "repair")
    return state.locked_since is not None and not state.last_resort


def _settle_s(desk: Desk, repair: Repair) -> float:
    """Where the driver tells what it wants recovered, it is asked once more before anything is done."""
    device = desk.scene.devices.get(repair.device) if repair.device is not None else None
    if device is None or device.recovery_action is None or repair.cls not in BY_RECOVERY:
        return 0.0
    return settle_s(desk.cfg)


def _may_begin(desk: Desk, repair: Repair) -> tuple[Event, str]:
    if _is_in_hand(desk, repair):
        return Event.NOTHING, ""
    wait = desk.cfg.ladder.page_after_s if repair.is_polled else _settle_s(desk, repair)
    due = repair.opened_at + wait
    if desk.scene.snap.at < due:
        desk.wakes.append(due)  # what passes by itself (a driver loaded again) is no fault
        return Event.NOTHING, ""
    if repair.step is Step.HAND_OVER:
        return Event.LAST, ""
    refusal = permit(desk, repair)
    if refusal is None:
        return Event.BEGUN, ""
    if refusal.budget in FINAL:
        _withhold(desk, repair, refusal)
        return Event.LAST, refusal.detail
    _withhold(desk, repair, refusal)
    return Event.NOTHING, ""


def _withhold(desk: Desk, repair: Repair, refusal: Refusal) -> None:
    mark = f"{repair.step}/{refusal.budget}"
    if mark in repair.withheld:
        return
    desk.repairs[repair.subject] = replace(repair, withheld=(*repair.withheld, mark)[-16:])
    desk.withheld.append(
        Withheld(
            kind=KIND_OF[repair.step],
            incident=repair.incident,
            tenant=None,
            device=repair.device,
            budget=refusal.budget,
            detail=refusal.detail,
        )
    )
    desk.touched.add(repair.incident)


def _is_ready(desk: Desk, repair: Repair) -> tuple[Event, str]:
    now = desk.scene.snap.at
    others = list(desk.repairs.values())
    refusal = permit(desk, repair)
    if refusal is not None:  # the mode or a budget has changed since
        _withhold(desk, repair, refusal)
        is_final = refusal.budget in FINAL
        return (Event.LAST, refusal.detail) if is_final else (Event.NOTHING, "")
    refused = _refused(repair)
    retry_at = repair.since + min(BUSY_RETRY_MAX_S, BUSY_RETRY_S * 2 ** (len(refused) - 1))
    if refused and now < retry_at:
        desk.wakes.append(retry_at)
        if desk.scene.snap.wall - refused[0].wall >= desk.cfg.repair.drain_wait_s:
            _say_overdue(desk, repair, ["somebody whom no list shows"], waited=True)
        return Event.NOTHING, ""
    if empty.needs_empty(repair):
        left = empty.left_on(desk, repair)
        if left is None:
            return Event.NOTHING, ""
        if left:
            empty.ask_to_go(desk, repair, left)
            _say_overdue(desk, repair, [t.name for t in left])
            return Event.NOTHING, ""
    if must_wait(others, repair) or any(repair.device in (None, d) for d, _ in desk.busy()):
        return Event.NOTHING, ""
    return Event.READY, ""


def _refused(repair: Repair) -> list[Attempt]:
    """The newest attempts in a row that found somebody on the device, oldest first."""
    row: list[Attempt] = []
    for attempt in reversed(repair.attempts):
        if attempt.result != "refused" or attempt.step is not repair.step:
            break
        row.insert(0, attempt)
    return row


def _refund(desk: Desk, repair: Repair) -> None:
    """A step that was refused has touched nothing: no budget counts it."""
    spent = list(desk.memory.spent)
    for index in range(len(spent) - 1, -1, -1):
        if spent[index][:2] == (repair.subject, str(repair.step)):
            del spent[index]
            break
    desk.memory = replace(desk.memory, spent=tuple(spent))


def _say_overdue(desk: Desk, repair: Repair, names: list[str], *, waited: bool = False) -> None:
    due = repair.since + desk.cfg.repair.drain_wait_s
    if repair.is_overdue:
        return
    if not waited and desk.scene.snap.at < due:
        desk.wakes.append(due)
        return
    desk.repairs[repair.subject] = replace(desk.repairs[repair.subject], is_overdue=True)
    report.overdue(desk, repair, names)


def _order(desk: Desk, repair: Repair) -> Repair:
    """Order the step; budgets count it from now on, whatever becomes of it."""
    snap = desk.scene.snap
    desk.order(
        KIND_OF[repair.step],
        repair.incident,
        f"{repair.cls} fault of {report.subject_words(desk, repair)}",
        device=repair.device,
        params=evidence.place(desk, repair),
    )
    spent = (repair.subject, str(repair.step), snap.wall)
    desk.memory = replace(desk.memory, spent=(*desk.memory.spent, spent)[-256:])
    attempt = Attempt(step=repair.step, wall=snap.wall, cls=repair.cls)
    return replace(
        repair,
        attempts=(*repair.attempts, attempt)[-MAX_ATTEMPTS:],
        boot_id=snap.boot_id,
        is_unsure=False,
    )


def _acted(desk: Desk, repair: Repair) -> tuple[Event, str]:
    """What became of the step, as its outcome told; one that never answers has failed."""
    last = repair.attempts[-1]
    if repair.step is Step.REBOOT:
        if repair.boot_id != desk.scene.snap.boot_id:
            return Event.DONE, "the host was started anew"
        if last.result == "done":  # it is on its way: what counts is the next boot
            due = repair.since + desk.cfg.repair.reboot_s
            desk.wakes.append(due)
            late = desk.scene.snap.at >= due
            return (Event.FAILED, "the host did not go down") if late else (Event.NOTHING, "")
    if last.result in ("done", "unknown"):
        return Event.DONE, last.detail
    if last.result == "refused":
        return Event.BUSY, last.detail
    if last.result:
        return Event.FAILED, last.detail
    # Behind what the step before it has left to be kept.
    due = repair.since + deadline_s(desk, repair) + desk.cfg.repair.evidence_s + 10.0
    desk.wakes.append(due)
    return (Event.FAILED, "no answer") if desk.scene.snap.at >= due else (Event.NOTHING, "")


def deadline_s(desk: Desk, repair: Repair) -> float:
    """How long a step may take."""
    cfg = desk.cfg.repair
    return {
        Step.RESTART_SERVICES: cfg.services_s,
        Step.RESET_GPU: cfg.reset_s,
        Step.RELOAD_DRIVER: cfg.reload_s,
        Step.REBOOT: cfg.reboot_s,
        Step.HAND_OVER: 0.0,
    }[repair.step]


def _verify_s(desk: Desk, repair: Repair) -> float:
    cfg = desk.cfg.repair
    return cfg.boot_verify_s if repair.step is Step.REBOOT else cfg.verify_s


def _raised(desk: Desk, before: Repair, moved: Repair, event: Event, detail: str) -> Repair:
    """On to the next rung; a step that may never have happened is taken again once it is seen that it
    has not helped."""
    word = {Event.FAILED: "failed", Event.UNVERIFIED: "unverified"}.get(event, "recurred")
    attempts = moved.attempts
    if attempts and event is not Event.RECURRED:
        attempts = (*attempts[:-1], replace(attempts[-1], result=word, detail=detail[:200]))
    # What came back before anything was tried is no reason for more; nor is a step that may never have been.
    is_same = before.is_unsure or not before.attempts
    rung = before.rung if is_same else before.rung + 1
    return replace(
        moved,
        rung=min(rung, len(moved.ladder) - 1),
        attempts=attempts,
        is_unsure=False,
        withheld=(),
        is_overdue=False,
    )


def _mended(desk: Desk, repair: Repair, faults: list[Fault], event: Event) -> None:
    """What a repair has cleared is cleared; that it was there is remembered for the next time."""
    gone = {f.key for f in faults}
    kept = {k: f for k, f in desk.memory.faults.items() if k not in gone}
    mended = dict(desk.memory.mended)
    if event is Event.VERIFIED:
        key = f"{repair.subject}/{repair.cls}"
        mended[key] = (*mended.get(key, ()), desk.scene.snap.wall)[-16:]
    desk.memory = replace(desk.memory, faults=kept, mended=mended)
