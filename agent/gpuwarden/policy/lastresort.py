"""When a device stays locked although nobody at fault holds it any more (DESIGN 4.4, last
sentences).
"""

from dataclasses import replace

from gpuwarden.model.action import Kind
from gpuwarden.model.decision import NoteKind
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId, IncidentId
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy import guard, incidents, lockup
from gpuwarden.policy.desk import Desk, target_of

RELOCATABLE = frozenset({"docker"})


def resort(desk: Desk, findings: list[Finding]) -> None:
    """Relocate the protected tenant where the operator allows it and a healthy device has room;
    else
    cordon, page at once, and name the reset that needs the device empty."""
    for finding in findings:
        if finding.rule != "locked" or finding.device is None:
            continue
        device = desk.scene.devices[finding.device]
        state = desk.device(device.id)
        if any(busy == device.id for busy, _ in desk.busy()):
            continue
        due = _due(desk, device)
        if due is None:
            continue
        if desk.scene.snap.at < due:
            desk.wakes.append(due)
            continue
        if state.last_resort == "":
            _resort_once(desk, device, finding)


def _due(desk: Desk, device: Device) -> float | None:
    """When the lock has lasted too long; ``None``: nothing says any more that it lasts.

    A device whose services finish their requests is at work: those that waited while it was locked
    come late, so that lateness counts from a window of its own.
    """
    cfg, state = desk.cfg, desk.device(device.id)
    start = max(state.locked_since or 0.0, desk.memory.released.get(device.id, 0.0))
    due = start + cfg.ladder.locked_after_s
    if lockup.is_asking(cfg, state, device, desk.scene.snap.at) or device.sight is not Sight.OK:
        return due
    services = lockup.services_on(desk.scene, device.id)
    unwell = [s for s in services if not (lockup.is_well(s) or lockup.is_recovering(s))]
    if not unwell:
        return None
    if all(lockup.is_finishing(s) for s in unwell):
        return due + max(lockup.window_s(cfg, s) for s in unwell)
    return due


def _resort_once(desk: Desk, device: Device, finding: Finding) -> None:
    incident = desk.incident(incidents.subject_of(desk, finding), finding)
    if not guard.is_enforcing(desk.cfg, "locked"):
        _mark(desk, device.id, "observe")
        desk.note(
            incident,
            NoteKind.EVIDENCE,
            "observe mode: would cordon the device and page",
        )
        _page(
            desk,
            device,
            incident,
            "it is still in service: the node is in observe mode",
        )
        return
    moved: list[str] = []
    kept: list[str] = []
    for tenant in desk.scene.protected_on(device.id):
        new = _refuge(desk, device, tenant)
        if new is None:
            kept.append(tenant.name)
            continue
        desk.order(
            Kind.RELOCATE,
            incident,
            f"GPU {device.index} stays locked up; {tenant.name} moves to GPU {new.index}",
            target=target_of(tenant),
            device=new.id,
            params=(("index", str(new.index)), ("from", device.id)),
        )
        moved.append(tenant.name)
    _mark(desk, device.id, "relocate" if moved else "cordon")
    if desk.scene.snap.fleet_permit and desk.scene.snap.can_record:
        desk.devices[device.id] = replace(desk.device(device.id), cordoned_by=incident)
        desk.order(
            Kind.CORDON,
            incident,
            f"GPU {device.index} stays locked up",
            device=device.id,
        )
    users = [desk.scene.tenants[u.tenant].name for u in desk.scene.uses_on(device.id)]
    stay = [name for name in users if name not in moved]
    need = f"reset it with: nvidia-smi --gpu-reset -i {device.index}; it has to be empty first" + (
        f" (still there: {', '.join(stay[:8])})" if stay else ""
    )
    if kept and not desk.cfg.ladder.allow_protected_restart:
        need += "; allow_protected_restart is off, so no protected tenant was moved"
    elif kept:
        need += f"; no healthy device has room for {', '.join(kept[:8])}"
    _page(desk, device, incident, need)


def _mark(desk: Desk, device: DeviceId, what: str) -> None:
    desk.devices[device] = replace(desk.device(device), last_resort=what)


def _page(desk: Desk, device: Device, incident: IncidentId, need: str) -> None:
    why = desk.device(device.id).locked_why
    desk.order(
        Kind.PAGE,
        incident,
        f"GPU {device.index} stays locked up after its offender is gone",
        device=device.id,
        params=(
            ("severity", "critical"),
            (
                "summary",
                f"GPU {device.index} ({device.id}) is locked up ({why}); {need}",
            ),
        ),
    )


def _refuge(desk: Desk, device: Device, tenant: Tenant) -> Device | None:
    """A healthy device of the node with room for the tenant, the emptiest first."""
    if not (desk.cfg.ladder.allow_protected_restart and desk.scene.snap.can_record):
        return None
    if tenant.runtime not in RELOCATABLE:
        return None
    need = sum(u.used_bytes for u in desk.scene.uses_of(tenant.id) if u.device == device.id)
    options = []
    for other in desk.scene.snap.devices:
        state = desk.device(other.id)
        free = desk.scene.free_bytes(other)
        sound = (
            other.id != device.id
            and other.parent is None
            and not other.is_mig_parent
            and other.sight is Sight.OK
            and state.locked_since is None
            and state.cordoned_by is None
        )
        if sound and free is not None and free >= need + desk.scene.reserve_bytes(other):
            options.append((-free, other.index, other))
    return min(options, key=lambda o: o[:2])[2] if options else None
