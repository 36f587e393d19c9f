"""Rule pressure: a tenant with a host-memory quota stalls on it (PSI), before the OOM killer is near."""

from gpuwarden.config import Config
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import Memory
from gpuwarden.policy.scene import Scene


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """PSI full of the tenant's own group above ``host.memory_full_max_percent``; confirmed once it has
    lasted ``host.pressure_hold_s``. Enforcement research, scenario 25."""
    findings = []
    for tenant in scene.snap.tenants:
        full = tenant.memory_full_avg10
        if full is None or tenant.host.memory_bytes is None:
            continue
        if full <= cfg.host.memory_full_max_percent:
            continue
        uses = scene.uses_of(tenant.id)
        if not uses:
            continue
        key = f"pressure {tenant.id}"
        since = memory.claims.get(key)
        held = since is not None and scene.snap.at - since >= cfg.host.pressure_hold_s
        findings.append(
            Finding(
                rule="pressure",
                key=key,
                severity=Severity.WARNING,
                summary=f"{tenant.name} stalls on its host memory {full:.0f} % of the time",
                tenant=tenant.id,
                device=uses[0].device,
                is_confirmed=held,
                used_bytes=uses[0].used_bytes,
                limit_bytes=tenant.hard_bytes,
                evidence=(
                    ("memory_full_avg10", f"{full:.1f}"),
                    ("host_memory_bytes", str(tenant.host.memory_bytes)),
                ),
            )
        )
    return findings
