"""Rule host: the host itself runs short of memory, CPU or disk."""

from gpuwarden.config import Config
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import Memory
from gpuwarden.policy.scene import Scene
from gpuwarden.policy.words import size


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """Claims are raised at once and reported once they have lasted ``host.hold_s`` (``claims``)."""
    host = scene.snap.host
    if host is None:
        return []
    limits = cfg.host
    claims: list[tuple[str, str, Severity]] = []
    available, total = host.memory_available_bytes, host.memory_total_bytes
    if available is not None and total and available < limits.memory_available_min_ratio * total:
        claims.append(
            (
                "memory",
                f"only {size(available)} of host memory are available",
                Severity.ERROR,
            )
        )
    full = host.memory_full_avg10
    if full is not None and full > limits.memory_full_max_percent:
        claims.append(
            (
                "memory-pressure",
                f"all tasks stall on memory {full:.0f} % of the time",
                Severity.ERROR,
            )
        )
    if host.cpu_ratio is not None and host.cpu_ratio > limits.cpu_max_ratio:
        claims.append(("cpu", f"the host's CPUs are {host.cpu_ratio:.0%} busy", Severity.WARNING))
    disk = host.filesystem_free_ratio
    if disk is not None and disk < limits.filesystem_free_min_ratio:
        claims.append(("disk", f"{disk:.1%} of the state disk are free", Severity.ERROR))
    findings = []
    for what, text, severity in claims:
        key = f"host {what}"
        since = memory.claims.get(key)
        held = since is not None and scene.snap.at - since >= limits.hold_s
        findings.append(
            Finding(rule="host", key=key, severity=severity, summary=text, is_confirmed=held)
        )
    return findings
