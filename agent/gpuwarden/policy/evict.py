"""Cases: opened by findings, moved along the ladder, closed when the bytes are back."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict

from gpuwarden.model.action import Kind
from gpuwarden.model.decision import NoteKind
from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId, IncidentId, TenantId
from gpuwarden.model.memory import IN_FLIGHT, Case, Rung
from gpuwarden.model.tenant import Tenant, Use
from gpuwarden.policy import guard, ladder, telling, tombstone, victims
from gpuwarden.policy.desk import Desk, target_of
from gpuwarden.policy.ladder import Event, Judgement

NOTHING_SAID: tuple[Judgement, Finding | None] = (Judgement(), None)
WAITS = frozenset(f"{kind}/one-per-device" for kind in (Kind.FREEZE, Kind.TERM))
"""What a case has withheld that waits for somebody else's eviction."""
AFTER_EVICTION = frozenset({Rung.TERMED, Rung.KILLED, Rung.STOPPED, Rung.STUCK})


def advance(desk: Desk, said: dict[TenantId, tuple[Judgement, Finding]]) -> None:
    """Move every open case by what happened to it: those in flight first, for they hold the devices;
    then in the order in which tenants have to go."""
    in_flight = [case for case in desk.cases.values() if case.rung in IN_FLIGHT]
    for case in sorted(in_flight, key=lambda c: (c.opened_at, c.tenant)):
        verdict, finding = said.get(case.tenant, NOTHING_SAID)
        case = _looked_at(desk, _asked_again(desk, case), verdict, finding)
        move(desk, case, ladder.event_of(desk.cfg, case, verdict, desk.scene))
    busy = {device for device, _ in desk.busy()}
    free: list[tuple[Case, Judgement]] = []
    for case in desk.cases.values():
        if case.rung in IN_FLIGHT:
            continue
        verdict, finding = said.get(case.tenant, NOTHING_SAID)
        if not (verdict.is_convicted and case.device in busy and _has_said_to_wait(case)):
            free.append((case, verdict))
        elif finding is not None and _is_news(case, verdict, finding):
            desk.cases[case.tenant] = _looked_at(desk, case, verdict, finding)
    free.sort(key=lambda each: _turn(desk, *each))
    for case, verdict in free:
        case = _looked_at(desk, case, verdict, said.get(case.tenant, NOTHING_SAID)[1])
        move(desk, case, ladder.event_of(desk.cfg, case, verdict, desk.scene))


def _asked_again(desk: Desk, case: Case) -> Case:
    """What a hold had ordered is ordered once more where an agent died before it knew what became of it."""
    if not case.is_unsure:
        return case
    again = replace(case, since=desk.scene.snap.at, is_unsure=False)
    kinds = [kind for kind in ladder.orders(again) if kind is not Kind.FREEZE]
    busy = desk.busy()
    if any(guard.permit(desk.cfg, desk.memory, desk.scene, again, k, busy) for k in kinds):
        return case
    for kind in kinds:
        _order(desk, again, kind)
    return again


def _looked_at(desk: Desk, case: Case, verdict: Judgement, finding: Finding | None) -> Case:
    """The case by what is said of it now, kept."""
    case = _refresh(desk, _raise_alarm(desk, case, verdict), finding)
    desk.cases[case.tenant] = case
    return case


def _is_news(case: Case, verdict: Judgement, finding: Finding) -> bool:
    """Whether what is said of a waiting case differs from what it stands on."""
    return (finding.device, finding.used_bytes, finding.limit_bytes, verdict.is_emergency) != (
        case.device,
        case.bytes_at_open,
        case.limit_bytes,
        case.is_emergency,
    )


def _turn(desk: Desk, case: Case, verdict: Judgement) -> tuple[bool, tuple[float, ...], TenantId]:
    return not verdict.is_convicted, _order_of(desk, case.tenant, case.device), case.tenant


def _order_of(desk: Desk, tenant_id: TenantId, device: DeviceId | None) -> tuple[float, ...]:
    """Where a tenant stands among those that have to go."""
    tenant = desk.scene.tenants.get(tenant_id)
    use = desk.scene.use_of(tenant_id, device) if device is not None else None
    return victims.precedence(tenant, use) if tenant is not None and use is not None else ()


