"""Heals a service whose probe fails: restarted in its runtime, then proved well, else handed to people.

Never while the device under it is ill: that is another incident, and says so itself.
"""

from dataclasses import replace
from enum import StrEnum

from gpuwarden.config_services import ProbeConfig
from gpuwarden.model.action import Kind, Withheld
from gpuwarden.model.decision import NoteKind
from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import IN_FLIGHT
from gpuwarden.model.service import Care, CarePhase, ProbeReading
from gpuwarden.policy import ailment, guard, incidents
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.guard import Refusal
from gpuwarden.policy.notify.topics import page_params
from gpuwarden.policy.probe import RULE, key_of, settings_of

HOUR_S = 3600.0
ANSWER_S = 120.0
"""A restart that has not been answered for by then (grace, stop, start) is looked at as if it were done."""
FINAL = frozenset({"not-allowed", "per-hour", "cannot-act", "absent", "never-victim", "nested"})
"""Budgets that do not pass by themselves: people are told."""
RESTARTS_MAX = 64


class Event(StrEnum):
    """What can happen to a care."""

    NOTHING = "nothing"
    FAILS = "fails"
    """Its probe has failed so often that it counts."""
    MAY = "may"
    """It may be restarted: that is ordered."""
    LAST = "last"
    """Nothing is left to try, or what is left is not ours to do."""
    DONE = "done"
    """It was restarted; or somebody else has started or stopped it meanwhile. It has to show which."""
    FAILED = "failed"
    UNSURE = "unsure"
    HEALED = "healed"
    LATE = "late"
    """It had its time to be well again."""
    PASSED = "passed"


P, E = CarePhase, Event
TABLE: dict[tuple[CarePhase, Event], CarePhase] = {
    (P.WELL, E.FAILS): P.FAILING,
    (P.FAILING, E.MAY): P.RESTARTING,
    (P.FAILING, E.LAST): P.HANDED_OVER,
    (P.FAILING, E.HEALED): P.PROBATION,
    (P.RESTARTING, E.DONE): P.VERIFYING,
    (P.RESTARTING, E.FAILED): P.HANDED_OVER,
    (P.RESTARTING, E.UNSURE): P.FAILING,
    (P.VERIFYING, E.HEALED): P.PROBATION,
    (P.VERIFYING, E.LATE): P.HANDED_OVER,
    (P.PROBATION, E.PASSED): P.WELL,
    (P.PROBATION, E.FAILS): P.FAILING,
    (P.HANDED_OVER, E.HEALED): P.PROBATION,
}


def step(phase: CarePhase, event: Event) -> CarePhase:
    """The next phase; an event that says nothing to a phase leaves it."""
    return TABLE.get((phase, event), phase)


def heal(desk: Desk, findings: list[Finding]) -> None:
    """Take each probed service one step on."""
    if not desk.memory.cares:
        return
    claims = {f.key: f for f in findings if f.rule == RULE}
    cares = dict(desk.memory.cares)
    for reading in desk.scene.snap.probes:
        care, probe = cares.get(reading.service), settings_of(desk.cfg, reading.service)
        claim = claims.get(key_of(reading.service))
        if care is None or probe is None or (claim is None and care.phase is P.WELL):
            continue
        if claim is not None and care.phase is not P.WELL:
            incident = desk.incident(incidents.subject_of(desk, claim), claim)
            care = replace(care, incident=incident)
        cares[reading.service] = _move(desk, care, probe, reading, claim)
    desk.memory = replace(desk.memory, cares=cares)


def _move(
    desk: Desk, care: Care, probe: ProbeConfig, reading: ProbeReading, claim: Finding | None
) -> Care:
    care, event, detail = _event(desk, care, probe, reading, claim)
    phase = step(care.phase, event)
    if phase is care.phase:
        return care
    moved = replace(care, phase=phase, since=desk.scene.snap.at)
    if event is E.FAILS and claim is not None:
        incident = desk.incident(incidents.subject_of(desk, claim), claim)
        moved = replace(moved, incident=incident, withheld=(), is_paged=False, is_unsure=False)
        return _move(desk, moved, probe, reading, claim)
    if phase is P.PROBATION:
        moved = replace(moved, is_unsure=False)
    if phase is P.RESTARTING:
        moved = _order(desk, moved)
    if phase is P.HANDED_OVER:
        moved = _page(desk, moved, detail)
    if moved.incident is not None:
        said = _text(moved, probe)
        desk.note(moved.incident, NoteKind.RUNG, f"{said} ({detail})" if detail else said)
    return replace(moved, incident=None) if phase is P.WELL else moved


