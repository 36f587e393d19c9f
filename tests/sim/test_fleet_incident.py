"""The incident on one node of a real fleet: processes, certificates and all, over loopback.

As with the incident alone, no time is asserted.
"""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.sim.incident.cast import Variant
from gpuwarden.sim.incident.fleet import SimFleet
from gpuwarden.sim.incident.fleet_play import play_fleet
from gpuwarden.sim.incident.scene import Scene

pytestmark = [pytest.mark.serial, pytest.mark.timeout(240)]
NO_LEAVE = "".join(
    f'[permit.{kind}]\nratio = 0\nmost = 0\nwindow_s = "1h"\n' for kind in ("cordon", "repair")
)
LOCKED_FOR_EVER = Variant(is_persistent=True)


def test_the_aggregator_names_the_offender() -> None:
    play = play_fleet(4, Variant(), None, None, 2)
    assert play.faults == ()
    assert play.run["wrong_victims"] == 0
    assert play.run["offender"]["name"] in play.explained
    assert "2 nodes" in dict(play.shown)["status"]


def cordons(more_settings: str) -> tuple[list[Any], dict[str, Any], str]:
    """What became of the cordon of a device that stays locked: its steps, the fleet's status, and why."""
    with SimFleet(["node-1"], more_settings) as fleet:
        settings = fleet.settings_of("node-1")
        with Scene(1, LOCKED_FOR_EVER, docker=None, keep=None, more_settings=settings) as scene:
            fleet.wait_connected(["node-1"])
            evidence = scene.play()
            status = fleet.data("status")["status"]
            why = fleet.verb("fleet", "nodes").stdout
    steps = [step for incident in evidence.incidents for step in incident.steps]
    return [s for s in steps if "cordon" in (s.kind, s.text.split(" ")[0])], status, why


def test_a_cordon_waits_for_the_fleets_leave_and_then_happens() -> None:
    steps, status, _ = cordons("")
    assert ("cordon", "done") in [(step.kind, step.result) for step in steps]
    assert status.get("permits_held", 0) >= 1


def test_without_leave_the_agent_holds_and_says_so() -> None:
    steps, status, why = cordons(NO_LEAVE)
    assert [step for step in steps if step.kind == "cordon"] == []
    assert ("withheld", "permit") in [(step.kind, step.action) for step in steps]
    assert "permits_held" not in status
    assert "degraded" in why
