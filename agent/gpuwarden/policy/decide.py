"""One pure pass: from a snapshot and what is remembered to findings, actions and new memory."""

from collections.abc import Callable
from dataclasses import replace

from gpuwarden.config import Config
from gpuwarden.model.decision import Decision
from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import IN_FLIGHT, Memory
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.policy import (
    arrival,
    cadence,
    cordon,
    drain,
    escalate,
    evict,
    fold,
    guard,
    host,
    incidents,
    labels,
    lastresort,
    limits,
    locked,
    neighbour,
    obey,
    placement,
    pressure,
    prevent,
    probe,
    quota,
    reserve,
    restart,
    rollback,
    room,
    sight,
    slo,
    tombstone,
    unattributed,
    upkeep,
    verdict,
)
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.fault import remember as faults
from gpuwarden.policy.fault import rule as fault
from gpuwarden.policy.health import standing
from gpuwarden.policy.repair import advance as repair
from gpuwarden.policy.scene import Scene

Rule = Callable[[Config, Memory, Scene], list[Finding]]

RULES: tuple[tuple[str, Rule], ...] = (
    ("quota", quota.find),
    ("reserve", reserve.find),
    ("locked", locked.find),
    ("slo", slo.find),
    ("neighbour", neighbour.find),
    ("sight", sight.find),
    ("unattributed", unattributed.find),
    ("tombstone", tombstone.find),
    ("host", host.find),
    ("pressure", pressure.find),
    ("limits", limits.find),
    ("labels", labels.find),
    ("cordon", cordon.find),
    ("health", standing.find),
    ("arrival", arrival.find),
    ("placement", placement.find),
    ("probe", probe.find),
)
"""``health`` stands for the rules of ``policy.health``, each with a mode of its own."""

MAX_FINDINGS = 512
"""Of more findings in one pass the worst are judged (costs research: cap findings a pass)."""


def decide(cfg: Config, memory: Memory, snap: Snapshot) -> Decision:
    """Findings, actions, what was withheld, and what to remember. Same inputs, same decision."""
    watched = frozenset((e.tenant, e.device) for e in memory.episodes.values())
    scene = Scene.of(cfg, snap, watched)
    memory = fold.remember(cfg, memory, scene)
    findings = find_all(cfg, memory, scene)
    memory = faults.remember(cfg, memory, scene, findings)
    if memory.faults and guard.is_on(cfg, "fault"):
        findings += fault.find(memory, scene)
    desk = Desk.over(cfg, scene, memory)
    said = verdict.judge(desk, findings)
    evict.advance(desk, said)
    evict.open_cases(desk, said)
    room.restore_reserves(desk, findings)
    upkeep.hold_owners(desk, findings)
    arrival.turn_away(desk, [f for f in findings if _is_turned_away(cfg, scene, f)])
    lastresort.resort(desk, findings)
    answers = obey.obey(desk)
    drain.advance(desk)
    repair.advance(desk, findings)
    rollback.advance(desk)
    restart.heal(desk, findings)
    cordon.lift(desk)
    cordon.maintain(desk)
    paged = escalate.page(desk, findings)
    upkeep.settle(desk)
    prevent.prevent(desk, findings)
    incidents.record(desk, findings)
    memory = replace(desk.remembered(), claims=_claims(desk.memory, findings, snap.at), paged=paged)
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
        answers=answers,
    )


def _is_turned_away(cfg: Config, scene: Scene, finding: Finding) -> bool:
    return finding.rule == arrival.RULE or placement.is_refused(cfg, scene, finding)


def find_all(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """Every rule that is on, in order; bounded, so that no flood of small claims hides a great one."""
    findings: list[Finding] = []
    for name, rule in RULES:
        if guard.is_on(cfg, name):
            findings.extend(rule(cfg, memory, scene))
    if len(findings) > MAX_FINDINGS:
        findings.sort(key=lambda f: -f.severity)
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
