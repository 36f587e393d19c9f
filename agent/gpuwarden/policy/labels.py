"""Rule labels: a tenant's labels claim what the operator's policy does not give, or cannot be
read.
"""

from gpuwarden.config import Config
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import Memory
from gpuwarden.policy.scene import Scene


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """One finding a tenant with refused claims; the claims themselves have no effect."""
    return [
        Finding(
            rule="labels",
            key=f"labels {tenant.id}",
            severity=Severity.WARNING,
            summary=f"{tenant.name}: {'; '.join(tenant.policy_faults[:4])}",
            tenant=tenant.id,
        )
        for tenant in scene.snap.tenants
        if tenant.policy_faults
    ]
