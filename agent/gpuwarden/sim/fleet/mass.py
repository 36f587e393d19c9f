"""The mass false positive: every node's driver says the same within a minute, and none of them may be believed.

Each node asks for leave as its agent would; the fleet gives no more than its budget, people hear of it once, and
an operator's uncordon is carried out all the while.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import random
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuwarden.adapters.fleet_client import FleetClient
from gpuwarden.clock import Clock
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.errors import GpuwardenError, Unavailable
from gpuwarden.policy.fleet.permits import allowance, budget_of, purse
from gpuwarden.sim.fleet.centre import SimCentre
from gpuwarden.sim.fleet.crowd import REAL, SHARED, Crowd, Member

CONNECT_S = 120.0
PACE_S = 0.01
CORDONED_BEFORE = 3
QUIET_EVERY_S, SICK_EVERY_S = 10.0, 2.0
PAGE_WITHIN_S = 60.0
AFTER_S = 15.0
"""How long the play goes on once the page is out: nothing more may be granted then."""
ORDER_S = 20.0
POLL_S = 0.2
KINDS = ("cordon", "reset-gpu", "reload-driver", "restart-services", "reboot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mass:
    """``within_s``: over so many real seconds the nodes report, spread evenly and shuffled."""

    nodes: int
    xid: int
    within_s: float
    devices: int = 2
    seed: int = 1


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


def settings(pages: Path) -> str:
    """What the aggregator needs to hand its pages to a file."""
    tee = shutil.which("tee")
    if tee is None:
        raise Unavailable("tee is not installed: nothing could take the page")
    command = json.dumps([tee, "-a", str(pages)])
    return f'[[oncall.exec]]\nname = "play"\ncommand = {command}\n'


async def run_mass(centre: SimCentre, clock: Clock, mass: Mass, pages: Path) -> dict[str, Any]:
    """Plain data; ``missed`` names every bound that was."""
    crowd = Crowd(
        centre, clock, mass.nodes, devices=mass.devices, sample_every_s=1.0, batch_samples=1
    )
    story = Story()
    try:
        await crowd.connect(PACE_S, CONNECT_S)
        life = asyncio.create_task(_live(crowd, mass, story))
        try:
            await _operate(centre, crowd, mass, story, pages, life)
        finally:
            life.cancel()
        if life.done() and not life.cancelled() and (error := life.exception()):
            raise error
        return _result(crowd, mass, story, _told(pages))
    finally:
        await crowd.close()


async def _live(crowd: Crowd, mass: Mass, story: Story) -> None:
    """Every node in its time: at rest until its driver speaks, then tick by tick."""
    order = list(range(mass.nodes))
    random.Random(mass.seed).shuffle(order)
    while story.began_s == 0.0:  # until the operator's first orders are carried out
        await _all_look(crowd)
        await asyncio.sleep(POLL_S)
    onset = {
        number: story.began_s + mass.within_s * place / mass.nodes
        for place, number in enumerate(order)
    }
    queue = [(onset[number], number) for number in order]
    heapq.heapify(queue)
    quiet_at = {number: crowd.elapsed() for number in order}
    sick: set[int] = set()
    while True:
        due, number = queue[0]
        now = crowd.elapsed()
        if due > now:
            _rest(crowd, quiet_at, sick, now)
            await asyncio.sleep(min(due - now, POLL_S))
            continue
        member = crowd.members[number]
        member.node.rest_to(now)
        if number not in sick:
            sick.add(number)
            story.reported += 1
            member.node.report_xid(mass.xid)
        member.line.look(member.node.run_to(now + 0.5))
        heapq.heapreplace(queue, (now + SICK_EVERY_S, number))
        await asyncio.sleep(0)


async def _all_look(crowd: Crowd) -> None:
    for place, member in enumerate(crowd.members):
        member.line.look(member.node.rest_to(crowd.elapsed()))
        if place % 20 == 0:
            await asyncio.sleep(0)


def _rest(crowd: Crowd, quiet_at: dict[int, float], sick: set[int], now: float) -> None:
    for number, at in quiet_at.items():
        if number not in sick and now - at >= QUIET_EVERY_S:
            quiet_at[number] = now
            member = crowd.members[number]
            member.line.look(member.node.rest_to(now))


async def _operate(
    centre: SimCentre,
    crowd: Crowd,
    mass: Mass,
    story: Story,
    pages: Path,
    life: asyncio.Task[None],
) -> None:
    """An operator at the aggregator: cordons some nodes, and gives them back while the storm is on."""
    chosen = [crowd.members[n] for n in range(min(CORDONED_BEFORE, mass.nodes))]
    for member in chosen:
        text, is_done = await _order(centre, member, "cordon")
        if not is_done:
            raise Unavailable(f"{member.node.name} could not be cordoned: {text}")
    story.began_s = crowd.elapsed()
    waiting = list(chosen)
    moments = [mass.within_s * (n + 1) / (len(chosen) + 1) for n in range(len(chosen))]
    last_s = story.began_s + mass.within_s + PAGE_WITHIN_S
    while not life.done() and (now := crowd.elapsed()) < last_s:
        since_s = now - story.began_s
        if waiting and since_s >= moments[len(chosen) - len(waiting)]:
            story.uncordons.append(await _uncordon(centre, crowd, waiting.pop(0), story))
        await _look(centre, story, since_s)
        if story.page_at_s is None and _told(pages):
            story.page_at_s = crowd.elapsed() - story.began_s
        if story.page_at_s is not None and not waiting and since_s >= mass.within_s:
            last_s = min(last_s, now + AFTER_S)
        await asyncio.sleep(POLL_S)
    story.uncordons.append(await _again(centre, crowd, chosen[-1], story))


async def _again(centre: SimCentre, crowd: Crowd, member: Member, story: Story) -> Uncordon:
    """At the end, with every node sick: out of use by the operator's word, and back."""
    text, is_done = await _order(centre, member, "cordon")
    if not is_done:
        return Uncordon(node=member.node.name, at_s=0.0, said=f"cordon: {text}")
    return await _uncordon(centre, crowd, member, story)


