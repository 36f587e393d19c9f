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
from pathlib import Path
from typing import Any

from gpuwarden.adapters.fleet_client import FleetClient
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Unavailable
from gpuwarden.sim.fleet.centre import SimCentre
from gpuwarden.sim.fleet.crowd import Crowd, Member
from gpuwarden.sim.fleet.mass_verdict import PAGE_WITHIN_S, Mass, Story, Uncordon, verdict

CONNECT_S = 120.0
PACE_S = 0.01
QUIET_EVERY_S, SICK_EVERY_S = 10.0, 4.0
ORDER_S = 20.0
POLL_S = 0.2


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
        return verdict(crowd.members, mass, story, _told(pages), crowd.failures)
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
    chosen = [crowd.members[n] for n in range(min(mass.cordoned_before, mass.nodes))]
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
            last_s = min(last_s, now + mass.after_s)
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
