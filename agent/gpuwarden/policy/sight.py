"""Rule sight: a device, or the whole driver, cannot be seen. Blind is never healthy."""

from gpuwarden.config import Config
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import Memory
from gpuwarden.policy.scene import Scene

LISTS_LATE = 5
"""So many regular lists missed in a row are no hiccup: nobody on the device is guarded."""


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """One finding a device that is blind or lost, or whose processes cannot be listed; one for a count
    unlike the expected one."""
    findings = []
    for device in scene.snap.devices:
        if device.sight is Sight.OK and not _is_unlisted(cfg, memory, scene, device):
            continue
        reasons = [g.detail for g in scene.snap.gaps if g.subject == device.id and g.detail]
        lost = device.sight is Sight.LOST
        what = "is gone from the driver" if lost else "cannot be seen"
        if device.sight is Sight.OK:
            what = "is not guarded: who uses it is not known"
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


def _is_unlisted(cfg: Config, memory: Memory, scene: Scene, device: Device) -> bool:
    """Whether its lists have failed to come for long. A GPU in MIG mode has none of its own."""
    state = memory.devices.get(device.id)
    if device.is_mig_parent or state is None:
        return False
    since = state.sight_since if device.listed_at is None else device.listed_at
    return scene.snap.at - max(since, state.sight_since) > LISTS_LATE * cfg.sampling.list_every_s
