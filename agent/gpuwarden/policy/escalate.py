"""Who has to be woken: claims that stand and on which nothing is being done."""

from collections.abc import Set as AbstractSet

from gpuwarden.model.action import Kind
from gpuwarden.model.fault import Topic
from gpuwarden.model.finding import Finding, Scope, Severity
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import Rung
from gpuwarden.policy import guard
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.incidents import subject_of
from gpuwarden.policy.notify.topics import page_params, topic_of

PAGED_RULES = frozenset({"quota", "reserve", "sight", "unattributed", "fault"})
"""``locked`` and ``tombstone`` page by themselves; a red service and a short host alone are left to the
monitoring that measures them."""


ONE_DEVICE = frozenset({"sight", "fault"})
"""Rules that say of a device what another of them may have said: one page for all."""


def page(desk: Desk, findings: list[Finding]) -> dict[str, float]:
    """Order a page for every due claim; what has been paged, for memory."""
    now = desk.scene.snap.at
    standing = {_topic(f) for f in findings}
    again = desk.cfg.ladder.page_again_s
    paged = {
        key: at for key, at in desk.memory.paged.items() if key in standing or now - at < again
    }
    in_hand = {device for device, _ in desk.busy()}
    in_hand |= {c.device for c in desk.cases.values() if c.rung is Rung.STUCK}
    locked = {f.device for f in findings if f.rule == "locked"}  # the last resort tells of those
    known = _known(desk, findings, paged)
    told = {f.device for f in findings if _topic(f) in known and f.device is not None}
    resorted = {d for d in locked if d is not None and desk.device(d).last_resort != ""}
    told |= resorted
    # The driver itself has named what is wrong there: what is polled of it afterwards says the same.
    signed = {f.device for f in findings if f.rule == "fault" and f.key in known} - {None}
    for finding in findings:
        if _topic(finding) in known or not _is_due(desk, finding, in_hand):
            continue
        if finding.fault and finding.device is not None and finding.device in locked:
            if finding.device in resorted:  # told of, for as long as the fault stands
                paged[_topic(finding)] = now
            continue
        paged[_topic(finding)] = now
        known.add(_topic(finding))
        if finding.device in told and finding.rule in ONE_DEVICE:
            continue  # somebody has been told of this device already, in other words
        if finding.device in signed and finding.fault:
            continue
        if finding.device is not None:
            told.add(finding.device)
        desk.order(
            Kind.PAGE,
            desk.incident(subject_of(desk, finding), finding),
            finding.summary,
            device=finding.device,
            params=page_params(
                desk,
                finding.severity.name.lower(),
                finding.summary,
                finding.device,
                _of_fault(desk, finding),
            ),
        )
    return paged


def _of_fault(desk: Desk, finding: Finding) -> Topic | None:
    """The class of the fault that a finding of rule ``fault`` tells of."""
    fault = desk.memory.faults.get(finding.key.removeprefix("fault "))
    return None if finding.rule != "fault" or fault is None else topic_of(fault.root)


def _known(desk: Desk, findings: list[Finding], paged: dict[str, float]) -> set[str]:
    """What was paged for as long as it stands without a break; what came back, for a while."""
    now = desk.scene.snap.at
    since: dict[str, float] = {}
    for finding in findings:
        topic = _topic(finding)
        claimed = desk.memory.claims.get(finding.key, now)
        since[topic] = min(claimed, since.get(topic, now))
    known = set()
    for topic, claimed in since.items():
        at = paged.get(topic)
        if at is None:
            continue
        again = at + desk.cfg.ladder.page_again_s
        if claimed <= at or now < again:
            known.add(topic)
        if at < claimed and now < again:
            desk.wakes.append(again)
    return known


def _is_due(desk: Desk, finding: Finding, in_hand: AbstractSet[DeviceId]) -> bool:
    """``in_hand``: devices on which an eviction is under way, or has failed and paged itself."""
    if not _is_paged(desk, finding) or finding.severity < Severity.ERROR:
        return False
    if not finding.is_confirmed or finding.device in in_hand:
        return False
    if finding.fault and finding.tenant in desk.cases:
        return False  # its eviction pages when it does not succeed
    since = desk.memory.claims.get(finding.key, desk.scene.snap.at)
    due = since + desk.cfg.ladder.page_after_s
    if desk.scene.snap.at < due:
        desk.wakes.append(due)
        return False
    # A quota claim that the node merely observes is in status; it wakes nobody.
    return finding.rule != "quota" or guard.is_enforcing(desk.cfg, "quota")


def _topic(finding: Finding) -> str:
    """What is paged about once: a polled fault of the node shows on every device of it."""
    is_nodes = finding.scope is Scope.NODE and finding.device is not None
    return finding.fault if is_nodes and finding.rule != "fault" else finding.key


def _is_paged(desk: Desk, finding: Finding) -> bool:
    """Every fault of the hardware is; what the driver asks for, ``locked`` pages about."""
    if finding.rule == "recovery" and guard.is_on(desk.cfg, "locked"):
        return False
    return bool(finding.fault) or finding.rule in PAGED_RULES
