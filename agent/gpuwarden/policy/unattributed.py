"""Rule unattributed: a device holds bytes that no listed process accounts for (managed memory,
leaks).

Never a conviction: with a single candidate it is suspected (warned), with several it is reported.
"""

from gpuwarden.config import Config
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import Memory
from gpuwarden.policy.scene import Scene
from gpuwarden.policy.words import size


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """Unattributed bytes above their floor by the margin, for ``unattributed_hold_s``."""
    findings = []
    for device_id, held in scene.snap.unattributed:
        state = memory.devices.get(device_id)
        device = scene.devices.get(device_id)
        if state is None or device is None or state.unattributed_since is None:
            continue
        if scene.snap.at - state.unattributed_since < cfg.quota.unattributed_hold_s:
            continue
        grown = held - (state.unattributed_floor_bytes or 0)
        active = [u.tenant for u in scene.uses_on(device_id) if u.tenant in scene.tenants]
        suspect = active[0] if len(set(active)) == 1 else None
        names = ", ".join(scene.tenants[t].name for t in dict.fromkeys(active)) or "nobody"
        who = (
            f"{names} is the only tenant there"
            if suspect is not None
            else f"candidates: {names}; too many to act on one"
        )
        findings.append(
            Finding(
                rule="unattributed",
                key=f"unattributed {device_id}",
                severity=Severity.WARNING if suspect is not None else Severity.ERROR,
                summary=f"GPU {device.index}: {size(grown)} belong to no listed process; {who}",
                tenant=suspect,
                device=device_id,
                used_bytes=grown,
                evidence=(
                    ("unattributed_bytes", str(held)),
                    ("floor_bytes", str(state.unattributed_floor_bytes or 0)),
                    ("candidates", names),
                ),
            )
        )
    return findings
