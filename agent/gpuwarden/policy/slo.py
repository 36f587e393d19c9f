"""Rule slo: a protected service misses its objective. Alone it convicts nobody."""

from gpuwarden.config import Config
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import Memory
from gpuwarden.model.snapshot import Health
from gpuwarden.policy import suspects
from gpuwarden.policy.scene import Scene


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """One finding a red service; unknown is neither red nor green."""
    findings = []
    for state in scene.snap.services:
        if state.health is not Health.RED:
            continue
        p99 = (
            "no request finishes" if state.p99_s is None else f"p99 is {state.p99_s * 1000:.0f} ms"
        )
        limit = "" if state.limit_s is None else f", the limit is {state.limit_s * 1000:.0f} ms"
        findings.append(
            Finding(
                rule="slo",
                key=f"slo {state.service}",
                severity=Severity.ERROR,
                summary=f"service {state.service} is red: {p99}{limit}",
                tenant=state.tenant,
                service=state.service,
                evidence=suspects.told(cfg, memory, scene, state),
            )
        )
    return findings
