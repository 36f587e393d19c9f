"""Docker hangs or dies, the agent is killed: one eviction, nothing left frozen, all given back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpuwarden.model.action import Kind, Result
from gpuwarden.sim.host import SimHost
from tests.e2e.agent import AS_NOBODY, NOBODY, Agent, MakeAgent, MakeNode
from tests.e2e.containers import (
    Container,
    Containers,
    bytes_on,
    daemon_pid,
    policy,
    until_dead,
    until_named,
)
from tests.e2e.dockerd import OwnDaemon

pytestmark = [pytest.mark.docker, pytest.mark.root]

LONG_HOLD = 'restart_wait_s = "20s"\nhold_ttl_s = "15s"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """The private Docker daemon, which may be made to hang."""

    pid: int

    def hang(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    one = Daemon(pid=daemon_pid())
    yield one
    one.go_on()


@dataclass(slots=True)
class Fuse:
    """A hog within its quota until it is told to grow."""

    container: Container
    file: Path

    def light(self) -> None:
        self.file.touch()


def lay(containers: Containers, host: SimHost, *more: str, restart: str = "always") -> Fuse:
    file = host.folder / "grow"
    container = containers.hog(
        *("--start-size", "1GiB", "--start-when", str(file), *more), restart=restart
    )
    return Fuse(container=container, file=file)


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


# --- Docker ---


def test_docker_hangs_in_mid_eviction(
    host: SimHost, node: MakeNode, containers: Containers, daemon: Daemon
) -> None:
    agent = node()
    fuse = lay(containers, host, "--ignore-term")
    hog = fuse.container
    until_named(agent, hog)
    pids = hog.pids()
    daemon.hang()
    fuse.light()
    agent.until("its processes are gone", lambda: gone(pids))
    agent.until("its bytes are back", lambda: bytes_on(host) == 0)
    assert agent.diary.outcomes(Kind.KILL, result=Result.DONE)
    assert agent.diary.outcomes(Kind.RESTART_OFF, result=Result.DONE) == []
    agent.until("that Docker hangs is told", lambda: _docker_trouble(agent))
    daemon.go_on()
    _settles(agent, hog)


def test_docker_hangs_for_a_moment_only(
    host: SimHost, node: MakeNode, containers: Containers, daemon: Daemon
) -> None:
    """Shorter than its deadline: what was asked is answered late."""
    agent = node()
    fuse = lay(containers, host, "--ignore-term")
    hog = fuse.container
    until_named(agent, hog)
    pids = hog.pids()
    daemon.hang()
    fuse.light()
    agent.until("its processes are gone", lambda: gone(pids))
    daemon.go_on()
    _settles(agent, hog)


def _cannot_act(agent: Agent, container: Container) -> str:
    tenant = agent.tenant(f"docker:{container.id}")
    return (tenant.cannot_act or "") if tenant is not None else ""


def test_docker_dies_in_mid_eviction_and_comes_back(
    host: SimHost, make_agent: MakeAgent, folder: Path, own_daemon: OwnDaemon
) -> None:
    containers = Containers(host, own_daemon.address)
    agent = make_agent(host, policy(grace="1s", docker_host=own_daemon.address)).start()
    agent.until_seen(2)
    hog = containers.hog("--ignore-term", restart="always")
    agent.until_done(Kind.TERM)
    pids = hog.pids()
    own_daemon.kill()
    agent.until("its processes are gone", lambda: gone(pids))
    agent.until("its bytes are back", lambda: bytes_on(host) == 0)
    agent.until("that Docker is away is told", lambda: agent.gaps("docker"))
    agent.until("giving back fails", lambda: _failed(agent, Kind.RESTART_BACK))
    own_daemon.start()
    _settles(agent, hog)
    agent.until("the gap is closed", lambda: not agent.gaps("docker"))
    containers.close()


def _failed(agent: Agent, kind: Kind) -> list[str]:
    return [o.detail for o in agent.diary.outcomes(kind, result=Result.FAILED)]


@pytest.fixture
def own_daemon(folder: Path) -> Iterator[OwnDaemon]:
    daemon = OwnDaemon(folder / "docker")
    daemon.start()
    daemon.load()
    yield daemon
    daemon.close()


def test_without_dockers_socket_it_says_so_and_goes_on_when_it_comes(
    host: SimHost, make_agent: MakeAgent, containers: Containers, folder: Path
) -> None:
    """Who the tenant is, only Docker can tell: until then nothing is done to it."""
    socket = folder / "docker.sock"
    agent = make_agent(host, policy(docker_host=f"unix://{socket}")).start()
    agent.until_seen(2)
    hog = containers.hog()
    tenant = f"docker:{hog.id}"
    agent.until("it is seen", lambda: agent.tenant(tenant))
    told = agent.until("that Docker is not there is told", lambda: agent.gaps("docker"))
    assert f"no Docker daemon at unix://{socket}" in told[0].detail
    agent.always("nothing is done", hog.is_running, for_s=1.0)
    assert agent.diary.actions(Kind.TERM, Kind.KILL, Kind.STOP) == []
    socket.symlink_to(os.environ["DOCKER_HOST"].removeprefix("unix://"))
    until_dead(agent, hog)
    agent.until("the gap is closed", lambda: not agent.gaps("docker"))


def test_without_permission_for_docker_it_says_so(
    host: SimHost, make_agent: MakeAgent, containers: Containers, folder: Path
) -> None:
    agent = make_agent(host, policy(), before=AS_NOBODY)
    for path in (folder, folder / "run", folder / "state"):
        path.mkdir(exist_ok=True)
        os.chown(path, NOBODY, NOBODY)
    agent.start().until_seen(2)
    hog = containers.hog()
    why = agent.until("why it cannot act is told", lambda: _cannot_act(agent, hog))
    assert "no permission for Docker" in why
    assert hog.is_running()
    assert agent.diary.actions(Kind.TERM, Kind.KILL, Kind.STOP) == []


def _docker_trouble(agent: Agent) -> list[str]:
    told = [gap.detail for gap in agent.gaps("docker")]
    late = agent.diary.outcomes(Kind.RESTART_OFF, result=Result.FAILED)
    return told + [outcome.detail for outcome in late]


def _settles(agent: Agent, hog: Container) -> None:
    """It ends dead, with the policy it came with, whatever Docker did to it meanwhile."""
    agent.until(
        "it is dead, all is given back, and nothing is owed",
        lambda: (
            not hog.is_running()
            and hog.restart_policy() == "always"
            and not agent.view().debts
            and not agent.view().cases
        ),
        within_s=60.0,
    )
    agent.always("it stays dead", lambda: not hog.is_running(), for_s=1.0)


# --- the agent ---


def until_frozen(agent: Agent, hog: Container) -> None:
    agent.until("it is held", lambda: hog.frozen() == "FROZEN")


def test_a_hold_does_not_outlive_a_killed_agent(
    host: SimHost, make_agent: MakeAgent, containers: Containers, daemon: Daemon
) -> None:
    agent = make_agent(host, policy(ladder=LONG_HOLD)).start()
    agent.until_seen(2)
    fuse = lay(containers, host)
    hog = fuse.container
    until_named(agent, hog)
    daemon.hang()
    fuse.light()
    until_frozen(agent, hog)
    agent.kill()
    assert hog.frozen() == "FROZEN"
    agent.start()  # Docker still hangs: nobody can be told who it is
    agent.until("it is let go", lambda: hog.frozen() in ("THAWED", ""))
    daemon.go_on()
    _settles(agent, hog)
    assert hog.frozen() == ""
    assert hog.happened().count("die") == 1, agent.story()


def test_a_hold_does_not_outlive_an_agent_that_is_told_to_end(
    host: SimHost, make_agent: MakeAgent, containers: Containers, daemon: Daemon
) -> None:
    agent = make_agent(host, policy(ladder=LONG_HOLD)).start()
    agent.until_seen(2)
    fuse = lay(containers, host)
    hog = fuse.container
    until_named(agent, hog)
    daemon.hang()
    fuse.light()
    until_frozen(agent, hog)
    assert agent.stop() == 0
    assert hog.frozen() == "THAWED"
    daemon.go_on()
    agent.start()
    _settles(agent, hog)


MOMENTS = [
    ("action_ordered", Kind.WARN),
    ("action_ordered", Kind.FREEZE),
    ("action_concluded", Kind.RESTART_OFF),
    ("action_ordered", Kind.TERM),
    ("action_concluded", Kind.TERM),
    ("action_ordered", Kind.KILL),
    ("action_concluded", Kind.KILL),
]


@pytest.mark.parametrize(("event", "kind"), MOMENTS)
def test_killed_at_a_moment_of_an_eviction(
    host: SimHost, node: MakeNode, containers: Containers, event: str, kind: Kind
) -> None:
    agent = node()
    hog = containers.hog("--ignore-term", restart="always")
    agent.until(f"{event} {kind.value}", lambda: agent.events(event, kind=kind.value))
    agent.kill()
    agent.start()
    _settles(agent, hog)
    assert hog.inspect()["RestartCount"] == 0
    assert [e for e in hog.happened() if e in ("start", "die", "unpause")] == ["start", "die"]
    assert hog.frozen() == ""
    stones = agent.view().tombstones
    assert sum(len(stone.evicted_wall) for stone in stones) <= 1
    assert bytes_on(host) == 0


def test_killed_again_and_again_it_gets_there(
    host: SimHost, node: MakeNode, containers: Containers
) -> None:
    agent = node()
    hog = containers.hog("--ignore-term", restart="always")
    for event, kind in MOMENTS:
        if not hog.is_running():
            break
        before = len(agent.events(event, kind=kind.value))
        agent.until(
            f"{event} {kind.value}, or it is dead",
            lambda: len(agent.events(event, kind=kind.value)) > before or not hog.is_running(),  # noqa: B023
        )
        agent.kill()
        agent.start()
    _settles(agent, hog)
    assert [e for e in hog.happened() if e in ("start", "die")] == ["start", "die"]
    until_dead(agent, hog)
