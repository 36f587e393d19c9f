"""Rule sight: a device, or the whole driver, cannot be seen. Blind is never healthy."""

from gpuwarden.config import Config
from gpuwarden.model.device import Sight
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import Memory
from gpuwarden.policy.scene import Scene


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """One finding a device that is blind or lost; one for a count unlike the expected one."""
    findings = []
    for device in scene.snap.devices:
        if device.sight is Sight.OK:
            continue
        reasons = [g.detail for g in scene.snap.gaps if g.subject == device.id and g.detail]
        lost = device.sight is Sight.LOST
        what = "is gone from the driver" if lost else "cannot be seen"
        why = "; ".join(reasons[:3])
        findings.append(
            Finding(
                rule="sight",
                key=f"sight {device.id}",
                severity=Severity.CRITICAL if lost else Severity.ERROR,
                summary=f"GPU {device.index} {what}: {why}"
                if why
                else f"GPU {device.index} {what}",
                device=device.id,
                evidence=(
                    *((("reason", why),) if why else ()),
                    *((("pci", device.pci),) if device.pci else ()),
                ),
            )
        )
    expected = cfg.agent.expected_devices
    seen = sum(1 for d in scene.snap.devices if d.parent is None and d.sight is not Sight.LOST)
    if expected is not None and seen < expected:
        findings.append(
            Finding(
                rule="sight",
                key="sight count",
                severity=Severity.ERROR,
                summary=f"{seen} GPUs are here, {expected} are expected",
                used_bytes=None,
            )
        )
    return findings