def _raise_alarm(desk: Desk, case: Case, verdict: Judgement) -> Case:
    """An eviction under way becomes an emergency when somebody protected starts to suffer; before it
    begins, a case is one only as long as somebody does."""
    if case.rung not in IN_FLIGHT:
        same = case.is_emergency == verdict.is_emergency
        return case if same else replace(case, is_emergency=verdict.is_emergency)
    if not verdict.is_emergency or case.is_emergency:
        return case
    tenant = desk.scene.tenants[case.tenant]
    grace = min(case.grace_s, ladder.grace_s(desk.cfg, tenant, is_emergency=True))
    desk.note(case.incident, NoteKind.EVIDENCE, "emergency lane: a protected tenant is harmed")
    if case.rung is Rung.TERMED and desk.scene.snap.at - case.since < case.grace_s:
        # TERM was sent earlier: the emergency's own grace runs from now at the latest.
        left = min(case.grace_s - (desk.scene.snap.at - case.since), grace)
        return replace(case, is_emergency=True, grace_s=desk.scene.snap.at - case.since + left)
    return replace(case, is_emergency=True, grace_s=grace)


def _refresh(desk: Desk, case: Case, finding: Finding | None) -> Case:
    """Before the eviction begins, a case follows its newest finding."""
    tenant = desk.scene.tenants.get(case.tenant)
    if case.rung in IN_FLIGHT or tenant is None or finding is None or finding.device is None:
        return case
    reason = reason_of(finding)
    grace = ladder.grace_s(desk.cfg, tenant, is_emergency=case.is_emergency)
    limit = tenant.hard_bytes or case.limit_bytes
    used = finding.used_bytes or case.bytes_at_open
    if (finding.device, used, limit, grace, reason) == (
        case.device,
        case.bytes_at_open,
        case.limit_bytes,
        case.grace_s,
        case.reason,
    ):
        return case
    return replace(
        case,
        reason=reason,
        limit_bytes=limit,
        device=finding.device,
        bytes_at_open=used,
        grace_s=grace,
    )


def move(desk: Desk, case: Case, event: Event) -> None:
    """Take one step if the guard lets every order of it pass; else stay and say what was
    withheld.
    """
    rung = ladder.step(case.rung, event)
    if rung is case.rung:
        _wake_for(desk, case)
        return
    if rung is Rung.HELD:
        if _waits_its_turn(desk, case):
            return
        case = _before_eviction(desk, case)
        if _needs_no_hold(case):
            rung = Rung.KILLED if case.grace_s <= 0 else Rung.TERMED
    if rung is Rung.TERMED and case.is_paused:
        rung = Rung.KILLED  # a paused process cannot hear TERM, and must not run again in between
    entered = ladder.enter(case, rung, desk.scene.snap.at)
    allowed = _allowed(desk, case, entered)
    if allowed is None:
        return
    for kind in allowed:
        _order(desk, entered, kind)
    desk.note(entered.incident, NoteKind.RUNG, telling.rung(desk, case, entered, event))
    if rung is Rung.DONE:
        _close(desk, case, event)
        return
    if rung is not Rung.HELD:  # let go with the signal; the debt stands until that is done
        entered = replace(entered, frozen_since=None)
    desk.cases[case.tenant] = entered
    _wake_for(desk, entered)


def _allowed(desk: Desk, case: Case, entered: Case) -> list[Kind] | None:
    """The orders of a rung, or ``None``: one was withheld, and the rung is not entered. That a device
    may not be cordoned keeps nobody from being told."""
    allowed = []
    for kind in ladder.orders(entered):
        refusal = guard.permit(desk.cfg, desk.memory, desk.scene, entered, kind, desk.busy())
        if refusal is None:
            allowed.append(kind)
        elif kind is Kind.CORDON:
            desk.withhold(case, kind, refusal)
        else:
            desk.cases[case.tenant] = desk.withhold(case, kind, refusal)
            return None
    return allowed


def _waits_its_turn(desk: Desk, case: Case) -> bool:
    """Withheld and said so already, and its device is still busy with somebody else's eviction."""
    return _has_said_to_wait(case) and desk.busy_with(case.device, case.tenant)


