"""Case 5: the disk of the spool is full. The disk is real and small, and so is everything else: a node of a fleet."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gpuwarden.adapters.uplink_spool import DiskSpool
from gpuwarden.sim.incident.fleet import SimFleet
from tests.e2e.agent import MakeAgent, MakeHost

pytestmark = [pytest.mark.root, pytest.mark.serial, pytest.mark.timeout(240)]
KEPT = "events for the aggregator cannot be kept on disk"
HOG = """
[[tenant]]
match = {comm = "workload"}
class = "low"
memory = "8GiB"
grace = "200ms"
"""


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """Where a node's state and identity lie, as on a real host: 2 MiB."""
    place = folder / "state"
    place.mkdir()
    options = ("mount", "-t", "tmpfs", "-o", "size=2m,mode=0755", "tmpfs", str(place))
    subprocess.run(options, check=True, timeout=30)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True, timeout=30)


def fill(disk: Path) -> Path:
    """To the last byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


def test_case_5_it_says_so_does_no_harm_and_recovers_by_itself(
    make_host: MakeHost, make_agent: MakeAgent, disk: Path
) -> None:
    with SimFleet(["node-1"]) as fleet:
        own = disk / "fleet"
        shutil.copytree(fleet.identity_of("node-1"), own)
        settings = fleet.settings_of("node-1")
        settings = settings.replace(str(fleet.identity_of("node-1")), str(own))
        host = make_host()
        agent = make_agent(host, settings + HOG).start()
        agent.until_seen(1)
        fleet.wait_connected(["node-1"])
        filler = fill(disk)
        hog = host.start_workload("hog", "--size", "12GiB", "--rate", "30GiB/s", wait=False)

        def degraded() -> str:
            return " ".join(agent.view().agent.degraded)

        agent.until("it says so", lambda: KEPT in degraded() and "harm is withheld" in degraded())
        agent.until(
            "harm is withheld", lambda: [w for w in agent.view().withheld if w.budget == "journal"]
        )
        agent.until("the aggregator knows", lambda: _is_degraded(fleet))
        agent.always("the hog is untouched", hog.is_running, for_s=2.0)
        assert agent.is_running()

        filler.unlink()
        agent.until("the hog is gone", lambda: not hog.is_running())
        agent.until("it is well again", lambda: not agent.view().agent.degraded)
        agent.until_closed()
        over = {str(each.id) for each in agent.view().incidents if each.closed_at is not None}
        assert over
        agent.until("the aggregator has them all, closed", lambda: over <= _closed(fleet))
        assert agent.view().counters["dropped", "fleet_events"] == 0


def _is_degraded(fleet: SimFleet) -> bool:
    (node,) = fleet.data("nodes")["nodes"]
    return bool(node["state"].lower().endswith("degraded"))


def _closed(fleet: SimFleet) -> set[str]:
    found = fleet.data("incidents")["incidents"]
    return {each["incident"]["id"] for each in found if "closed_wall" in each["incident"]}


def test_case_5_what_only_an_acknowledgement_met_is_over_once_there_is_room(disk: Path) -> None:
    """No event has to come for that."""
    with closing(DiskSpool(disk / "spool.sqlite", 2**20)) as spool:
        for _ in range(40):
            spool.append(bytes(5000))
        filler = fill(disk)
        spool.acknowledge(40)
        assert "full" in spool.fault
        filler.unlink()
        spool.flush()
        assert spool.fault == ""
        spool.acknowledge(40)
        assert spool.waiting == 0
