"""Rule locked: a device has stopped doing work (an Xid that stops it, or the driver asks for a
reset).
"""

from gpuwarden.config import Config
from gpuwarden.model.device import Device
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import Memory
from gpuwarden.policy.scene import Scene


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """One finding a locked device, while it is locked."""
    findings = []
    for device in scene.snap.devices:
        state = memory.devices.get(device.id)
        if state is None or state.locked_since is None:
            continue
        findings.append(
            Finding(
                rule="locked",
                key=f"locked {device.id}",
                severity=Severity.CRITICAL,
                summary=f"GPU {device.index} is locked up ({state.locked_why})",
                device=device.id,
                evidence=(("locked up", state.locked_why), *_place(device)),
            )
        )
    return findings


def _place(device: Device) -> tuple[tuple[str, str], ...]:
    """Where the kernel log names it."""
    return (("pci", device.pci),) if device.pci else ()