def _has_said_to_wait(case: Case) -> bool:
    return not WAITS.isdisjoint(case.withheld)


def _before_eviction(desk: Desk, case: Case) -> Case:
    """What an eviction starts from: every device it holds, and whether it would be restarted."""
    tenant = desk.scene.tenants[case.tenant]
    restarts = tenant.restart_policy not in (None, "", "no")
    is_off = not (restarts and tenant.runtime in ladder.HAS_RESTART_POLICY)
    uses = desk.scene.uses_of(case.tenant)
    is_mps = any(use.is_mps for use in uses)
    return replace(
        case,
        target=target_of(tenant),
        reason="quota-hard" if case.reason == "quota-soft" else case.reason,
        **holdings(desk, case.device, uses),
        began_at=desk.scene.snap.at,
        is_restart_settled=is_off,
        is_restart_off=is_off,
        old_restart=tenant.restart_policy,
        is_mps=is_mps,
        is_detached=not is_mps,
        is_paused=tenant.is_paused,
        owner_key=tenant.owner_key,
    )


class Holdings(TypedDict):
    """What an eviction has to bring back."""

    devices: tuple[DeviceId, ...]
    held: tuple[tuple[DeviceId, int], ...]
    nobodys: tuple[tuple[DeviceId, int], ...]


def holdings(desk: Desk, device: DeviceId, uses: Sequence[Use]) -> Holdings:
    """What a tenant holds where, and what nobody does there, as its eviction begins."""
    devices = tuple(sorted({device, *(use.device for use in uses)}))
    nobodys = dict(desk.scene.snap.unattributed)
    return {
        "devices": devices,
        "held": tuple((use.device, use.used_bytes) for use in uses),
        "nobodys": tuple((d, nobodys.get(d, 0)) for d in devices),
    }


def _needs_no_hold(case: Case) -> bool:
    """A hold is for deciding and for switching a restart policy off; without either it only
    delays.
    """
    is_held = (
        case.is_emergency and case.target.cgroup is not None and not (case.is_paused or case.is_mps)
    )
    return case.is_restart_settled and case.is_detached and not is_held


def _order(desk: Desk, case: Case, kind: Kind) -> None:
    params: list[tuple[str, str]] = []
    if kind is Kind.THROTTLE:
        params = [("cpu_cores", str(desk.cfg.ladder.throttle_cpu_cores))]
        tenant = desk.scene.tenants.get(case.tenant)
        if case.reason == "pressure" and tenant is not None and tenant.host.memory_bytes:
            high = int(tenant.host.memory_bytes * desk.cfg.host.pressure_memory_ratio)
            params = [("memory_high_bytes", str(high))]
    if kind is Kind.STOP:
        grace = case.grace_s if case.rung is Rung.TERMED else 0.0
        params = [("grace_s", f"{max(0.0, grace):.3f}")]
    if kind is Kind.PAGE:
        text = f"{case.target.name} cannot be ended: its processes or its bytes stay"
        params = [("severity", "critical"), ("summary", text)]
    if kind is Kind.CORDON:
        state = desk.device(case.device)
        since = desk.scene.snap.wall if state.cordoned_by is None else state.cordoned_wall
        state = replace(state, cordoned_by=case.incident, cordoned_wall=since)
        desk.devices[case.device] = state
    desk.order(
        kind,
        case.incident,
        telling.why(case),
        target=case.target,
        device=case.device,
        params=params,
        ttl_s=desk.cfg.ladder.hold_ttl_s if kind is Kind.FREEZE else None,
        owes=(("restart_policy", case.old_restart or "no"),) if kind is Kind.RESTART_OFF else (),
    )


