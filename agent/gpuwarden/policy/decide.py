"""One pure pass: from a snapshot and what is remembered to findings, actions and new memory."""

from collections.abc import Callable
from dataclasses import replace

from gpuwarden.config import Config
from gpuwarden.model.decision import Decision, NoteKind
from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import IN_FLIGHT, Memory
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.policy import (
    cadence,
    evict,
    fold,
    guard,
    host,
    labels,
    lastresort,
    limits,
    locked,
    quota,
    reserve,
    sight,
    slo,
    tombstone,
    unattributed,
    upkeep,
)
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.scene import Scene

Rule = Callable[[Config, Memory, Scene], list[Finding]]

RULES: tuple[tuple[str, Rule], ...] = (
    ("quota", quota.find),
    ("reserve", reserve.find),
    ("locked", locked.find),
    ("slo", slo.find),
    ("sight", sight.find),
    ("unattributed", unattributed.find),
    ("tombstone", tombstone.find),
    ("host", host.find),
    ("limits", limits.find),
    ("labels", labels.find),
)

QUIET_RULES = frozenset({"labels", "limits"})
"""Rules whose findings stand in status but open no incident of their own."""
MAX_FINDINGS = 512
"""Findings of one pass beyond this are counted, not judged (costs research: cap findings a
pass).
"""


def decide(cfg: Config, memory: Memory, snap: Snapshot) -> Decision:
    """Findings, actions, what was withheld, and what to remember. Same inputs, same decision."""
    watched = frozenset((e.tenant, e.device) for e in memory.episodes.values())
    scene = Scene.of(cfg, snap, watched)
    memory = fold.remember(cfg, memory, scene)
    findings = find_all(cfg, memory, scene)
    desk = Desk.over(cfg, scene, memory)
    said = evict.judge(desk, findings)
    evict.advance(desk, said)
    evict.open_cases(desk, said)
    evict.restore_reserves(desk, findings)
    upkeep.hold_owners(desk, findings)
    lastresort.resort(desk, findings)
    upkeep.settle(desk)
    upkeep.prevent(desk)
    _record(desk, findings)
    memory = replace(desk.remembered(), claims=_claims(desk.memory, findings, snap.at))
    stale = [w.device for w in desk.withheld if w.budget == "stale" and w.device is not None]
    stale += _waiting(desk)
    return Decision(
        memory=memory,
        findings=tuple(findings),
        actions=tuple(desk.actions),
        withheld=tuple(desk.withheld),
        plan=cadence.plan(cfg, memory, scene, findings, stale),
        incidents=tuple(desk.notes),
        wake_at=min(desk.wakes) if desk.wakes else None,
    )


def find_all(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """Every rule that is on, in order, bounded."""
    findings: list[Finding] = []
    for name, rule in RULES:
        if guard.is_on(cfg, name):
            findings.extend(rule(cfg, memory, scene))
    return findings[:MAX_FINDINGS]


def _claims(memory: Memory, findings: list[Finding], now: float) -> dict[str, float]:
    return {f.key: memory.claims.get(f.key, now) for f in findings}


def _waiting(desk: Desk) -> list[DeviceId]:
    """Devices on which a convicted tenant waits only for a fresh size."""
    return [
        case.device
        for case in desk.cases.values()
        if case.rung not in IN_FLIGHT and any(w.endswith("/stale") for w in case.withheld)
    ]


def _record(desk: Desk, findings: list[Finding]) -> None:
    """Join each claim to its incident: the offender's where one stands accused on the device."""
    confirmed = set()
    for finding in findings:
        if finding.rule in QUIET_RULES:
            continue
        if finding.is_confirmed:
            confirmed.add(finding.key)
        is_new = finding.key not in desk.memory.claims
        newly_sure = finding.is_confirmed and finding.key not in desk.memory.confirmed
        if finding.rule == "host" and not finding.is_confirmed:
            continue
        if not (is_new or newly_sure):
            continue
        subject = _subject(desk, finding)
        opened = subject not in desk.incidents or any(
            n.kind is NoteKind.OPENED and n.text == finding.summary for n in desk.notes
        )
        incident = desk.incident(subject, finding)
        if is_new and not opened:
            desk.note(incident, NoteKind.EVIDENCE, finding.summary, finding)
        if newly_sure:
            desk.note(incident, NoteKind.DECIDED, f"confirmed: {finding.summary}", finding)
    desk.memory = replace(desk.memory, confirmed=frozenset(confirmed))
    _close_incidents(desk, findings)


def _subject(desk: Desk, finding: Finding) -> str:
    """Whose incident a finding belongs to."""
    if finding.rule in ("quota", "tombstone") and finding.tenant is not None:
        return f"tenant/{finding.tenant}"
    devices: list[DeviceId] = []
    if finding.device is not None:
        devices = [finding.device]
    elif finding.rule == "slo" and finding.tenant is not None:
        devices = [u.device for u in desk.scene.uses_of(finding.tenant)]
    accused = [c for c in desk.cases.values() if c.device in devices]
    if accused and finding.rule in (
        "reserve",
        "locked",
        "slo",
        "sight",
        "unattributed",
    ):
        first = min(accused, key=lambda c: (c.rung not in IN_FLIGHT, c.opened_at))
        return f"tenant/{first.tenant}"
    if finding.device is not None:
        return f"device/{finding.device}"
    if finding.service is not None:
        return f"service/{finding.service}"
    return f"node/{finding.key}"


def _close_incidents(desk: Desk, findings: list[Finding]) -> None:
    """An incident is over when no case and no claim stands in it any more."""
    standing = {_subject(desk, f) for f in findings if f.rule not in QUIET_RULES}
    for subject, incident in list(desk.incidents.items()):
        kind, _, key = subject.partition("/")
        if subject in standing:
            continue
        if kind == "tenant" and any(str(t) == key for t in desk.cases):
            continue
        desk.note(incident, NoteKind.CLOSED, "closed: nothing of it stands any more")
        del desk.incidents[subject]
