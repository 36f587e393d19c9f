"""The incident on one node of a fleet: what the aggregator knows of it afterwards."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuwarden.sim.incident.cast import Variant
from gpuwarden.sim.incident.fleet import SimFleet
from gpuwarden.sim.incident.judge import as_json
from gpuwarden.sim.incident.scene import Scene

TOLD_S = 10.0
POLL_S = 0.2
SHOWN = ("status",), ("nodes",), ("incidents",), ("query", "snapshot")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlay:
    """One run as plain data, what the verbs said, and what was not as it should be."""

    run: dict[str, Any]
    explained: str
    shown: tuple[tuple[str, str], ...]
    faults: tuple[str, ...]


def play_fleet(
    seed: int, variant: Variant, docker: str | None, keep: Path | None, nodes: int
) -> FleetPlay:
    """``nodes`` agents under one aggregator; the last of them has the incident."""
    names = [f"node-{number}" for number in range(1, nodes + 1)]
    victim = names[-1]
    with SimFleet(names) as fleet:
        for number, name in enumerate(names[:-1]):
            fleet.start_quiet_node(name, seed + 1000 + number)
        settings = fleet.settings_of(victim)
        with Scene(seed, variant, docker=docker, keep=keep, more_settings=settings) as scene:
            fleet.wait_connected(names)
            run = as_json(scene.play())
            incident = _incident(fleet, victim, run)
            faults = _faults(fleet, victim, incident, run["offender"]["name"], names)
            verbs = [*SHOWN, ("explain", incident, "--node", victim)]
            with ThreadPoolExecutor(2) as pool:
                said = list(pool.map(lambda words: fleet.verb("fleet", *words).stdout, verbs))
    titles = [" ".join(words) for words in SHOWN]
    return FleetPlay(
        run=run,
        explained=said[-1],
        shown=tuple(zip(titles, said[:-1], strict=True)),
        faults=tuple(faults),
    )


def _faults(
    fleet: SimFleet, victim: str, incident: str, offender: str, names: list[str]
) -> list[str]:
    """What the aggregator does not say, or says of the wrong one."""
    faults = []
    told = _told(fleet, victim, incident)
    if told is None:
        return [f"the aggregator was not told of {incident} within {TOLD_S:g} s"]
    if told["node"] != victim:
        faults.append(f"{incident} is said to be of {told['node']}, not of {victim}")
    if told["not_fresh"]:
        faults.append(f"{victim} did not explain {incident} itself: {told['not_fresh']}")
    # A container has a suffix that keeps runs apart.
    if not told["incident"]["tenant_name"].startswith(offender):
        faults.append(f"{told['incident']['tenant_name']} is blamed instead of {offender}")
    found = fleet.data("incidents")["incidents"]
    # How busy this very host is, every node of it says; that is no part of the play.
    others = {i["node"] for i in found if i["incident"]["rule"] != "host"} - {victim}
    if others:
        faults.append(f"incidents on {', '.join(sorted(others))}, where nothing happened")
    answered = {a["node"] for a in fleet.data("query", "snapshot")["answers"] if "error" not in a}
    if missing := sorted(set(names) - answered):
        faults.append(f"{', '.join(missing)} did not answer the aggregator")
    return faults


def _incident(fleet: SimFleet, victim: str, run: dict[str, Any]) -> str:
    """The incident of the offender, as the journal has it, or as the aggregator was told."""
    if run["cause"].get("incident"):
        return str(run["cause"]["incident"])
    for told in fleet.data("incidents", "--node", victim)["incidents"]:
        if told["incident"]["tenant_name"].startswith(run["offender"]["name"]):
            return str(told["incident"]["id"])
    return "last"


def _told(fleet: SimFleet, victim: str, incident: str) -> dict[str, Any] | None:
    """The incident as the aggregator tells it, once it is closed there or time is over."""
    end = time.monotonic() + TOLD_S
    while True:
        done = fleet.verb("fleet", "explain", incident, "--node", victim, "--json")
        if done.returncode == 0:
            said: dict[str, Any] = json.loads(done.stdout)
            return said
        if time.monotonic() > end:
            return None
        time.sleep(POLL_S)
