"""What is owed and what prevents: debts given back, preventive limits set, held owners stopped."""

from dataclasses import replace

from gpuwarden.model.action import Action, Kind
from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId, IncidentId
from gpuwarden.model.memory import IN_FLIGHT, Case, Debt, Rung
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy import guard, ladder, tombstone
from gpuwarden.policy.desk import Desk, target_of
from gpuwarden.policy.evict import new_case

AGAIN = " again"
"""Marks a limit that was set a second time because the first had no effect."""
RETRY_S = 5.0
"""An undo that failed is tried again after this long, for as long as it takes."""


def settle(desk: Desk) -> None:
    """Order the undo of every debt that is due. Undo is never withheld."""
    kept = []
    for debt in desk.debts:
        if _is_ordered(desk.actions, debt):
            # The ladder gives it back itself in this pass (thaw after TERM): params are the debt's.
            kept.append(replace(debt, due_wall=desk.scene.snap.wall + RETRY_S))
        elif _is_due(desk, debt):
            desk.order(
                debt.kind,
                debt.incident,
                "giving back",
                target=debt.target,
                device=debt.device,
                params=debt.old,
            )
            case = desk.cases.get(debt.tenant)
            if case is not None and debt.kind is Kind.THAW:
                desk.cases[debt.tenant] = replace(case, frozen_since=None)
            kept.append(replace(debt, due_wall=desk.scene.snap.wall + RETRY_S))
        else:
            kept.append(debt)
    desk.debts = kept


def _is_ordered(actions: list[Action], debt: Debt) -> bool:
    return any(
        a.kind is debt.kind and a.target is not None and a.target.tenant == debt.tenant
        for a in actions
    )


def _is_due(desk: Desk, debt: Debt) -> bool:
    case = desk.cases.get(debt.tenant)
    if debt.due_wall is not None:
        # Wall time may be set back: a debt never waits longer than its window again.
        late = desk.scene.snap.wall >= debt.due_wall
        jumped = debt.due_wall - desk.scene.snap.wall > 2 * desk.cfg.ladder.tombstone_window_s
        return (late or jumped) and (case is None or case.rung not in IN_FLIGHT)
    if debt.kind is Kind.THAW:
        if case is None or case.frozen_since is None:
            return True
        due = case.frozen_since + desk.cfg.ladder.hold_ttl_s
        desk.wakes.append(due)
        return desk.scene.snap.at >= due
    if debt.kind is Kind.CLEAR_LIMIT:
        return debt.tenant not in desk.scene.tenants
    if debt.kind is Kind.UNTHROTTLE:
        return case is None or not case.is_throttled
    return case is None  # restart-back without a due time: its case vanished, give it back now


def prevent(desk: Desk) -> None:
    """Tell the preventive limiter, and the host limits, what each tenant is allowed; once a
    change.
    """
    wanted: dict[str, str] = {}
    enforcing = guard.is_enforcing(desk.cfg, "quota")
    for tenant in desk.scene.snap.tenants:
        if not tenant.is_described or tenant.is_never_victim or tenant.cgroup is None:
            continue
        if enforcing and tenant.hard_bytes is not None and desk.scene.snap.limiter != "none":
            _prevent_gpu(desk, tenant, wanted)
        host = tenant.host
        if enforcing and (host.memory_bytes is not None or host.cpu_cores is not None):
            key = f"host {tenant.id}"
            wanted[key] = f"{host.memory_bytes}/{host.cpu_cores}"
            if desk.applied.get(key) != wanted[key]:
                params = [
                    (name, str(value))
                    for name, value in (
                        ("memory_bytes", host.memory_bytes),
                        ("cpu_cores", host.cpu_cores),
                    )
                    if value is not None
                ]
                desk.order(
                    Kind.SET_HOST_LIMITS,
                    preventive(tenant),
                    "host limits of its policy",
                    target=target_of(tenant),
                    params=params,
                )
    known = {t.id for t in desk.scene.snap.tenants}
    for key, value in desk.applied.items():
        if key not in wanted and key.split(" ")[1] in known:
            wanted[key] = value
    desk.applied = wanted


