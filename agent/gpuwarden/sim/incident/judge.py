"""From evidence to measures: who was harmed, how it ended, how long each step took. Pure."""

from __future__ import annotations

from typing import Any

from gpuwarden.sim.incident.cast import GIB, Role, Trigger
from gpuwarden.sim.incident.ledger import Course, course
from gpuwarden.sim.incident.scene import Evidence
from gpuwarden.sim.incident.verdict import Bounds, Measures, bounds_for, missed

DEVICE = 0


def judge(evidence: Evidence) -> tuple[Measures, Bounds]:
    """The run's measures and what was promised for it."""
    variant = evidence.cast.variant
    bounds = bounds_for(variant, real_containers=evidence.has_containers)
    mine = offence(evidence)
    start = onset(evidence, mine)
    ended = _ended(evidence, mine)
    if start is None:
        return Measures(real_containers=evidence.has_containers, was_locked_up=False), bounds

    def since(at: float | None) -> float | None:
        return None if at is None else round(at - start, 4)

    return (
        Measures(
            noticed_s=since(_first(evidence.noticed_at, evidence.decided_at, evidence.cause_at)),
            decided_s=since(_first(evidence.decided_at, evidence.cause_at)),
            bytes_back_s=since(mine.empty_at),
            slo_back_s=_slo_back(evidence, start),
            cause_written_s=since(evidence.cause_at),
            wrong_victims=len(victims(evidence, ended)),
            real_containers=evidence.has_containers,
            ended=ended,
            was_locked_up=lock_up_s(evidence, start) is not None or is_by_slo(evidence),
            has_come_back=mine.was_empty
            and (evidence.fate.is_running or evidence.fate.restarts > 0),
        ),
        bounds,
    )


def _first(*seen: float | None) -> float | None:
    """When something could first be seen from outside: on the wire, or in the journal with its cause."""
    return min((at for at in seen if at is not None), default=None)


def is_by_slo(evidence: Evidence) -> bool:
    """Whether only the service's latency could tell."""
    return evidence.cast.variant.trigger is Trigger.SLO


def onset(evidence: Evidence, mine: Course) -> float | None:
    """What the times are counted from: the first byte over quota, or the agent's own verdict on the service."""
    return evidence.red_at if is_by_slo(evidence) else mine.over_at


def rollbacks(evidence: Evidence) -> int:
    """How often a version was rolled back: never, where a neighbour is the cause."""
    return sum("roll" in s.kind for i in evidence.incidents for s in i.steps)


def offence(evidence: Evidence) -> Course:
    """What the offender did, by the driver's log."""
    return course(evidence.changes, evidence.offender.pids, DEVICE, evidence.cast.onset_bytes)


def lock_up_s(evidence: Evidence, start: float) -> float | None:
    """When, after the first byte over quota, the device locked up."""
    times = [at for at, number in evidence.xids if number == evidence.cast.xid and at >= start]
    return round(min(times) - start, 4) if times else None


def _slo_back(evidence: Evidence, start: float) -> float | None:
    """End of the last time the objective was missed since then; 0 when it never was."""
    ends = [end for _, end in evidence.spans if end is None or end >= start]
    if any(end is None for end in ends):
        return None
    return round(max((end for end in ends if end is not None), default=start) - start, 4)


def victims(evidence: Evidence, ended: str) -> dict[str, tuple[str, ...]]:
    """Who else was touched or accused, and how. Protected ones that the operator let the agent move
    off a dead device, and that run again, are none."""
    moved = evidence.moved if ended == "relocated" else {}
    found = {name: list(marks) for name, marks in evidence.marks.items() if marks}
    for name in moved:
        found.pop(name, None)
    for name, why in evidence.blamed.items():
        found.setdefault(name, []).append(f"the agent accused it: {why}")
    return {name: tuple(marks) for name, marks in found.items()}


def _ended(evidence: Evidence, mine: Course) -> str:
    if mine.empty_at is None or mine.last_bytes:
        return "unresolved"
    is_cordoned = any(s.kind == "cordon" for i in evidence.incidents for s in i.steps)
    is_locked = bool(evidence.device["locked_up"])
    if not is_locked:
        return "cordoned" if is_cordoned or evidence.moved else "evicted"
    service = evidence.cast.of(Role.SERVICE).name
    is_well = bool(evidence.spans) and evidence.spans[-1][1] is not None
    if evidence.moved.get(service, DEVICE) != DEVICE and is_well:
        return "relocated"
    names_the_reset = any("gpu-reset" in str(p.get("summary", "")) for p in evidence.pages)
    if names_the_reset and is_cordoned and not evidence.marks.get(service):
        return "cordoned"
    return "unresolved"


def _verdict_s(evidence: Evidence) -> float | None:
    """From the first missed objective, as callers see it, to the agent's word."""
    red_at = evidence.red_at
    if red_at is None:
        return None
    begun = [
        start for start, end in evidence.spans if start <= red_at and (end or red_at) >= red_at
    ]
    return round(red_at - begun[-1], 4) if begun else None


def _unexplained(evidence: Evidence) -> list[str]:
    """Where only the latency tells, the neighbour has to be named, and no version blamed."""
    if not is_by_slo(evidence):
        return []
    found = []
    name = evidence.offender.member.name
    if name not in evidence.verdict:
        found.append(f"verdict: {evidence.verdict or 'none'}, expected {name} named")
    if rollbacks(evidence):
        found.append(f"rollbacks: {rollbacks(evidence)}, the bound is 0")
    if evidence.xids:
        found.append("an Xid was told: the latency was not all there was to go by")
    return found


def as_json(evidence: Evidence) -> dict[str, Any]:
    """One run as plain data."""
    measures, bounds = judge(evidence)
    mine = offence(evidence)
    offender = evidence.offender.member
    return {
        "seed": evidence.cast.seed,
        "noticed_s": measures.noticed_s,
        "decided_s": measures.decided_s,
        "bytes_back_s": measures.bytes_back_s,
        "slo_back_s": measures.slo_back_s,
        "cause_written_s": measures.cause_written_s,
        "wrong_victims": measures.wrong_victims,
        "real_containers": measures.real_containers,
        "ended": measures.ended,
        "bounds": {
            "noticed_s": bounds.noticed_s,
            "decided_s": bounds.decided_s,
            "bytes_back_s": bounds.bytes_back_s,
            "slo_back_s": bounds.slo_back_s,
            "cause_written_s": bounds.cause_written_s,
            "wrong_victims": bounds.wrong_victims,
            "ended": bounds.ended,
        },
        "missed": [*missed(measures, bounds), *_unexplained(evidence)],
        "trigger": evidence.cast.variant.trigger.value,
        "verdict": evidence.verdict,
        "verdict_s": _verdict_s(evidence),
        "rollbacks": rollbacks(evidence),
        "victims": {name: list(marks) for name, marks in victims(evidence, measures.ended).items()},
        "locked_up_s": lock_up_s(evidence, mine.over_at) if mine.over_at is not None else None,
        "xid": evidence.cast.xid,
        "offender": {
            "name": offender.name,
            "quota_bytes": offender.quota_bytes,
            "peak_bytes": mine.peak_bytes,
            "rate_gib_s": round(evidence.cast.rate_bytes_s / GIB, 2),
            "restart": offender.restart,
            "exit_status": evidence.fate.exit_status,
        },
        "cause": evidence.cause,
        "pages": [str(page.get("summary", "")) for page in evidence.pages],
        "moved_to": evidence.moved,
        "incidents": [
            {"id": i.id, "rule": i.rule, "summary": i.summary, "outcome": i.outcome}
            for i in evidence.incidents
        ],
    }
