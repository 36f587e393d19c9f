"""What readers get of a real agent on a simulated host: the page, the verbs, the story afterwards."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.request

import pytest
from click.testing import Result as Shown

from gpuwarden.adapters.run_claim import SOCKET_NAME
from gpuwarden.sim.host import SimHost
from tests.commands.cli_run import run
from tests.e2e.agent import Agent, MakeAgent, MakeHost

pytestmark = pytest.mark.serial

DEADLINE_S = 20.0
HOG = """
[[tenant]]
match = {comm = "workload"}
class = "low"
memory = "8GiB"
grace = "200ms"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def page_at(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE_S) as answer:
        return str(answer.read().decode())


def ask(agent: Agent, *arguments: str, width: int = 80) -> Shown:
    return run(*arguments, "--socket", str(agent.run_dir / SOCKET_NAME), width=width)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def host(make_host: MakeHost) -> SimHost:
    return make_host(devices=2)


@pytest.fixture
def agent(host: SimHost, make_agent: MakeAgent, port: int) -> Agent:
    """An agent that sees two devices, one of them with a tenant well within its quota."""
    listen = f'[agent]\nmetrics_listen = "127.0.0.1:{port}"\n'
    agent = make_agent(host, f"{listen}{HOG}").start()
    agent.until_seen(2)
    host.start_workload("hog", "--size", "2GiB", "--rate", "30GiB/s")
    agent.until(
        "the tenant has all it wants",
        lambda: any(use.used_bytes >= 2 * 2**30 for use in agent.view().snapshot.uses),
    )
    return agent


def test_the_page_of_a_real_agent(agent: Agent, port: int) -> None:
    """Everything the agent tells has a name of its own, and what a device can tell is there."""
    page = agent.until(
        "slow facts are on the page",
        lambda: text if "gpuwarden_gpu_temperature_celsius{" in (text := page_at(port)) else "",
    )
    assert "gpuwarden_other_" not in page
    for name in (
        "gpu_memory_used_bytes{",
        "gpu_power_watts{",
        "gpu_ecc_errors_total{",
        "tenant_gpu_memory_bytes{",
        "tenant_gpu_quota_bytes{",
        "nvml_calls_total{",
        "agent_resident_memory_bytes ",
        "probe_resident_memory_bytes ",
        "host_memory_available_bytes ",
    ):
        assert f"\ngpuwarden_{name}" in page
    promtool = shutil.which("promtool")
    if promtool is not None:
        checked = subprocess.run(
            [promtool, "check", "metrics"],
            input=page,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_verbs_of_a_real_agent(agent: Agent) -> None:
    shown = ask(agent, "status")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "all is well" in shown.output
    said = json.loads(ask(agent, "tenants", "--json").output)
    assert [entry["tenant"]["class"] for entry in said["tenants"]] == ["low"]
    assert said["tenants"][0]["uses"][0]["used_bytes"] >= 2 * 2**30
    assert len(json.loads(ask(agent, "gpus", "--json").output)["devices"]) == 2
    said = json.loads(ask(agent, "doctor", "--json").output)
    assert {check["name"]: check["result"] for check in said["checks"]}["agent"] == "ok"


def test_the_story_of_an_eviction_asked_live_and_from_the_journal(
    host: SimHost, agent: Agent
) -> None:
    hog = host.start_workload("hog", "--size", "12GiB", "--rate", "30GiB/s", wait=False)
    agent.until("the hog is gone", lambda: not hog.is_running())
    agent.until_closed()
    live = ask(agent, "explain", "last")
    assert live.exit_code == 0
    for title in ("Who", "Quota", "Memory over time", "What happened", "What to do next"):
        assert f"\n{title}" in live.output
    assert "term" in live.output
    assert "8.0 GiB" in live.output
    kinds = {
        json.loads(line)["event"]["kind"]
        for line in ask(agent, "events", "--json").output.splitlines()
    }
    assert {"opened", "decided", "term", "closed"} <= kinds
    told = json.loads(ask(agent, "explain", "last", "--json").output)["incident"]
    assert agent.stop() == 0
    assert ask(agent, "explain", "last").exit_code == 3
    journal = str(agent.state_dir / "journal")
    later = json.loads(run("explain", "last", "--journal", journal, "--json").output)["incident"]
    assert later == told
    replayed = run("replay", journal)
    assert (replayed.exit_code, replayed.stderr) == (0, "")
    assert "every decision is the same" in replayed.output