def _close(desk: Desk, before: Case, event: Event) -> None:
    desk.cases.pop(before.tenant, None)
    now, wall = desk.scene.snap.at, desk.scene.snap.wall
    if before.rung not in AFTER_EVICTION and before.rung is not Rung.HELD:
        return
    for device in before.devices or (before.device,):
        state = desk.device(device)
        wait = desk.cfg.ladder.cooldown_s if event is Event.GONE else 0.0
        desk.devices[device] = replace(state, cooldown_until=now + wait)
    is_told = ladder.is_told_to_stop(before)
    is_gone = (before.rung in AFTER_EVICTION or is_told) and event is not Event.OBEYED
    # Else it had left before anything reached it.
    is_evicted = is_gone and (is_told or bool(before.acted))
    if is_gone:
        desk.memory = replace(
            desk.memory,
            released={**desk.memory.released, **dict.fromkeys(before.devices, now)},
            # Whoever comes back under its name is judged by lists of its own.
            episodes={k: e for k, e in desk.memory.episodes.items() if e.tenant != before.tenant},
        )
        if is_evicted and before.owner_key is not None:
            key = before.owner_key
            began = wall - (now - (now if before.began_at is None else before.began_at))
            there = tombstone.there_since_before(began, key, desk.scene)
            desk.tombstones[key] = tombstone.bury(
                desk.cfg, desk.tombstones, key, began, who=before.tenant, there=there
            )
    due = wall + desk.cfg.ladder.tombstone_window_s if is_evicted else wall
    desk.debts = [
        replace(debt, due_wall=due)
        if debt.tenant == before.tenant and debt.kind is Kind.RESTART_BACK
        else debt
        for debt in desk.debts
    ]


def _wake_for(desk: Desk, case: Case) -> None:
    """When the case becomes due by itself."""
    wait = {
        Rung.HELD: ladder.hold_s(desk.cfg, case),
        Rung.TERMED: case.grace_s,
        Rung.KILLED: desk.cfg.ladder.verify_s,
        Rung.STOPPED: ladder.stuck_after_s(desk.cfg, case),
    }.get(case.rung)
    if wait is None:
        return
    desk.wakes.append(case.since + wait)


def open_cases(desk: Desk, said: dict[TenantId, tuple[Judgement, Finding]]) -> None:
    """A case for every tenant with a finding; those to be evicted in victim order. Whoever's case has
    just been closed is judged anew by the next look."""
    known = desk.memory.cases.keys() | desk.cases.keys()
    newcomers = [t for t in said if t not in known and said[t][1].device is not None]
    for tenant_id in sorted(newcomers, key=lambda t: _newcomer_turn(desk, t, said[t])):
        verdict, finding = said[tenant_id]
        tenant = desk.scene.tenants[tenant_id]
        reason = reason_of(finding)
        case = new_case(desk, tenant, finding, reason, is_emergency=verdict.is_emergency)
        desk.cases[tenant_id] = case
        move(desk, case, Event.NOTICED)
        if verdict.is_convicted:
            move(desk, desk.cases[tenant_id], Event.CONVICTED)


def _newcomer_turn(
    desk: Desk, tenant_id: TenantId, said: tuple[Judgement, Finding]
) -> tuple[bool, tuple[float, ...], TenantId]:
    verdict, finding = said
    return not verdict.is_convicted, _order_of(desk, tenant_id, finding.device), tenant_id


def reason_of(finding: Finding) -> str:
    """What a case is for, by its finding; the guard asks the rule behind it for its mode."""
    if finding.rule != "quota":
        return finding.rule
    return "quota-soft" if finding.key.startswith("quota-soft") else "quota-hard"


def new_case(
    desk: Desk,
    tenant: Tenant,
    finding: Finding,
    reason: str,
    *,
    is_emergency: bool,
    incident: IncidentId | None = None,
) -> Case:
    """A case on the first rung; in the tenant's own incident where none is named."""
    now = desk.scene.snap.at
    device = finding.device
    if device is None:
        raise ValueError("a case needs the device of its finding")
    return Case(
        incident=incident or desk.incident(f"tenant/{tenant.id}", finding),
        tenant=tenant.id,
        device=device,
        rung=Rung.WATCH,
        since=now,
        opened_at=now,
        reason=reason,
        is_emergency=is_emergency,
        target=target_of(tenant),
        grace_s=ladder.grace_s(desk.cfg, tenant, is_emergency=is_emergency),
        bytes_at_open=finding.used_bytes or 0,
        limit_bytes=finding.limit_bytes or 0,
        owner_key=tenant.owner_key,
    )