def _event(
    desk: Desk, care: Care, probe: ProbeConfig, reading: ProbeReading, claim: Finding | None
) -> tuple[Care, Event, str]:
    """The one event that counts now; the care with what was said of it on the way."""
    now = desk.scene.snap.at
    is_well = reading.is_well is True and reading.at is not None and reading.at >= care.since
    if care.phase in (P.WELL, P.PROBATION):
        if claim is not None:
            return care, E.FAILS, ""
        due = care.since + probe.probation_s
        if care.phase is P.PROBATION and now < due:
            desk.wakes.append(due)
        return care, E.PASSED if now >= due else E.NOTHING, ""
    if care.phase is P.FAILING:
        if is_well:
            return care, E.HEALED, "by itself"
        return _may(desk, care, probe) if claim is not None else (care, E.NOTHING, "")
    if care.phase is P.RESTARTING:
        return care, *_told(desk, care)
    if is_well:
        return care, E.HEALED, ""
    if care.phase is P.VERIFYING:
        due = care.since + probe.verify_s
        desk.wakes.append(due)
        return care, E.LATE if now >= due else E.NOTHING, reading.detail or "it does not answer"
    return care, E.NOTHING, ""


def _told(desk: Desk, care: Care) -> tuple[Event, str]:
    """What became of the restart."""
    if care.result == "unknown":
        return E.UNSURE, care.detail
    if care.result in ("done", "refused"):
        return E.DONE, care.detail
    if care.result:
        return E.FAILED, care.detail
    due = care.since + care.grace_s + ANSWER_S
    desk.wakes.append(due)
    return (E.DONE, "no answer") if desk.scene.snap.at >= due else (E.NOTHING, "")


def _may(desk: Desk, care: Care, probe: ProbeConfig) -> tuple[Care, Event, str]:
    refusal = permit(desk, care, probe)
    if refusal is None:
        return care, E.MAY, ""
    care = _withhold(desk, care, refusal)
    if refusal.budget in FINAL:
        return care, E.LAST, refusal.detail
    due = care.since + probe.verify_s
    if refusal.budget == "observe":
        care = _page(desk, care, "observe mode: it is not restarted")
    elif refusal.budget != "device" and desk.scene.snap.at >= due:
        care = _page(desk, care, refusal.detail)  # of a device that is ill its own incident tells
    return care, E.NOTHING, ""


def permit(desk: Desk, care: Care, probe: ProbeConfig) -> Refusal | None:
    """``None``: it may be restarted now."""
    cfg, scene = desk.cfg, desk.scene
    if not guard.is_enforcing(cfg, RULE):
        return Refusal(budget="observe", detail=f"rule {RULE} is in observe mode")
    if not probe.restart:
        return Refusal(budget="not-allowed", detail=f"restart is off for service {care.service}")
    if care.target is None:
        return Refusal(budget="absent", detail="nobody has been seen to carry it")
    if not scene.snap.can_record:
        return Refusal(budget="journal", detail="the intent cannot be written down")
    if care.service in desk.memory.backs:
        return Refusal(budget="rollback", detail="it is being rolled back")
    ill = ailment.of_node(desk.remembered())
    for device in care.devices:
        ill += ailment.of_device(desk.remembered(), device, scene.devices.get(device))
    if ill:
        return Refusal(budget="device", detail=f"not restarted: {'; '.join(ill)}")
    refusal = _may_touch(desk, care)
    return refusal if refusal is not None else _over_budget(desk, care, probe)


