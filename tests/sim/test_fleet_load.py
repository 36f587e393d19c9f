"""Many nodes at work against a real aggregator: everything arrives and is acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from gpuwarden.adapters.fleet_client import FleetClient
from gpuwarden.clock import SystemClock
from gpuwarden.sim.commands import simulate
from gpuwarden.sim.fleet.centre import SimCentre, foreign_centre, own_centre
from gpuwarden.sim.fleet.load import Load, run_load
from gpuwarden.sim.incident.daemon import with_our_code

pytestmark = [pytest.mark.serial, pytest.mark.timeout(120)]


def run(centre: SimCentre, **load: Any) -> dict[str, Any]:
    values = {"nodes": 6, "rate": 5.0, "seconds": 2.0, "devices": 2, **load}
    return asyncio.run(run_load(centre, SystemClock(), Load(**values)))


def test_samples_and_events_of_every_node_arrive() -> None:
    with own_centre(SystemClock()) as centre:
        said = run(centre)
        batched = run(centre, batch=5)
        with FleetClient(centre.address, centre.admin) as client:
            told, _ = client.incidents(is_open_only=False, node="", limit=100)
            counters = {c.label or c.name: c.total for c in client.status().counters}
            known = [node.node for node in client.nodes()]
    for each in (said, batched):
        assert (each["failures"], each["events_unacknowledged"]) == ([], 0)
        assert each["aggregator_cpu_s"] > 0
    assert 48 <= said["reports"] <= 66  # what is under way at either end counts or does not
    assert said["events"] >= 1
    assert told != []
    assert sorted(known) == [f"sim-{number}" for number in range(6)]
    assert (counters["malformed"], counters["messages_limited"]) == (0, 0)


def test_an_aggregator_that_is_there_already_takes_them_too() -> None:
    with own_centre(SystemClock()) as own:
        state = own.admin.parent
        with foreign_centre(SystemClock(), own.address, state) as centre:
            said = run(centre, nodes=2)
    assert (said["failures"], said["events_unacknowledged"]) == ([], 0)
    assert said["aggregator_cpu_s"] is None  # it is somebody else's process


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--aggregator", "127.0.0.1:1"), "expected --aggregator and --aggregator-state"),
        (("--nodes", "0"), "0 is not in the range"),
        (("--rate", "0"), "0.0 is not in the range"),
        (("--mass-xid", "0"), "0 is not in the range"),
    ],
)
def test_wrong_words_are_told(words: tuple[str, ...], expected: str) -> None:
    result = CliRunner().invoke(simulate, ["fleet", *words])
    assert result.exit_code == 2
    assert expected in result.output


def test_the_verb_says_what_is_real_and_what_is_shared() -> None:
    words = ["simulate", "fleet", "--nodes", "3", "--seconds", "1", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "gpuwarden", *words],
        env=with_our_code(dict(os.environ)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "one mutual TLS connection and one stream a node" in said["real"][0]
    assert any("in memory" in line for line in said["shared"])