async def _uncordon(centre: SimCentre, crowd: Crowd, member: Member, story: Story) -> Uncordon:
    at_s = crowd.elapsed()
    text, is_done = await _order(centre, member, "uncordon")
    return Uncordon(
        node=member.node.name,
        at_s=round(at_s - story.began_s, 2),
        took_s=round(crowd.elapsed() - at_s, 3),
        said=text,
        is_done=is_done,
    )


async def _order(centre: SimCentre, member: Member, verb: str) -> tuple[str, bool]:
    def give() -> str:
        with FleetClient(centre.address, centre.admin, timeout_s=ORDER_S) as client:
            return client.order(member.node.name, verb, "node", "the play of a mass false positive")

    try:
        return await asyncio.to_thread(give), True
    except GpuwardenError as error:
        return str(error), False


async def _look(centre: SimCentre, story: Story, since_s: float) -> None:
    """Whether the fleet gives leave."""
    if story.frozen_at_s is not None:
        return

    def ask() -> str:
        with FleetClient(centre.address, centre.admin, timeout_s=ORDER_S) as client:
            return client.status().permits_frozen

    frozen = await asyncio.to_thread(ask)
    if frozen:
        story.frozen, story.frozen_at_s = frozen, since_s


def _told(pages: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in pages.read_text().splitlines() if line.endswith("}")]
    except FileNotFoundError:
        return []


def _result(
    crowd: Crowd, mass: Mass, story: Story, told: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    lines = [m.line for m in crowd.members]
    granted = Counter(kind for line in lines for kind in line.granted.values())
    asked = Counter(kind for line in lines for kind in line.asked.values())
    refused = Counter(budget for line in lines for budget in line.refused.values())
    done: Counter[str] = Counter()
    for member in crowd.members[CORDONED_BEFORE:]:
        done += member.node.done()
    cfg = AggregatorConfig().permit
    budget = {
        kind: allowance(budget_of(cfg, kind).ratio, mass.nodes, budget_of(cfg, kind).most)
        for kind in KINDS
    }
    own_pages = sum(len(m.node.world.ledger.of("page")) for m in crowd.members)
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
        "streams_failed": crowd.failed,
        "failures": crowd.failures,
    }
    return {**said, "missed": _missed(said, budget, granted, done)}


def _missed(
    said: dict[str, Any], budget: dict[str, int], granted: Counter[str], done: Counter[str]
) -> list[str]:
    missed = []
    if said["reported"] != said["nodes"] or said["asked_nodes"] != said["nodes"]:
        missed.append(
            f"{said['reported']} of {said['nodes']} nodes reported, {said['asked_nodes']} asked"
        )
    spent: Counter[str] = Counter()
    for kind, count in granted.items():
        spent[purse(kind)] += count
    for kind, count in spent.items():
        name = kind if kind in budget else "reset-gpu"
        if count > budget[name]:
            missed.append(f"{count} permits of {kind} were given, the budget is {budget[name]}")
    missed += [
        f"{count} times {kind} was done with {granted[kind]} permits"
        for kind, count in done.items()
        if count > granted[kind]
    ]
    if not said["refused"]:
        missed.append("nobody was refused")
    if len(said["pages"]) != 1:
        missed.append(f"{len(said['pages'])} pages instead of one")
    if said["page_after_s"] is None or said["page_after_s"] > PAGE_WITHIN_S:
        missed.append(f"nobody was paged within {PAGE_WITHIN_S:g} s")
    missed += [
        f"{u['node']} was not given back: {u['said']}" for u in said["uncordons"] if not u["done"]
    ]
    return missed


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
