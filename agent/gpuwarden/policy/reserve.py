"""Rule reserve: less memory is free on a device than must be kept for its protected tenants."""

from gpuwarden.config import Config
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import Memory
from gpuwarden.policy.scene import Scene
from gpuwarden.policy.words import size


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """A breach counts where a protected tenant holds the device; a list taken since confirms it."""
    if cfg.reserve.bytes == 0 and cfg.reserve.ratio == 0:
        return []
    findings = []
    for device in scene.snap.devices:
        since = memory.devices[device.id].reserve_since if device.id in memory.devices else None
        free = scene.free_bytes(device)
        if since is None or free is None:
            continue
        protected = scene.protected_on(device.id)
        if not protected:
            continue
        reserve = scene.reserve_bytes(device)
        listed = any(use.listed_at > since for use in scene.uses_on(device.id))
        findings.append(
            Finding(
                rule="reserve",
                key=f"reserve {device.id}",
                severity=Severity.ERROR,
                summary=(
                    f"GPU {device.index} has {size(free)} free, "
                    f"{size(reserve)} are reserved for {protected[0].name}"
                ),
                device=device.id,
                is_confirmed=listed,
                used_bytes=free,
                limit_bytes=reserve,
                evidence=(("protected", ", ".join(t.name for t in protected[:8])),),
            )
        )
    return findings
