"""Rule sight: a device, or the whole driver, cannot be seen. Blind is never healthy."""

from gpuwarden.config import Config
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import Memory
from gpuwarden.model.repair import Phase, Step
from gpuwarden.policy.scene import Scene

LET_GO_FOR = frozenset({Step.RESET_GPU, Step.RELOAD_DRIVER})
"""Steps for which the agent lets go of every device."""
LISTS_LATE = 5
"""So many regular lists missed in a row are no hiccup: nobody on the device is guarded."""


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """One finding a device that is blind or lost, or whose processes cannot be listed."""
    findings: list[Finding] = []
    if is_let_go(memory):
        return findings  # the agent has closed its own eyes, and the repair says so
    is_opening = _is_opening(memory, scene.snap.at)
    for device in scene.snap.devices:
        if is_opening and device.sight is Sight.BLIND:
            continue
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
    return findings


def is_let_go(memory: Memory) -> bool:
    """Whether a step is under way for which the agent lets go of every device."""
    return any(r.phase is Phase.ACTING and r.step in LET_GO_FOR for r in memory.repairs.values())


OPENS_WITHIN_S = 10.0
"""How long after such a step the agent may take to see again: its child starts anew. The repair itself waits
for that."""


def _is_opening(memory: Memory, now: float) -> bool:
    """Whether such a step has just been done, and the first look after it is still to come."""
    return any(
        r.phase is Phase.VERIFYING and r.step in LET_GO_FOR and now - r.since <= OPENS_WITHIN_S
        for r in memory.repairs.values()
    )


def _is_unlisted(cfg: Config, memory: Memory, scene: Scene, device: Device) -> bool:
    """Whether its lists have failed to come for long. A GPU in MIG mode has none of its own."""
    state = memory.devices.get(device.id)
    if device.is_mig_parent or state is None:
        return False
    since = state.sight_since if device.listed_at is None else device.listed_at
    return scene.snap.at - max(since, state.sight_since) > LISTS_LATE * cfg.sampling.list_every_s
