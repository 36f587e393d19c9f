"""When a device stays locked although nobody at fault holds it any more (DESIGN 4.4, last
sentences).
"""

from dataclasses import replace

from gpuwarden.model.action import Kind, Withheld
from gpuwarden.model.decision import NoteKind
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId, IncidentId
from gpuwarden.model.repair import Phase, Step
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy import cordon, guard, incidents, lockup
from gpuwarden.policy.desk import Desk, target_of
from gpuwarden.policy.repair.report import WHAT_TO_DO

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
        elif state.last_resort != "observe" and state.cordoned_by is None:
            _cordon(desk, device, desk.incident(incidents.subject_of(desk, finding), finding))


def _due(desk: Desk, device: Device) -> float | None:
    """When the lock has lasted too long; ``None``: nothing says any more that it lasts.

    Where the driver asks for nothing only the services speak: requests that waited while the device
    was locked come late, so they are given time to be through.
    """
    cfg, state = desk.cfg, desk.device(device.id)
    start = max(state.locked_since or 0.0, desk.memory.released.get(device.id, 0.0))
    if lockup.is_asking(cfg, state, device, desk.scene.snap.at) or device.sight is not Sight.OK:
        return start + cfg.ladder.locked_after_s
    services = lockup.services_on(desk.scene, device.id)
    if all(lockup.is_well(s) or lockup.is_recovering(s) for s in services):
        return None
    return start + cfg.ladder.locked_silent_s


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
    taken: dict[DeviceId, int] = {}
    for tenant in desk.scene.protected_on(device.id):
        new = _refuge(desk, device, tenant, taken)
        if new is None:
            kept.append(tenant.name)
            desk.withheld.append(_not_moved(desk, device, tenant, incident))
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
    if not _cordon(desk, device, incident):
        desk.withheld.append(_no_cordon(desk, device, incident))
    repaired = desk.repairs.get(str(device.id))
    users = [desk.scene.tenants.get(u.tenant) for u in desk.scene.uses_on(device.id)]
    stay = [t.name for t in users if t is not None and t.name not in moved]
    need = _reset_words(desk, device) + (f" (still there: {', '.join(stay[:8])})" if stay else "")
    if kept and not desk.cfg.ladder.allow_protected_restart:
        need += "; allow_protected_restart is off, so no protected tenant was moved"
    elif kept:
        need += f"; no healthy device has room for {', '.join(kept[:8])}"
    if not (moved or kept) and repaired is not None and repaired.phase is Phase.HANDED_OVER:
        return  # people have been told of it, and there is nothing to add
    _page(desk, device, incident, need)


def _reset_words(desk: Desk, device: Device) -> str:
    """Who resets the device, and what has to be true first; where no reset is among the remedies, what is."""
    repair = desk.repairs.get(str(device.id))
    if repair is not None and Step.RESET_GPU not in repair.ladder:
        first = repair.ladder[0]
        return WHAT_TO_DO[first].format(index=device.index)
    if guard.is_enforcing(desk.cfg, "repair") and "reset-gpu" in desk.cfg.repair.allow:
        command = f"nvidia-smi --gpu-reset -i {device.index}"
        return f"gpuwarden resets it by itself ({command}); it has to be empty first"
    return f"reset it with: nvidia-smi --gpu-reset -i {device.index}; it has to be empty first"


def _cordon(desk: Desk, device: Device, incident: IncidentId) -> bool:
    """Order the cordon unless it may not be; then it is tried again while the device stays locked."""
    snap = desk.scene.snap
    if not (snap.has_leave(Kind.CORDON.value, device.id) and snap.can_record):
        return False
    cordon.take(desk, device.id, incident, f"GPU {device.index} stays locked up")
    return True


def _no_cordon(desk: Desk, device: Device, incident: IncidentId) -> Withheld:
    is_unwritten = not desk.scene.snap.can_record
    return Withheld(
        kind=Kind.CORDON,
        incident=incident,
        tenant=None,
        device=device.id,
        budget="journal" if is_unwritten else "permit",
        detail="the intent cannot be written down" if is_unwritten else "no permit",
    )


def _not_moved(desk: Desk, device: Device, tenant: Tenant, incident: IncidentId) -> Withheld:
    is_allowed = desk.cfg.ladder.allow_protected_restart
    return Withheld(
        kind=Kind.RELOCATE,
        incident=incident,
        tenant=tenant.id,
        device=device.id,
        budget="no-refuge" if is_allowed else "operator",
        detail="nowhere to move it" if is_allowed else "allow_protected_restart is off",
    )


def _mark(desk: Desk, device: DeviceId, what: str) -> None:
    desk.devices[device] = replace(desk.device(device), last_resort=what)


def _page(desk: Desk, device: Device, incident: IncidentId, need: str) -> None:
    why = desk.device(device.id).locked_why
    desk.order(
        Kind.PAGE,
        incident,
        f"GPU {device.index} stays locked up: {_blame(desk, device)}",
        device=device.id,
        params=(
            ("severity", "critical"),
            (
                "summary",
                f"GPU {device.index} ({device.id}) is locked up ({why}); {need}",
            ),
        ),
    )


def _blame(desk: Desk, device: Device) -> str:
    since = desk.device(device.id).locked_since or 0.0
    if desk.memory.released.get(device.id, -1.0) >= since:
        return "its offender is gone, and that did not free it"
    return "nobody on it is found at fault"


def _refuge(
    desk: Desk, device: Device, tenant: Tenant, taken: dict[DeviceId, int]
) -> Device | None:
    """A healthy device of the node with room for the tenant, the emptiest first; its bytes are then
    ``taken`` for whoever moves after it."""
    if not (desk.cfg.ladder.allow_protected_restart and desk.scene.snap.can_record):
        return None
    if tenant.runtime not in RELOCATABLE:
        return None
    need = sum(u.used_bytes for u in desk.scene.uses_of(tenant.id) if u.device == device.id)
    options = []
    for other in desk.scene.snap.devices:
        free = desk.scene.free_bytes(other)
        if free is None or other.id == device.id or not _is_sound(desk, other):
            continue
        room = free - taken.get(other.id, 0)
        if room >= need + desk.scene.reserve_bytes(other):
            options.append((-room, other.index, other))
    if not options:
        return None
    new = min(options, key=lambda o: o[:2])[2]
    taken[new.id] = taken.get(new.id, 0) + need
    return new


def _is_sound(desk: Desk, device: Device) -> bool:
    state = desk.device(device.id)
    return (
        device.parent is None
        and not device.is_mig_parent
        and device.sight is Sight.OK
        and state.locked_since is None
        and state.cordoned_by is None
    )
