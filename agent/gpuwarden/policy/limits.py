"""Rule limits: the preventive limiter does not hold what it was told (the reactive engine
audits it).
"""

from gpuwarden.config import Config
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import Memory
from gpuwarden.policy.scene import Scene
from gpuwarden.policy.words import size


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """A limit that reads back otherwise than the quota, or use above a limit said to be in
    force.
    """
    findings = []
    for reading in scene.snap.limits:
        tenant = scene.tenants.get(reading.tenant)
        if tenant is None or tenant.hard_bytes is None:
            continue
        device = scene.devices.get(reading.device)
        where = f"GPU {device.index}" if device is not None else reading.device
        if reading.hard_bytes != tenant.hard_bytes:
            have = "no limit" if reading.hard_bytes is None else size(reading.hard_bytes)
            text = (
                f"{reading.backend} shows {have} for {tenant.name} on {where}, "
                f"its quota is {size(tenant.hard_bytes)}: success without effect"
            )
        elif reading.used_bytes is not None and reading.used_bytes > tenant.hard_bytes:
            text = (
                f"{tenant.name} holds {size(reading.used_bytes)} on {where} although "
                f"{reading.backend} says {size(tenant.hard_bytes)} is enforced"
            )
        else:
            continue
        findings.append(
            Finding(
                rule="limits",
                key=f"limits {reading.tenant} {reading.device}",
                severity=Severity.WARNING,
                summary=text,
                tenant=reading.tenant,
                device=reading.device,
                limit_bytes=tenant.hard_bytes,
                used_bytes=reading.used_bytes,
            )
        )
    return findings