def preventive(tenant: Tenant) -> IncidentId:
    """Preventive settings belong to no incident; they carry the tenant's name instead."""
    return IncidentId(f"limits/{tenant.id}")


def _has_no_effect(desk: Desk, tenant: Tenant, device: DeviceId) -> bool:
    """Whether the limiter itself shows another limit than it was told."""
    return any(
        r.tenant == tenant.id and r.device == device and r.hard_bytes != tenant.hard_bytes
        for r in desk.scene.snap.limits
    )


def _prevent_gpu(desk: Desk, tenant: Tenant, wanted: dict[str, str]) -> None:
    for use in desk.scene.uses_of(tenant.id):
        device = desk.scene.devices.get(use.device)
        if device is None or device.parent is not None:
            continue  # the driver refuses limits on MIG slices
        key = f"limit {tenant.id} {use.device}"
        value = f"{tenant.soft_bytes}/{tenant.hard_bytes}"
        known = desk.applied.get(key, "")
        wanted[key] = known if known.startswith(value) else value
        if known == value and _has_no_effect(desk, tenant, use.device):
            wanted[key] = value + AGAIN  # set once more; then the reactive engine is alone
        elif known.startswith(value):
            continue
        desk.order(
            Kind.SET_LIMIT,
            preventive(tenant),
            "quota of its policy",
            target=target_of(tenant),
            device=use.device,
            params=(
                ("soft_bytes", str(tenant.soft_bytes or tenant.hard_bytes or 0)),
                ("hard_bytes", str(tenant.hard_bytes or 0)),
            ),
        )
        if not any(
            d.kind is Kind.CLEAR_LIMIT and d.tenant == tenant.id and d.device == use.device
            for d in desk.debts
        ):
            desk.debts.append(
                Debt(
                    tenant=tenant.id,
                    kind=Kind.CLEAR_LIMIT,
                    target=target_of(tenant),
                    incident=preventive(tenant),
                    device=use.device,
                    since_wall=desk.scene.snap.wall,
                )
            )


def hold_owners(desk: Desk, findings: list[Finding]) -> None:
    """Stop a held owner's new tenant in its runtime, and page once."""
    desk.tombstones = tombstone.weather(desk.cfg, desk.tombstones, desk.scene.snap.wall)
    for finding in findings:
        if finding.rule != "tombstone" or finding.tenant is None:
            continue
        tenant = desk.scene.tenants[finding.tenant]
        uses = desk.scene.uses_of(tenant.id)
        case = desk.cases.get(tenant.id)
        if not uses or (case is not None and case.rung in (*IN_FLIGHT, Rung.STUCK)):
            continue
        if case is None:
            claim = replace(finding, device=uses[0].device, used_bytes=uses[0].used_bytes)
            case = new_case(desk, tenant, claim, "tombstone", is_emergency=False)
        stopped = replace(
            ladder.enter(case, Rung.STOPPED, desk.scene.snap.at),
            reason="tombstone",
            devices=tuple(sorted({u.device for u in uses})),
        )
        refusal = guard.permit(desk.cfg, desk.memory, desk.scene, stopped, Kind.STOP, desk.busy())
        if refusal is not None:
            desk.cases[tenant.id] = desk.withhold(case, Kind.STOP, refusal)
            continue
        desk.cases[tenant.id] = stopped
        desk.order(
            Kind.STOP,
            case.incident,
            finding.summary,
            target=case.target,
            device=case.device,
            params=(("grace_s", f"{case.grace_s:.3f}"),),
        )
        _page_once(desk, stopped, finding)


def _page_once(desk: Desk, case: Case, finding: Finding) -> None:
    tenant = desk.scene.tenants[case.tenant]
    stone = desk.tombstones.get(tenant.owner_key or "")
    if stone is None or stone.is_paged:
        return
    desk.tombstones[stone.owner_key] = replace(stone, is_paged=True)
    desk.order(
        Kind.PAGE,
        case.incident,
        finding.summary,
        params=(("severity", "error"), ("summary", finding.summary)),
    )
