"""A simulated host and an agent a test; both are gone, with all they started, when it ends."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gpuwarden.sim.host import SimHost, SimOptions
from tests.e2e.agent import Agent, MakeAgent, MakeHost, MakeNode
from tests.e2e.containers import Containers, policy
from tests.e2e.plain import Plain


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path that others may pass through (a socket's path holds 107 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="gw-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    """Starts simulated hosts."""
    hosts: list[SimHost] = []

    def make(devices: int = 1, profile: str = "A100-40", folder: Path | None = None) -> SimHost:
        host = SimHost(SimOptions(devices=devices, profile=profile), folder=folder)
        hosts.append(host)
        host.start()
        return host

    yield make
    for host in hosts:
        host.stop()


@pytest.fixture
def make_agent(folder: Path, make_host: MakeHost) -> Iterator[MakeAgent]:
    """Makes agents (not started); a test whose agent met an exception it did not expect fails."""
    agents: list[Agent] = []

    def make(
        host: SimHost | None = None,
        config: str = "",
        *,
        env: dict[str, str] | None = None,
        before: Sequence[str] = (),
        name: str = "",
    ) -> Agent:
        place = folder / name if name else folder
        place.mkdir(exist_ok=True)
        environment = host.env(env) if host is not None else env
        agents.append(Agent(place, config, env=environment, before=before))
        return agents[-1]

    yield make
    defects = [defect for agent in agents for defect in agent.defects()]
    stories = "\n".join(agent.story() for agent in agents) if defects else ""
    for agent in agents:
        agent.close()
    assert not defects, f"{defects}\n{stories}"


@pytest.fixture
def plain(host: SimHost, folder: Path) -> Iterator[Plain]:
    """Starts plain processes on the test's ``host``."""
    processes = Plain(host, folder)
    yield processes
    processes.close()


# --- real containers ---


@pytest.fixture
def host(make_host: MakeHost) -> SimHost:
    return make_host(2)


@pytest.fixture
def containers(host: SimHost) -> Iterator[Containers]:
    all_of_them = Containers(host)
    yield all_of_them
    all_of_them.close()


@pytest.fixture
def node(host: SimHost, make_agent: MakeAgent, containers: Containers) -> MakeNode:
    """An agent that runs and sees, under ``policy(**options)``."""

    def start(**options: str) -> Agent:
        agent = make_agent(host, policy(**options)).start()
        agent.until_seen(2)
        return agent

    return start
