"""Who is left on what has to be empty, and who of them is asked to go: for a repair, and for an operator's drain."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpuwarden.model.action import Kind, Withheld
from gpuwarden.model.device import Sight
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.ids import DeviceId, IncidentId
from gpuwarden.model.memory import IN_FLIGHT, Rung
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy import guard, ladder
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.evict import holdings, new_case

MARKS_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What somebody makes room for. ``key`` tells its claims apart; ``device`` ``None``: the whole node."""

    key: str
    rule: str
    device: DeviceId | None
    incident: IncidentId
    what: str
    """``reset-gpu of GPU-5693d3e0``."""
    withheld: tuple[str, ...] = ()
    """What has been said of it already: action and budget."""


def left_on(desk: Desk, devices: Sequence[DeviceId]) -> list[Tenant] | None:
    """Tenants in the way; ``None``: it cannot be known yet (no fresh list).

    A device that is lost or blind can be listed no more: whoever was last seen there counts for as long
    as its processes live.
    """
    found: dict[str, Tenant] = {}
    for device_id in devices:
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


def ask_to_go(desk: Desk, room: Room, left: list[Tenant]) -> tuple[str, ...]:
    """Stop, in their runtimes and with their grace, those whose class the operator lets a drain end
    (``repair.drain_evicts``). One at a time on a device; protected ones never. What has been said of
    ``room`` by now."""
    highest = desk.cfg.repair.drain_evicts
    if highest is None:
        return room.withheld
    for tenant in sorted(left, key=lambda t: (t.cls, t.id)):
        if tenant.cls > highest or not guard.may_evict_class(desk.cfg, tenant.cls, Rung.STOPPED):
            continue
        case = desk.cases.get(tenant.id)
        if case is not None and case.rung in (*IN_FLIGHT, Rung.STUCK):
            continue
        room = _stop(desk, room, tenant)
    return room.withheld


def _stop(desk: Desk, room: Room, tenant: Tenant) -> Room:
    uses = desk.scene.uses_of(tenant.id)
    if not uses:
        return room
    claim = Finding(
        rule=room.rule,
        key=f"{room.key} {tenant.id}",
        severity=Severity.WARNING,
        summary=f"{tenant.name} makes room for {room.what}",
        tenant=tenant.id,
        device=room.device or uses[0].device,
        used_bytes=sum(use.used_bytes for use in uses),
    )
    case = desk.cases.get(tenant.id)
    if case is None:
        case = new_case(desk, tenant, claim, "drain", is_emergency=False, incident=room.incident)
    stopped = replace(
        ladder.enter(case, Rung.STOPPED, desk.scene.snap.at),
        reason="drain",
        **holdings(desk, case.device, uses),
        began_at=desk.scene.snap.at,
    )
    refusal = guard.permit(desk.cfg, desk.memory, desk.scene, stopped, Kind.STOP, desk.busy())
    if refusal is None:
        desk.cases[tenant.id] = stopped
        desk.order(
            Kind.STOP,
            room.incident,
            claim.summary,
            target=case.target,
            device=case.device,
            params=(("grace_s", f"{case.grace_s:.3f}"),),
        )
        return room
    # Said once for each budget. No case is kept: nothing is held against a tenant that has to wait its turn.
    mark = f"{Kind.STOP}/{refusal.budget}"
    if mark in room.withheld:
        return room
    desk.withheld.append(
        Withheld(
            kind=Kind.STOP,
            incident=room.incident,
            tenant=tenant.id,
            device=case.device,
            budget=refusal.budget,
            detail=refusal.detail,
        )
    )
    desk.touched.add(room.incident)
    return replace(room, withheld=(*room.withheld, mark)[-MARKS_MAX:])
