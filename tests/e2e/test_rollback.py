"""A service in real containers goes back to an earlier version, by the agent's own command and through its death."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from gpuwarden.model.action import Kind, Result
from gpuwarden.sim.host import SimHost
from tests.e2e.agent import ROOT, Agent, MakeAgent
from tests.e2e.containers import Container, Containers, docker, policy

pytestmark = [pytest.mark.docker, pytest.mark.root]

SERVICE = """
[[tenant]]
match = {name = "risk-*"}
class = "protected"
memory = "8GiB"
service = "risk"
[rollback]
settle_s = "500ms"
start_s = "10s"
"""


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """What the agent made is not known to who removes the others."""
    yield
    for each in docker("ps", "--all", "--quiet", "--filter", "label=gpuwarden.replaces").split():
        docker("rm", "--force", each, check=False)


def start(make_agent: MakeAgent, host: SimHost, mode: str = "observe") -> Agent:
    agent = make_agent(host, policy() + SERVICE)
    agent.start()
    agent.until_seen(2)
    return agent


def verb(agent: Agent, *words: str) -> tuple[int, dict[str, Any], str]:
    door = str(agent.run_dir / "gpuwarden.sock")
    done = subprocess.run(
        [sys.executable, "-m", "gpuwarden", *words, "-o", "json", "--socket", door],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(ROOT / "agent"), "PATH": "/usr/bin:/bin"},
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def labelled(version: str) -> tuple[str, ...]:
    return ("--label", f"gpuwarden.version={version}", "--env", f"TOKEN=secret-of-{version}")


def deploy(
    agent: Agent, containers: Containers, version: str, before: Container | None
) -> Container:
    """A container of that version in the place of the one before."""
    if before is None:
        made = containers.hold("risk", "2GiB", options=labelled(version))
    else:
        name = before.name
        docker("rm", "--force", before.id)
        made = containers.hold("risk", "2GiB", options=labelled(version), name=name)
    agent.until(f"{version} is on record", lambda: runs(agent).get(version))
    return made


def runs(agent: Agent) -> dict[str, bool]:
    """By version on record, whether somebody runs it."""
    return {v.version: v.tenant is not None for v in agent.view().snapshot.versions}


def named(name: str) -> str:
    return docker("ps", "--quiet", "--no-trunc", "--filter", f"name=^{name}$").strip()


def version_of(name: str) -> str:
    form = '{{index .Config.Labels "gpuwarden.version"}}'
    return docker("inspect", "--format", form, named(name)).strip()


def test_it_goes_back_and_says_why_and_how_to_undo_it(
    host: SimHost, make_agent: MakeAgent, containers: Containers
) -> None:
    agent = start(make_agent, host)
    first = deploy(agent, containers, "v1", None)
    second = deploy(agent, containers, "v2", first)
    status, said, _ = verb(agent, "rollback", "risk", "--reason", "p99 doubled")
    assert status == 1, "no version is known to be good yet, and none is guessed"
    status, said, error = verb(agent, "rollback", "risk", "--to", "v1", "--reason", "p99 doubled")
    assert (status, said.get("is_done")) == (0, True), error
    assert version_of(second.name) == "v1"
    assert not second.is_running()
    _, told, _ = verb(agent, "explain", said["incident"])
    story = json.dumps(told)
    assert "p99 doubled" in story
    assert "gpuwarden rollback risk --to v2" in story
    assert "secret-of" not in story + agent.log()
    agent.until("who runs it is known", lambda: runs(agent).get("v1"))
    status, said, error = verb(agent, "rollback", "risk", "--to", "v2")
    assert status == 0, error
    assert version_of(second.name) == "v2"


def test_a_broken_old_image_leaves_the_present_one_running_and_tells_people(
    host: SimHost, make_agent: MakeAgent, containers: Containers
) -> None:
    agent = start(make_agent, host)
    first = deploy(agent, containers, "v1", None)
    second = deploy(agent, containers, "v2", first)
    for page in (agent.state_dir / "versions").glob("*.json"):
        agent.stop()
        page.write_text(page.read_text().replace('"hold"', '"no-such-verb"', 1))
        agent.start()
    agent.until("v2 is seen", lambda: runs(agent).get("v2"))
    status, said, error = verb(agent, "rollback", "risk", "--to", "v1")
    assert (status, said.get("is_done")) == (1, False), (said, error)
    assert version_of(second.name) == "v2"
    assert named(second.name) == second.id
    agent.until_closed()
    assert [o.result for o in agent.diary.outcomes() if o.kind is Kind.ROLL_BACK][
        -1
    ] is Result.FAILED
    assert [a for a in agent.diary.actions() if a.kind is Kind.PAGE]


def test_an_agent_that_is_killed_in_the_middle_finishes_it(
    host: SimHost, make_agent: MakeAgent, containers: Containers
) -> None:
    agent = start(make_agent, host)
    first = deploy(agent, containers, "v1", None)
    second = deploy(agent, containers, "v2", first)
    status, _, error = verb(agent, "rollback", "risk", "--to", "v1", "--wait", "0")
    assert status == 0, error
    agent.kill()
    agent.launch()
    agent.until("v1 runs", lambda: named(second.name) and version_of(second.name) == "v1")
    agent.until_closed()
    assert named(second.name) != first.id
    up = docker("ps", "--quiet", "--filter", f"name={second.name}").split()
    assert len(up) == 1, "one of them, not two"
