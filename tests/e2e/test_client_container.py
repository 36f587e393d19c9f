"""The client inside a real container, its agent killed and stopped under it: the caller never waits, loss is counted.

The sockets' folder is mounted read-only, as docs/guardrails.md says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from typing import Any

import pytest

from gpuwarden.sim.host import SimHost
from tests.e2e.agent import ROOT, WITHIN_S, Agent, MakeAgent
from tests.e2e.containers import Container, Containers, policy

pytestmark = [pytest.mark.docker, pytest.mark.root]

CAPACITY = 20
SERVICE = """
[[tenant]]
match = {name = "risk-*"}
class = "protected"
memory = "8GiB"
service = "risk"
"""
PYTHON = os.path.realpath(sys.executable)
LIBRARIES = ("/usr", "/lib", "/lib64", sys.base_prefix)
"""The interpreter of these tests, for a container that has none."""
SPEAKER = f"""
import json, sys
from gpuwarden.client import Client
client = Client(capacity={CAPACITY}, every_s=3600.0)
for line in sys.stdin:
    verb, count = line.split()
    done = None
    if verb == "observe":
        for _ in range(int(count)):
            client.observe(latency=0.1, ok=True)
    else:
        done = client.flush(float(count))
    print(json.dumps({{"sent": client.sent, "lost": client.lost, "done": done}}), flush=True)
"""
BY_GRPC = """
import grpc
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.v1.evaluation_pb2_grpc import ObservationServiceStub
with grpc.insecure_channel("unix:/run/gpuwarden/observe/grpc.sock") as channel:
    said = pb.ObserveRequest(observations=[pb.Observation(latency_s=0.1, ok=True)])
    print(ObservationServiceStub(channel).Observe(said, timeout=20).taken)
"""


def mounts(agent: Agent) -> list[str]:
    given = [f"--volume={agent.run_dir}/observe:/run/gpuwarden/observe:ro"]
    for place in dict.fromkeys(os.path.realpath(each) for each in LIBRARIES):
        given.append(f"--volume={place}:{place}:ro")
    for link in LIBRARIES:
        if os.path.realpath(link) != link:
            given.append(f"--volume={os.path.realpath(link)}:{link}:ro")
    site = sysconfig.get_paths()["purelib"]
    return [*given, f"--volume={ROOT / 'agent'}:/code:ro", f"--volume={site}:/site:ro"]


def inside(container: Container, program: str) -> list[str]:
    """The words that run a program of Python there."""
    words = ["docker", "exec", "--interactive", "--env=PYTHONPATH=/code:/site"]
    return [*words, container.id, PYTHON, "-u", "-c", program]


class Speaker:
    """A service's own program inside the container, told line by line what to do."""

    def __init__(self, container: Container) -> None:
        self._process = subprocess.Popen(
            inside(container, SPEAKER), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, verb: str, count: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{verb} {count}\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert isinstance(answer, dict)
        return answer

    def close(self) -> None:
        self._process.communicate(timeout=WITHIN_S)


@pytest.fixture
def agent(host: SimHost, make_agent: MakeAgent) -> Agent:
    started = make_agent(host, policy(mode="observe") + SERVICE).start()
    started.until_seen(2)
    return started


@pytest.fixture
def service(agent: Agent, containers: Containers) -> Container:
    made = containers.hold("risk", "1GiB", options=mounts(agent))
    until_heard(agent)
    return made


@pytest.fixture
def speaker(service: Container) -> Iterator[Speaker]:
    made = Speaker(service)
    yield made
    made.close()


def until_heard(agent: Agent) -> None:
    """Until there is somebody whose words are listened to."""
    agent.until("the socket is there", (agent.run_dir / "observe" / "grpc.sock").exists)
    agent.until("the service is carried", lambda: carried(agent))


def carried(agent: Agent) -> bool:
    return any(t.service == "risk" and t.is_described for t in agent.view().snapshot.tenants)


def test_an_agent_that_dies_or_hangs_costs_the_caller_nothing_and_the_loss_is_counted(
    agent: Agent, speaker: Speaker
) -> None:
    speaker.ask("observe", 10)
    agent.until("they are taken", lambda: speaker.ask("flush", 1)["done"])
    assert speaker.ask("observe", 0) == {"sent": 10, "lost": 0, "done": None}

    agent.kill()
    assert speaker.ask("observe", 3 * CAPACITY)["lost"] == 2 * CAPACITY, "so many do not fit"
    assert speaker.ask("flush", 1)["done"] is False
    assert speaker.ask("observe", 5)["lost"] == 2 * CAPACITY, "a batch on its way makes room"

    agent.start()
    until_heard(agent)
    agent.until("what waited is taken", lambda: speaker.ask("flush", 1)["done"])
    told = speaker.ask("observe", 0)
    assert (told["sent"], told["lost"]) == (10 + CAPACITY + 5, 2 * CAPACITY)
    agent.until(
        "the agent knows what was lost",
        lambda: agent.view().counters.get(("dropped", "observations")) == 2 * CAPACITY,
    )

    agent.suspend()  # it still listens, and answers nobody
    try:
        answered = speaker.ask(
            "observe", 2 * CAPACITY
        )  # that it answers at all, while nobody hears
        assert answered["lost"] == 3 * CAPACITY
        assert speaker.ask("flush", 0.1)["done"] is False
    finally:
        agent.resume()
    agent.until("what waited is taken", lambda: speaker.ask("flush", 1)["done"])


def test_by_grpc_too_and_only_for_what_the_kernel_says(
    agent: Agent, service: Container, containers: Containers
) -> None:
    agent.until("it is taken", lambda: said(service) == (0, "1"))
    stranger = containers.hold("hog", "1GiB", options=mounts(agent))
    status, error = said(stranger)
    assert status != 0
    assert "PERMISSION_DENIED" in error


def said(container: Container) -> tuple[int, str]:
    done = subprocess.run(
        inside(container, BY_GRPC), capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout.strip() or done.stderr