def _may_touch(desk: Desk, care: Care) -> Refusal | None:
    """Who carries it, as far as he is seen: an identity is compared again just before the act."""
    target = care.target
    if target is None:
        return None
    tenant = desk.scene.tenants.get(target.tenant)
    if tenant is not None:
        if tenant.is_never_victim:
            return Refusal(budget="never-victim", detail=f"{tenant.name} is never touched")
        if tenant.cannot_act is not None:
            return Refusal(budget="cannot-act", detail=tenant.cannot_act)
        if not tenant.is_described:
            return Refusal(budget="undescribed", detail="its runtime has not described it yet")
        if tenant.is_paused:
            return Refusal(budget="paused", detail="somebody has paused it")
    inside = guard.inside(desk.scene, target.tenant, target.cgroup)
    if inside is not None:
        return Refusal(budget="nested", detail=f"{inside.name} lives inside it")
    case = desk.cases.get(target.tenant)
    if case is not None and case.rung in IN_FLIGHT:
        return Refusal(budget="evicted", detail="it is being evicted")
    if any(device in care.devices for device, _ in desk.busy()):
        return Refusal(budget="one-per-device", detail="somebody is being evicted from its device")
    return None


def _over_budget(desk: Desk, care: Care, probe: ProbeConfig) -> Refusal | None:
    if care.is_unsure:  # the same restart once more: it was counted when it was ordered first
        return None
    wall = desk.scene.snap.wall
    count = sum(1 for at in care.restarts_wall if abs(wall - at) < HOUR_S)
    if count < probe.restarts_per_hour:
        return None
    return Refusal(
        budget="per-hour",
        detail=f"{count} of {probe.restarts_per_hour} restarts an hour are spent",
    )


def _withhold(desk: Desk, care: Care, refusal: Refusal) -> Care:
    if refusal.budget in care.withheld or care.incident is None:
        return care
    desk.withheld.append(
        Withheld(
            kind=Kind.RESTART_TENANT,
            incident=care.incident,
            tenant=None if care.target is None else care.target.tenant,
            device=_device(care),
            budget=refusal.budget,
            detail=refusal.detail,
        )
    )
    desk.touched.add(care.incident)
    return replace(care, withheld=(*care.withheld, refusal.budget)[-16:])


def _device(care: Care) -> DeviceId | None:
    return care.devices[0] if care.devices else None


def _order(desk: Desk, care: Care) -> Care:
    """Order the restart; the budget counts it from now on, whatever becomes of it."""
    if care.incident is None:
        return care
    action = desk.order(
        Kind.RESTART_TENANT,
        care.incident,
        f"service {care.service} does not answer its probe",
        target=care.target,
        device=_device(care),
        params=(("grace_s", f"{care.grace_s:.3f}"), ("service", care.service)),
    )
    wall = desk.scene.snap.wall
    spent = care.restarts_wall if care.is_unsure else (*care.restarts_wall, wall)
    return replace(
        care, ordered=action.id, result="", detail="", restarts_wall=spent[-RESTARTS_MAX:]
    )


def _page(desk: Desk, care: Care, detail: str) -> Care:
    """Tell people, once an episode."""
    if care.is_paged or care.incident is None:
        return care
    tried = sum(1 for at in care.restarts_wall if abs(desk.scene.snap.wall - at) < HOUR_S)
    done = f"restarted {tried} times within the hour" if tried else "not restarted"
    who = f" ({care.target.name})" if care.target is not None else ""
    summary = f"service {care.service}{who} needs a person: its probe fails; {done}; {detail}"
    desk.order(
        Kind.PAGE,
        care.incident,
        summary,
        device=_device(care),
        params=page_params(desk, "error", summary, _device(care), None),
    )
    return replace(care, is_paged=True)


def _text(care: Care, probe: ProbeConfig) -> str:
    """The line a move adds to its incident."""
    return {
        P.FAILING: "the agent ended before it knew whether it was restarted: compared again",
        P.RESTARTING: f"restart of {care.service} begins",
        P.VERIFYING: f"{care.service} has {probe.verify_s:g} s to answer its probe",
        P.PROBATION: f"{care.service} answers again: on probation for {probe.probation_s:g} s",
        P.HANDED_OVER: f"{care.service} is handed over to people",
        P.WELL: f"{care.service} is well",
    }[care.phase]
