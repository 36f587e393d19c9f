"""Who has to be woken: claims that stand and on which nothing is being done."""

from collections.abc import Set as AbstractSet

from gpuwarden.model.action import Kind
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.ids import DeviceId
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
    in_hand = {device for device, _ in desk.busy()}
    in_hand |= {c.device for c in desk.cases.values() if c.rung is Rung.STUCK}
    for finding in findings:
        if finding.key in paged or not _is_due(desk, finding, in_hand):
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


def _is_due(desk: Desk, finding: Finding, in_hand: AbstractSet[DeviceId]) -> bool:
    """``in_hand``: devices on which an eviction is under way, or has failed and paged itself."""
    if finding.rule not in PAGED_RULES or finding.severity < Severity.ERROR:
        return False
    if not finding.is_confirmed or finding.device in in_hand:
        return False
    since = desk.memory.claims.get(finding.key, desk.scene.snap.at)
    due = since + desk.cfg.ladder.page_after_s
    if desk.scene.snap.at < due:
        desk.wakes.append(due)
        return False
    # A quota claim that the node merely observes is in status; it wakes nobody.
    return finding.rule != "quota" or guard.is_enforcing(desk.cfg, "quota")
