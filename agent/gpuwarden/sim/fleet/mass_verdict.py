"""What a mass false positive has come to, and what it had to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.policy.fleet.permits import allowance, budget_of
from gpuwarden.sim.fleet.crowd import REAL, SHARED, Member

PAGE_WITHIN_S = 60.0
KINDS = ("cordon", "reset-gpu", "reload-driver", "restart-services", "reboot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mass:
    """``within_s``: over so many real seconds the nodes report, spread evenly and shuffled."""

    nodes: int
    xid: int
    within_s: float
    devices: int = 2
    seed: int = 1
    cordoned_before: int = 3
    """By an operator's word before it begins; given back while it is on."""
    after_s: float = 15.0
    """How long the play goes on once the page is out."""


@dataclass(slots=True)
class Uncordon:
    """One order of an operator while the storm is on."""

    node: str
    at_s: float
    took_s: float = 0.0
    said: str = ""
    is_done: bool = False


@dataclass(slots=True)
class Story:
    """What has happened so far."""

    began_s: float = 0.0
    """Of the crowd's time: the first report."""
    reported: int = 0
    page_at_s: float | None = None
    frozen_at_s: float | None = None
    frozen: str = ""
    uncordons: list[Uncordon] = field(default_factory=list)


def verdict(
    members: Sequence[Member],
    mass: Mass,
    story: Story,
    told: Sequence[dict[str, Any]],
    failures: Sequence[str],
) -> dict[str, Any]:
    """What happened as plain data, and every bound that was ``missed``."""
    lines = [m.line for m in members]
    granted = Counter(kind for line in lines for kind in set(line.granted.values()))
    asked = Counter(kind for line in lines for kind in line.asked.values())
    refused = Counter(budget for line in lines for budget in line.refused.values())
    done: Counter[str] = Counter()
    for member in members[mass.cordoned_before :]:
        done.update(member.node.done())
    cfg = AggregatorConfig().permit
    budget = {
        kind: allowance(budget_of(cfg, kind).ratio, mass.nodes, budget_of(cfg, kind).most)
        for kind in KINDS
    }
    own_pages = sum(len(m.node.world.ledger.of("page")) for m in members)
    said = {
        "nodes": mass.nodes,
        "xid": mass.xid,
        "within_s": mass.within_s,
        "seconds": "real",
        "real": list(REAL),
        "shared": list(SHARED),
        "reported": story.reported,
        "asked_nodes": sum(1 for line in lines if line.asked),
        "asked": dict(asked),
        "granted": dict(granted),
        "budget": {kind: budget[kind] for kind in KINDS if kind in asked},
        "done": dict(done),
        "refused": dict(refused),
        "frozen": story.frozen,
        "frozen_after_s": _rounded(story.frozen_at_s),
        "pages": [
            {name: page[name] for name in ("reason", "severity", "summary", "key")} for page in told
        ],
        "page_after_s": _rounded(story.page_at_s),
        "pages_of_nodes": own_pages,
        "uncordons": [
            {"node": u.node, "at_s": u.at_s, "took_s": u.took_s, "done": u.is_done, "said": u.said}
            for u in story.uncordons
        ],
        "failures": list(failures),
    }
    return {**said, "missed": missed(said, budget, granted, done)}


def missed(
    said: Mapping[str, Any], budget: dict[str, int], granted: Counter[str], done: Counter[str]
) -> list[str]:
    """In words, each bound that was not held; empty: all were."""
    found = []
    if said["reported"] != said["nodes"] or said["asked_nodes"] != said["nodes"]:
        found.append(
            f"{said['reported']} of {said['nodes']} nodes reported, {said['asked_nodes']} asked"
        )
    for kind, count in granted.items():
        if count > budget[kind]:
            found.append(f"{count} nodes have leave for a {kind}, the budget is {budget[kind]}")
    found += [
        f"a {kind} was done on {count} nodes, {granted[kind]} had leave"
        for kind, count in done.items()
        if count > granted[kind]
    ]
    if not said["refused"]:
        found.append("nobody was refused")
    if len(said["pages"]) != 1:
        found.append(f"{len(said['pages'])} pages instead of one")
    if said["page_after_s"] is None or said["page_after_s"] > PAGE_WITHIN_S:
        found.append(f"nobody was paged within {PAGE_WITHIN_S:g} s")
    found += [
        f"{u['node']} was not given back: {u['said']}" for u in said["uncordons"] if not u["done"]
    ]
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
