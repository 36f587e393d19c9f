"""What a look says of faults: the driver's events, kernel lines, polled conditions, and what is not seen."""

from gpuwarden.config import Config
from gpuwarden.model.device import Device, DriverEvent, Sight
from gpuwarden.model.repair import FaultClass, Sign
from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import Memory
from gpuwarden.policy import lockup, sight
from gpuwarden.policy.fault import classes
from gpuwarden.policy.scene import Scene

RECOVERY = {1: ("gpu", "reset_gpu"), 2: ("node", "reboot_node"), 3: ("gpu", "contact_support"),
            4: ("gpu", "reset_gpu"), 5: ("node", "contact_support")}


def of_look(cfg: Config, memory: Memory, scene: Scene, findings: list[Finding]) -> list[Sign]:
    """Everything one look says; nothing on a quiet node."""
    told: list[Sign] = []
    for event in scene.snap.events:
        sign = _of_event(event)
        if sign is not None:
            told.append(sign)
    if not sight.is_let_go(memory):
        for device in scene.snap.devices:
            told.extend(_of_device(cfg, memory, scene, device))
    return told
