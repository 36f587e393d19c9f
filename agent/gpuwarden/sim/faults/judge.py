"""From evidence to the outcome of a play, and what of it was not as it has to be. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpuwarden.sim.faults.play import Play
from gpuwarden.sim.faults.scheduler import Told
from gpuwarden.wire.v1 import node_pb2 as pb

REACH = ("info", "app", "link", "gpu", "node")
PEOPLE = "hand-over"
SIDE_CLASSES = frozenset({"advisory"})
"""Polled faults that say what another fault says already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a play left behind, before it is judged."""

    play: Play
    has_containers: bool
    seconds: float
    faults: tuple[pb.Fault, ...]
    phases: tuple[str, ...]
    calls: tuple[str, ...]
    """Remedies that were called on the host."""
    told: Told
    """What the scheduler was told of cordons."""
    pages: tuple[dict[str, Any], ...]
    incidents: tuple[pb.Incident, ...]
    is_over: bool
    """Whether the agent held in the end that nothing is left."""
    device: dict[str, Any]
    """The driver's word on the sick device in the end."""
    was_healed: bool
    """Whether people have done their part."""
    marks: dict[str, tuple[str, ...]]
    """Who was to be left alone -> traces of hands laid on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a play came to."""

    scope: str
    rungs: tuple[str, ...]
    verified: bool
    cordoned: bool
    pages: int
    wrong_victims: int


def judge(evidence: Evidence) -> Outcome:
    """Faults and phases by the agent's stream; rungs, cordons, pages and victims by others than the agent."""
    return Outcome(
        scope=_scope(evidence),
        rungs=_rungs(evidence),
        verified=_is_verified(evidence),
        cordoned=evidence.told.has_cordoned,
        pages=len(evidence.pages),
        wrong_victims=sum(1 for marks in evidence.marks.values() if marks),
    )


def _scope(evidence: Evidence) -> str:
    """Of the fault that reaches furthest: what was said goes before what is polled."""
    said = [f for f in evidence.faults if not f.root.is_condition]
    polled = [f for f in evidence.faults if f.root.fault_class not in SIDE_CLASSES]
    scopes = [f.root.scope for f in said or polled if f.root.scope in REACH]
    return max(scopes, key=REACH.index, default="")


def _rungs(evidence: Evidence) -> tuple[str, ...]:
    handed = (PEOPLE,) if "handed-over" in evidence.phases else ()
    return (*evidence.calls, *handed)


def _is_verified(evidence: Evidence) -> bool:
    """Something was done about it, by the agent or by people; the agent has watched the device since, and
    so says its driver."""
    device = evidence.device
    is_sound = not (device["lost"] or device["locked_up"] or device["recovery_action"])
    was_done = bool(evidence.calls) or evidence.was_healed
    has_watched = "probation" in evidence.phases or not evidence.phases
    return evidence.is_over and is_sound and was_done and has_watched


def missed(evidence: Evidence, outcome: Outcome) -> tuple[str, ...]:
    """Every difference from what the play has to come to, in words; empty: none."""
    play = evidence.play
    wanted = {
        "scope": play.scope,
        "rungs": play.rungs,
        "verified": play.verified,
        "cordoned": play.cordoned,
        "pages": play.pages,
        "wrong_victims": 0,
    }
    found = [
        f"{name}: {_shown(got)}, expected {_shown(value)}"
        for name, value in wanted.items()
        if (got := getattr(outcome, name)) != value
    ]
    if evidence.told.standing:
        found.append(f"a cordon stands: {', '.join(sorted(evidence.told.standing))}")
    if not evidence.is_over:
        found.append(f"not over within {play.within_s:g} s: {_left(evidence)}")
    return tuple(found)


def _shown(value: object) -> str:
    return (", ".join(value) or "none") if isinstance(value, tuple) else str(value).lower()


def _left(evidence: Evidence) -> str:
    still = [i.id for i in evidence.incidents if not i.HasField("closed_at")]
    if not evidence.incidents:
        return "nothing was noticed"
    return (
        f"open: {', '.join(still) or 'no incident'}; repair: {', '.join(evidence.phases) or 'none'}"
    )


def as_json(evidence: Evidence) -> dict[str, Any]:
    """One play as plain data."""
    outcome = judge(evidence)
    return {
        "fault": evidence.play.name,
        "scope": outcome.scope,
        "rungs": list(outcome.rungs),
        "verified": outcome.verified,
        "cordoned": outcome.cordoned,
        "pages": outcome.pages,
        "wrong_victims": outcome.wrong_victims,
        "real_containers": evidence.has_containers,
        "seconds": round(evidence.seconds, 1),
        "missed": list(missed(evidence, outcome)),
        "victims": {name: list(marks) for name, marks in evidence.marks.items() if marks},
        "said": [str(page.get("summary", "")) for page in evidence.pages],
        "incidents": [
            {"id": i.id, "rule": i.rule, "summary": i.summary, "outcome": i.outcome}
            for i in evidence.incidents
        ],
    }
