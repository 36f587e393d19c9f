"""Rule cordon: a device out of use says so, and is used again once it has been well for long.

A cordon is gpuwarden's own note: it moves no tenant to the device. Whoever places jobs here is told of it
(``ports.Cordons``), and told again until it has been heard.
"""

from dataclasses import replace

from gpuwarden.config import Config
from gpuwarden.model.action import Kind
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.ids import DeviceId, IncidentId
from gpuwarden.model.memory import DeviceMemory, Memory, Rung
from gpuwarden.model.repair import Phase
from gpuwarden.policy import lockup
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.scene import Scene


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """One finding a cordoned device, with what will lift the cordon."""
    findings = []
    for device in scene.snap.devices:
        state = memory.devices.get(device.id)
        if state is None or state.cordoned_by is None:
            continue
        findings.append(
            Finding(
                rule="cordon",
                key=f"cordon {device.id}",
                severity=Severity.WARNING,
                summary=(
                    f"GPU {device.index} is cordoned ({state.cordoned_by}): it is used again after "
                    f"{cfg.ladder.uncordon_after_s:.0f} s without a fault"
                ),
                device=device.id,
            )
        )
    return findings


RETRY_S = 30.0
"""A scheduler that could not be told of a cordon, or of its end, is told again after this long."""


def maintain(desk: Desk) -> None:
    """Tell again what could not be told; the end of a cordon is owed like any undo."""
    now = desk.scene.snap.at
    for device_id, state in list(desk.devices.items()):
        tried = state.cordon_tried_at
        if tried is None:
            continue
        is_due = now - tried >= RETRY_S
        untold = state.cordoned_by is not None and not state.is_cordon_told
        if not (untold or state.uncordon_owed is not None):
            continue
        if not is_due:
            desk.wakes.append(tried + RETRY_S)
            continue
        desk.devices[device_id] = replace(state, cordon_tried_at=now)
        if state.cordoned_by is not None and untold:
            desk.order(Kind.CORDON, state.cordoned_by, "told again", device=device_id)
        elif state.uncordon_owed is not None:
            _tell_end(desk, device_id, state.uncordon_owed, "told again")


def lift(desk: Desk) -> None:
    """Order the end of every cordon whose device has been well for ``uncordon_after_s``."""
    now = desk.scene.snap.at
    for device in desk.scene.snap.devices:
        state = desk.device(device.id)
        if state.cordoned_by is None:
            continue
        if not _is_well(desk, device, state):
            if state.well_since is not None:
                desk.devices[device.id] = replace(state, well_since=None)
            continue
        since = now if state.well_since is None else state.well_since
        due = since + desk.cfg.ladder.uncordon_after_s
        if now < due:
            desk.devices[device.id] = replace(state, well_since=since)
            desk.wakes.append(due)
            continue
        why = f"GPU {device.index} has been well for {now - since:.0f} s"
        incident = state.cordoned_by
        desk.devices[device.id] = replace(
            state,
            cordoned_by=None,
            is_cordon_told=False,
            uncordon_owed=state.cordoned_by,
            cordon_tried_at=now,
            well_since=None,
            last_resort="",
        )
        _tell_end(desk, device.id, incident, why)


def _tell_end(desk: Desk, device: DeviceId, incident: IncidentId, why: str) -> None:
    """What is cordoned as a whole stays so while another device is: the end names those that stand."""
    still = sorted({s.cordoned_by for s in desk.devices.values() if s.cordoned_by is not None})
    params = (("still", ",".join(still)),) if still else ()
    desk.order(Kind.UNCORDON, incident, why, device=device, params=params)


def _is_well(desk: Desk, device: Device, state: DeviceMemory) -> bool:
    """Seen, not locked up, the driver asks for nothing, no repair of it is under way or left to people,
    and nobody's bytes are stuck there."""
    repair = desk.repairs.get(str(device.id))
    if repair is not None and repair.phase is not Phase.PROBATION:
        return False
    if device.sight is not Sight.OK or state.locked_since is not None:
        return False
    if lockup.is_asking(desk.cfg, state, device, desk.scene.snap.at):
        return False
    return not any(
        case.rung is Rung.STUCK and device.id in (case.devices or (case.device,))
        for case in desk.cases.values()
    )
