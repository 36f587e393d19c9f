"""A fleet at work: samples at a rate, an incident now and then, and how soon the aggregator has them."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuwarden.clock import Clock
from gpuwarden.sim.fleet.centre import SimCentre
from gpuwarden.sim.fleet.crowd import REAL, SHARED, Crowd, percentile

CONNECT_S = 120.0
PACE_S = 0.005
EVENT_EVERY = 47
"""Of so many samples one comes with an incident."""
SETTLE_S = 10.0
WAIT_MAX_S = 1.0
LATE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """``rate``: samples a second and node; ``batch``: so many in one message, or what 10 s bring."""

    nodes: int
    rate: float
    seconds: float
    batch: int = 1
    devices: int = 8


async def run_load(centre: SimCentre, clock: Clock, load: Load) -> dict[str, Any]:
    """Plain data; ``missed`` names what was not as it should be."""
    crowd = Crowd(
        centre,
        clock,
        load.nodes,
        devices=load.devices,
        sample_every_s=0.0,
        batch_samples=load.batch,
    )
    try:
        connected_s = await crowd.connect(PACE_S, CONNECT_S)
        reports = sum(m.line.reports for m in crowd.members)
        used_s, begun = _cpu_s(centre.pid), clock.now()
        late_s = await _speak(crowd, clock, load)
        took_s = clock.now() - begun
        used_s = None if used_s is None else (_cpu_s(centre.pid) or 0.0) - used_s
        reports = sum(m.line.reports for m in crowd.members) - reports
        await _settled(crowd, clock)
        return _result(crowd, load, connected_s, took_s, used_s, reports, late_s)
    finally:
        await crowd.close()


async def _speak(crowd: Crowd, clock: Clock, load: Load) -> float:
    """Every node in turn, evenly spread; the longest that one was late for want of this host's time."""
    period_s, begun, turn, worst_s = 1.0 / load.rate, clock.now(), 0, 0.0
    count = len(crowd.members)
    while (due := begun + period_s * turn / count) < begun + load.seconds:
        now = clock.now()
        if due > now:
            await asyncio.sleep(due - now)
        elif turn % 8 == 0:
            await asyncio.sleep(0)
        worst_s = max(worst_s, now - due)
        member = crowd.members[turn % count]
        second = crowd.elapsed()
        is_told = turn % EVENT_EVERY == EVENT_EVERY - 1
        view = member.node.blip(second) if is_told else member.node.rest_to(second)
        member.line.look(view)
        turn += 1
    return worst_s


async def _settled(crowd: Crowd, clock: Clock) -> None:
    end = clock.now() + SETTLE_S
    while crowd.unacknowledged() and clock.now() < end:
        await asyncio.sleep(0.1)


def _result(
    crowd: Crowd,
    load: Load,
    connected_s: float,
    took_s: float,
    used_s: float | None,
    reports: int,
    late_s: float,
) -> dict[str, Any]:
    waits = crowd.waits_s()
    longest = waits[-1] if waits else None
    missed = []
    if crowd.failed:
        missed.append(f"{crowd.failed} streams ended")
    if left := crowd.unacknowledged():
        missed.append(f"{left} events were never acknowledged")
    if longest is not None and longest > WAIT_MAX_S:
        missed.append(f"an event waited {longest:.2f} s for its acknowledgement")
    return {
        "nodes": load.nodes,
        "rate": load.rate,
        "batch": load.batch,
        "seconds": round(took_s, 2),
        "real": list(REAL),
        "shared": list(SHARED),
        "connected_s": round(connected_s, 2),
        "reports": reports,
        "reports_per_s": round(reports / took_s, 1),
        "events": sum(m.spool.appended for m in crowd.members),
        "events_unacknowledged": left,
        "event_wait_p99_s": _rounded(percentile(waits, 0.99)),
        "event_wait_max_s": _rounded(longest),
        "generator_late_s": round(late_s, 3),
        "is_generator_late": late_s > LATE_S,
        "aggregator_cpu_s": _rounded(used_s),
        "aggregator_cpu_s_per_1000": None
        if used_s is None or not reports
        else round(used_s / reports * 1000, 4),
        "streams_failed": crowd.failed,
        "failures": crowd.failures,
        "missed": missed,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _cpu_s(pid: int | None) -> float | None:
    if pid is None:
        return None
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
