"""A breached reserve is made good: one victim at a time, in the order of ``victims``."""

from dataclasses import replace

from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.memory import IN_FLIGHT, Rung
from gpuwarden.model.tenant import TenantClass
from gpuwarden.policy import victims
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.evict import move, new_case
from gpuwarden.policy.ladder import Event


def restore_reserves(desk: Desk, findings: list[Finding]) -> None:
    """Free a breached reserve: one victim at a time, those over quota first (DESIGN 4.5)."""
    for finding in findings:
        if finding.rule != "reserve" or not finding.is_confirmed or finding.device is None:
            continue
        device = desk.scene.devices[finding.device]
        if any(busy == device.id for busy, _ in desk.busy()) or _is_stuck(desk, device.id):
            continue
        missing = (finding.limit_bytes or 0) - (finding.used_bytes or 0)
        ranked = victims.rank(desk.scene, device.id, TenantClass.PROTECTED)
        ranked = [u for u in ranked if desk.scene.tenants[u.tenant].cls < TenantClass.HIGH]
        if not desk.cfg.reserve.evict_within_quota:
            ranked = [
                u for u in ranked if victims.relative_overrun(desk.scene.tenants[u.tenant], u) > 1
            ]
        needed = victims.target_bytes(desk.cfg, device, missing)
        for use in victims.smallest_set(ranked, needed, desk.scene)[:1]:
            if use.tenant in desk.memory.cases and use.tenant not in desk.cases:
                continue  # its case has just been closed: the next look judges it anew
            _evict_for_reserve(desk, finding, use.tenant, use.used_bytes)


def _evict_for_reserve(desk: Desk, finding: Finding, tenant_id: TenantId, used: int) -> None:
    tenant = desk.scene.tenants[tenant_id]
    claim = replace(finding, tenant=tenant_id, used_bytes=used, limit_bytes=tenant.hard_bytes or 0)
    case = desk.cases.get(tenant_id)
    if case is None:
        case = new_case(desk, tenant, claim, "reserve", is_emergency=False)
    elif case.rung in IN_FLIGHT or case.rung is Rung.STUCK:
        return
    else:
        case = replace(case, reason="reserve")
    desk.cases[tenant_id] = case
    if case.rung is Rung.WATCH:
        move(desk, case, Event.NOTICED)
    move(desk, desk.cases[tenant_id], Event.CONVICTED)


def _is_stuck(desk: Desk, device: DeviceId) -> bool:
    """Whether somebody who was ended still holds bytes there: nobody else goes for the same bytes."""
    return any(
        case.rung is Rung.STUCK and device in (case.devices or (case.device,))
        for case in desk.cases.values()
    )
