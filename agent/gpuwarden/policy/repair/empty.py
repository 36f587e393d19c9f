"""Whether anybody is left on what is to be repaired, and who may be asked to go."""

from dataclasses import replace

from gpuwarden.model.action import Kind, Withheld
from gpuwarden.model.device import Sight
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import IN_FLIGHT, Case, Rung
from gpuwarden.model.repair import FaultClass, Repair, Step
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy import guard, ladder
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.evict import holdings, new_case
from gpuwarden.policy.guard import Refusal
from gpuwarden.policy.repair.permit import is_of_node

RULE = "repair"


def needs_empty(repair: Repair) -> bool:
    """A service that is down is restarted under whoever is there; one that runs, and everything else,
    only when nobody is."""
    return repair.step is not Step.RESTART_SERVICES or repair.cls is FaultClass.FABRIC


def left_on(desk: Desk, repair: Repair) -> list[Tenant] | None:
    """Tenants in the way of the step; ``None``: it cannot be known yet (no fresh list).

    A device that is lost or blind can be listed no more: whoever was last seen there counts for as long
    as its processes live, and the step itself refuses a device that somebody has open.
    """
    found: dict[str, Tenant] = {}
    for device_id in _devices(desk, repair):
        device = desk.scene.devices.get(device_id)
        if device is None:
            continue
        if device.sight is Sight.OK and not desk.scene.is_list_fresh(device):
            return None
        for use in desk.scene.uses_on(device_id):
            tenant = desk.scene.tenants.get(use.tenant)
            if tenant is not None:
                found[tenant.id] = tenant
    return list(found.values())


def _devices(desk: Desk, repair: Repair) -> list[DeviceId]:
    if is_of_node(repair) or repair.device is None:
        return list(desk.scene.devices)
    slices = [d.id for d in desk.scene.snap.devices if d.parent == repair.device]
    return [repair.device, *slices]


def ask_to_go(desk: Desk, repair: Repair, left: list[Tenant]) -> None:
    """Stop, in their runtimes and with their grace, those whose class the operator lets a drain end.
    One at a time on a device; protected ones never."""
    highest = desk.cfg.repair.drain_evicts
    if highest is None:
        return
    for tenant in sorted(left, key=lambda t: (t.cls, t.id)):
        if tenant.cls > highest or not guard.may_evict_class(desk.cfg, tenant.cls, Rung.STOPPED):
            continue
        case = desk.cases.get(tenant.id)
        if case is not None and case.rung in (*IN_FLIGHT, Rung.STUCK):
            continue
        _stop(desk, repair, tenant)


def _stop(desk: Desk, repair: Repair, tenant: Tenant) -> None:
    uses = desk.scene.uses_of(tenant.id)
    if not uses:
        return
    claim = Finding(
        rule=RULE,
        key=f"repair {repair.subject} {tenant.id}",
        severity=Severity.WARNING,
        summary=f"{tenant.name} makes room for {repair.step} of {repair.subject}",
        tenant=tenant.id,
        device=repair.device or uses[0].device,
        used_bytes=sum(use.used_bytes for use in uses),
    )
    case = desk.cases.get(tenant.id)
    if case is None:
        case = new_case(desk, tenant, claim, "drain", is_emergency=False, incident=repair.incident)
    stopped = replace(
        ladder.enter(case, Rung.STOPPED, desk.scene.snap.at),
        reason="drain",
        **holdings(desk, case.device, uses),
        began_at=desk.scene.snap.at,
    )
    refusal = guard.permit(desk.cfg, desk.memory, desk.scene, stopped, Kind.STOP, desk.busy())
    if refusal is not None:
        _withhold(desk, repair, case, refusal)
        return
    desk.cases[tenant.id] = stopped
    desk.order(
        Kind.STOP,
        repair.incident,
        claim.summary,
        target=case.target,
        device=case.device,
        params=(("grace_s", f"{case.grace_s:.3f}"),),
    )


def _withhold(desk: Desk, repair: Repair, case: Case, refusal: Refusal) -> None:
    """Said once for each budget. No case is kept: nothing is held against a tenant that has to wait its turn."""
    mark = f"{Kind.STOP}/{refusal.budget}"
    now = desk.repairs.get(repair.subject, repair)
    if mark in now.withheld:
        return
    desk.repairs[repair.subject] = replace(now, withheld=(*now.withheld, mark)[-16:])
    desk.withheld.append(
        Withheld(
            kind=Kind.STOP,
            incident=repair.incident,
            tenant=case.tenant,
            device=case.device,
            budget=refusal.budget,
            detail=refusal.detail,
        )
    )
    desk.touched.add(repair.incident)
