"""Who has to be woken: claims that stand and on which nothing is being done."""

from gpuwarden.model.action import Kind
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import Rung
from gpuwarden.policy import guard
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.incidents import subject_of

PAGED_RULES = frozenset({"quota", "reserve", "sight", "unattributed"})
"""``locked`` and ``tombstone`` page by themselves; a red service and a short host alone are left to the
monitoring that measures them."""


def page(desk: Desk, findings: list[Finding]) -> dict[str, float]:
    """Order a page for every due claim; what has been paged, for memory."""
    now = desk.scene.snap.at
    standing = {f.key for f in findings}
    again = desk.cfg.ladder.page_again_s
    paged = {
        key: at for key, at in desk.memory.paged.items() if key in standing or now - at < again
    }
    for finding in findings:
        if finding.key in paged or not _is_due(desk, finding):
            continue
        paged[finding.key] = now
        desk.order(
            Kind.PAGE,
            desk.incident(subject_of(desk, finding), finding),
            finding.summary,
            device=finding.device,
            params=(("severity", finding.severity.name.lower()), ("summary", finding.summary)),
        )
    return paged


def _is_due(desk: Desk, finding: Finding) -> bool:
    if finding.rule not in PAGED_RULES or finding.severity < Severity.ERROR:
        return False
    if not finding.is_confirmed:
        return False
    since = desk.memory.claims.get(finding.key)
    if since is None or desk.scene.snap.at - since < desk.cfg.ladder.page_after_s:
        desk.wakes.append(desk.scene.snap.at + desk.cfg.ladder.page_after_s)
        return False
    return not _is_in_hand(desk, finding)


def _is_in_hand(desk: Desk, finding: Finding) -> bool:
    """Whether an eviction is under way that answers the claim, or has failed and paged itself."""
    if finding.device is not None and any(d == finding.device for d, _ in desk.busy()):
        return True
    if any(c.rung is Rung.STUCK and c.device == finding.device for c in desk.cases.values()):
        return True
    # A quota claim that the node merely observes is in status; it wakes nobody.
    return finding.rule == "quota" and not guard.is_enforcing(desk.cfg, "quota")
