"""Rule cordon: a device out of use says so, and is used again once it has been well for long.

A cordon is gpuwarden's own note: it moves no tenant to the device. Nobody else is kept from it.
"""

from dataclasses import replace

from gpuwarden.config import Config
from gpuwarden.model.action import Kind
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import DeviceMemory, Memory, Rung
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
        desk.order(Kind.UNCORDON, state.cordoned_by, why, device=device.id)
        desk.devices[device.id] = replace(state, cordoned_by=None, well_since=None, last_resort="")


def _is_well(desk: Desk, device: Device, state: DeviceMemory) -> bool:
    """Seen, not locked up, the driver asks for nothing, and nobody's bytes are stuck there."""
    if device.sight is not Sight.OK or state.locked_since is not None:
        return False
    if lockup.is_asking(desk.cfg, state, device, desk.scene.snap.at):
        return False
    return not any(
        case.rung is Rung.STUCK and device.id in (case.devices or (case.device,))
        for case in desk.cases.values()
    )
