"""Rule cordon: a device out of use says so, and is used again once it has been well for long.

A cordon is gpuwarden's own note: it moves no tenant to the device. Whoever places jobs here is told of it
(``ports.Cordons``), and told again until it has been heard. One that an operator asked for is lifted by an
operator alone. The node as a whole is kept beside its devices, under ``NODE_ITSELF``.
"""

from collections.abc import Mapping
from dataclasses import replace

from gpuwarden.config import Config
from gpuwarden.model.action import Kind
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.ids import DeviceId, IncidentId
from gpuwarden.model.memory import DeviceMemory, Memory, Rung
from gpuwarden.model.repair import NODE, Phase
from gpuwarden.policy import lockup
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.scene import Scene

NODE_ITSELF = DeviceId(NODE)
"""Stands for the whole node where cordons are remembered by device."""


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """One finding a cordon, with what will lift it."""
    findings = []
    names = {d.id: f"GPU {d.index}" for d in scene.snap.devices} | {NODE_ITSELF: "the node"}
    for place, state in memory.devices.items():
        if state.cordoned_by is None:
            continue
        until = f"it is used again after {cfg.ladder.uncordon_after_s:.0f} s without a fault"
        if state.held_by:
            until = f"{state.held_by} wants it so, until an operator lifts it"
        if state.drained_wall:
            until += "; it is being emptied"
        findings.append(
            Finding(
                rule="cordon",
                key=f"cordon {place}",
                severity=Severity.WARNING,
                summary=f"{names.get(place, place)} is cordoned ({state.cordoned_by}): {until}",
                device=None if place == NODE_ITSELF else place,
            )
        )
    return findings


def standing(devices: Mapping[DeviceId, DeviceMemory]) -> dict[DeviceId, DeviceMemory]:
    """What is cordoned now, the node under ``NODE_ITSELF``."""
    return {place: state for place, state in devices.items() if state.cordoned_by is not None}


def take(desk: Desk, place: DeviceId, incident: IncidentId, why: str) -> None:
    """Order a cordon that does not stand yet."""
    desk.devices[place] = replace(
        desk.device(place),
        cordoned_by=incident,
        cordoned_wall=desk.scene.snap.wall,
        is_cordon_told=False,
        cordon_tried_at=desk.scene.snap.at,
        cordon_tries=0,
        well_since=None,
    )
    desk.order(Kind.CORDON, incident, why, device=place)


def give_back(desk: Desk, place: DeviceId, why: str) -> None:
    """Order the end of a cordon that stands."""
    state = desk.device(place)
    incident = state.cordoned_by
    if incident is None:
        return
    desk.devices[place] = replace(
        state,
        cordoned_by=None,
        held_by="",
        is_cordon_told=False,
        uncordon_owed=incident,
        cordon_tried_at=desk.scene.snap.at,
        cordon_tries=0,
        well_since=None,
        last_resort="",
        drained_wall=0.0,
        is_drain_late=False,
        drain_withheld=(),
    )
    _tell_end(desk, place, incident, why)


RETRY_S = 30.0
"""A scheduler that could not be told of a cordon, or of its end, is told again after this long,"""
RETRY_MAX_S = 600.0
"""and after twice as long each time it cannot be told again, up to this."""


def maintain(desk: Desk) -> None:
    """Tell again what could not be told; the end of a cordon is owed like any undo."""
    now = desk.scene.snap.at
    for device_id, state in list(desk.devices.items()):
        tried = state.cordon_tried_at
        if tried is None:
            continue
        due = tried + min(RETRY_MAX_S, RETRY_S * 2 ** max(0, min(state.cordon_tries - 1, 8)))
        untold = state.cordoned_by is not None and not state.is_cordon_told
        if not (untold or state.uncordon_owed is not None):
            continue
        if now < due:
            desk.wakes.append(due)
            continue
        desk.devices[device_id] = replace(state, cordon_tried_at=now)
        if state.cordoned_by is not None and untold:
            desk.order(Kind.CORDON, state.cordoned_by, "told again", device=device_id)
        elif state.uncordon_owed is not None:
            _tell_end(desk, device_id, state.uncordon_owed, "told again")


def lift(desk: Desk) -> None:
    """Order the end of every cordon whose device has been well for ``uncordon_after_s``."""
    now = desk.scene.snap.at
    for place, state in standing(desk.devices).items():
        if state.held_by:
            continue
        device = desk.scene.devices.get(place)
        if device is None and place != NODE_ITSELF:
            continue
        is_well = _is_node_well(desk) if device is None else _is_well(desk, device, state)
        if not is_well:
            if state.well_since is not None:
                desk.devices[place] = replace(state, well_since=None)
            continue
        since = now if state.well_since is None else state.well_since
        due = since + desk.cfg.ladder.uncordon_after_s
        if now < due:
            desk.devices[place] = replace(state, well_since=since)
            desk.wakes.append(due)
            continue
        who = "the node" if device is None else f"GPU {device.index}"
        give_back(desk, place, f"{who} has been well for {now - since:.0f} s")


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


def _is_node_well(desk: Desk) -> bool:
    """No repair of the node is under way or left to people, and every device is seen."""
    repair = desk.repairs.get(NODE)
    if repair is not None and repair.phase is not Phase.PROBATION:
        return False
    return all(d.sight is Sight.OK for d in desk.scene.snap.devices)
