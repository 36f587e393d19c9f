"""A lost device drains the real Slurm node, and the node is back once the device is; what others drain stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.sim.host import SimHost
from tests.adapters import slurm_node
from tests.adapters.slurm_node import OTHERS
from tests.e2e.agent import ROOT, Agent, MakeAgent

pytestmark = [pytest.mark.slurm, pytest.mark.serial]


@pytest.fixture(autouse=True)
def _in_service() -> Iterator[None]:
    with slurm_node.in_service():
        yield


@pytest.fixture
def agent(host: SimHost, make_agent: MakeAgent) -> Agent:
    made = make_agent(host, settings(host)).start()
    made.until_seen(2)
    return made


def settings(host: SimHost) -> str:
    """Reboots are left to people, as by default."""
    return f"""
[kmsg]
source = "auto"
path = "{host.folder}/kmsg.sock"
[ladder]
uncordon_after_s = "1s"
locked_after_s = "500ms"
page_after_s = "500ms"
[cordon.slurm]
conf = "{os.environ["SLURM_CONF"]}"
"""


def gpuwarden(agent: Agent, *words: str) -> tuple[int, Any]:
    """The command line on this agent: its exit status and what it printed."""
    socket = str(agent.run_dir / "gpuwarden.sock")
    made = subprocess.run(
        [
            sys.executable,
            "-m",
            "gpuwarden",
            *words,
            "--socket",
            socket,
            "--json",
            "--timeout",
            "20",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT / "agent")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return made.returncode, json.loads(made.stdout) if made.stdout else made.stderr


def lose(host: SimHost, agent: Agent, device: int = 0) -> None:
    """Xid 79; the agent has seen it and hands the device over to people."""
    host.control("lose", device=device)
    agent.until("it is cordoned", lambda: agent.diary.outcomes(Kind.CORDON))


def mend(host: SimHost, agent: Agent, device: int = 0) -> None:
    """What a technician does, and says."""
    host.control("restore", device=device)
    agent.until_seen(2)
    agent.until(
        "it may be called healthy",
        lambda: gpuwarden(agent, "set-healthy", str(device), "--reason", "reseated")[0] == 0,
    )


def test_xid_79_drains_the_node_and_a_repair_resumes_it(host: SimHost, agent: Agent) -> None:
    lose(host, agent)
    agent.until("the node is drained", lambda: slurm_node.state() == "IDLE+DRAIN")
    (order,) = agent.diary.actions(Kind.CORDON)
    assert slurm_node.reason().startswith(f"gpuwarden: {order.incident}; ")
    assert "GPU 0" in slurm_node.reason()
    mend(host, agent)
    agent.until("the node is back", slurm_node.is_well)
    assert [o.result.value for o in agent.diary.outcomes(Kind.UNCORDON)][-1:] == ["done"]
    assert any("healthy: reseated" in note.text for note in agent.diary.notes())


def test_a_node_drained_by_somebody_else_stays_drained(host: SimHost, agent: Agent) -> None:
    slurm_node.drain()
    lose(host, agent)
    agent.until(
        "it says whose it is",
        lambda: any(o.detail == "slurm: foreign" for o in agent.diary.outcomes(Kind.CORDON)),
    )
    mend(host, agent)
    agent.until_done(Kind.UNCORDON)
    assert (slurm_node.state(), slurm_node.reason()) == ("IDLE+DRAIN", OTHERS)


def test_a_cordon_outlives_the_agent(host: SimHost, agent: Agent) -> None:
    lose(host, agent)
    agent.until("the node is drained", lambda: slurm_node.state() == "IDLE+DRAIN")
    assert agent.stop() == 0
    agent.start()
    agent.until("it knows of it", lambda: [f for f in agent.view().findings if f.rule == "cordon"])
    assert slurm_node.state() == "IDLE+DRAIN"
    mend(host, agent)
    agent.until("the node is back", slurm_node.is_well)


def test_told_when_the_controller_is_back(host: SimHost, make_agent: MakeAgent) -> None:
    agent = make_agent(host, settings(host) + 'timeout_s = "1s"\n').start()
    agent.until_seen(2)
    with slurm_node.controller_stopped():
        code, said = gpuwarden(agent, "cordon", "1", "--reason", "fan")
        assert (code, said["text"]) == (0, "GPU 1 is cordoned until it is uncordoned")
        agent.until(
            "it could not be told",
            lambda: any(o.result.value == "failed" for o in agent.diary.outcomes(Kind.CORDON)),
        )
    assert slurm_node.state() == "IDLE"
    agent.until("it was told again", lambda: slurm_node.state() == "IDLE+DRAIN", within_s=90.0)


def test_operators_of_two_devices(agent: Agent) -> None:
    for device in ("0", "1"):
        assert gpuwarden(agent, "cordon", device, "--reason", f"part {device}")[0] == 0
    agent.until_done(Kind.CORDON, 2)
    assert slurm_node.reason().count("inc-") == 2
    assert gpuwarden(agent, "uncordon", "0")[0] == 0
    agent.until_done(Kind.UNCORDON)
    assert slurm_node.state() == "IDLE+DRAIN"
    assert "part 1" in slurm_node.reason()
    assert gpuwarden(agent, "uncordon", "0")[0] != 0
    assert gpuwarden(agent, "uncordon", "1")[0] == 0
    agent.until("the node is back", slurm_node.is_well)


def test_the_whole_node(agent: Agent) -> None:
    assert gpuwarden(agent, "cordon", "node", "--reason", "move")[0] == 0
    agent.until("the node is drained", lambda: "the node: move" in slurm_node.reason())
    assert gpuwarden(agent, "uncordon", "node")[0] == 0
    agent.until("the node is back", slurm_node.is_well)
