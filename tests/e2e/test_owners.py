"""Every other kind of owner with a manager of its own, for real: who is over quota ends and stays down."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gpuwarden.model.action import Kind, Result
from gpuwarden.sim.host import SimHost
from tests.adapters.trees import remove_empty_groups
from tests.e2e.agent import Agent, MakeAgent
from tests.e2e.containers import bytes_on

pytestmark = pytest.mark.root

POLICY = """
[nvml]
limiter = "none"
[quota]
warmup_s = "100ms"
[ladder]
tombstone_window_s = "60s"
[sampling]
list_every_s = "500ms"
[[tenant]]
match = { name = "*" }
class = "low"
memory = "8GiB"
grace = "3s"
"""
HOG = ("hog", "--size", "12GiB", "--rate", "30GiB/s")
PODMAN_IMAGE = "localhost/gpuwarden-test:busybox"


def tool(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 or not check, f"{' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


class Manager(ABC):
    """One kind of owner: starts workloads that it would start again if it could."""

    stops_in_runtime = True
    """Whether the agent tells the manager, beside ending the processes."""

    def __init__(self, host: SimHost, folder: Path) -> None:
        self.host, self.folder = host, folder
        self.made: list[str] = []

    def env(self) -> dict[str, str]:
        return {"GPUWARDEN_SIM_DIR": str(self.host.folder), "NVIDIA_VISIBLE_DEVICES": "0"}

    @abstractmethod
    def start(self, *words: str) -> str:
        """Runs ``workload WORDS``; the tenant's id."""

    @abstractmethod
    def start_again(self, tenant: str) -> str:
        """The same once more, as a person or a script would; its id."""

    @abstractmethod
    def is_up(self, tenant: str) -> bool:
        """Whether the manager runs it, or is about to."""

    @abstractmethod
    def close(self) -> None: ...


class Podman(Manager):
    """A container whose restart policy nobody can switch off before Podman 5.1."""

    def start(self, *words: str) -> str:
        folder, built = self.host.folder, self.host.built.folder
        options = [f"--volume={one}:{one}" for one in (folder, built)]
        options += [f"--env={key}={value}" for key, value in self.env().items()]
        image = (PODMAN_IMAGE, str(self.host.built.workload))
        ident = tool("podman", "run", "--detach", "--restart=always", *options, *image, *words)
        self.made.append(ident)
        return f"podman:{ident}"

    def start_again(self, tenant: str) -> str:
        tool("podman", "start", tenant.partition(":")[2])
        return tenant

    def is_up(self, tenant: str) -> bool:
        ident = tenant.partition(":")[2]
        return tool("podman", "inspect", "--format={{.State.Status}}", ident) != "exited"

    def close(self) -> None:
        for ident in self.made:
            tool("podman", "rm", "--force", "--time=0", ident, check=False)


class Slurm(Manager):
    """A job that Slurm may queue again."""

    def start(self, *words: str) -> str:
        exports = "".join(f"export {key}='{value}'\n" for key, value in self.env().items())
        batch = self.folder / "batch.sh"
        command = " ".join((str(self.host.built.workload), *words))
        batch.write_text(f"#!/bin/sh\n{exports}exec {command}\n")
        return self.start_again("")

    def start_again(self, tenant: str) -> str:
        batch = self.folder / "batch.sh"
        job = tool("sbatch", "--parsable", "--requeue", "--output=/dev/null", str(batch))
        self.made.append(job)
        return f"slurm:{job}"

    def is_up(self, tenant: str) -> bool:
        job = tenant.partition(":")[2]
        state = tool("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}")
        return state in ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED")

    def close(self) -> None:
        for job in self.made:
            tool("scancel", "--signal=KILL", "--full", job, check=False)
            tool("scancel", job, check=False)


class Lxc(Manager):
    """A guest in LXC's own place, where the agent finds it; its init is the workload."""

    stops_in_runtime = False
    place = Path("/var/lib/lxc")

    def start(self, *words: str) -> str:
        name = f"gw{uuid.uuid4().hex[:8]}"
        root = self.place / name / "rootfs"
        folder, built = self.host.folder, self.host.built.folder
        for one in ("bin", "dev", "proc", "sys", "tmp", str(folder)[1:], str(built)[1:]):
            (root / one).mkdir(parents=True, exist_ok=True)
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, root / "bin/sh")
        exports = "".join(f"export {key}='{value}'\n" for key, value in self.env().items())
        command = " ".join((str(self.host.built.workload), *words))
        (root / "init").write_text(f"#!/bin/sh\n{exports}exec {command}\n")
        (root / "init").chmod(0o755)
        settings = [
            f"lxc.rootfs.path = dir:{root}",
            "lxc.net.0.type = empty",
            "lxc.apparmor.profile = unconfined",
            "lxc.mount.auto = proc:mixed",
            "lxc.init.cmd = /init",
            *(
                f"lxc.mount.entry = {one} {str(one)[1:]} none bind,create=dir 0 0"
                for one in (folder, built)
            ),
        ]
        (self.place / name / "config").write_text("\n".join(settings) + "\n")
        self.made.append(name)
        return self.start_again(f"lxc:{name}")

    def start_again(self, tenant: str) -> str:
        tool("lxc-start", "--name", tenant.partition(":")[2])
        return tenant

    def is_up(self, tenant: str) -> bool:
        name = tenant.partition(":")[2]
        return tool("lxc-info", "--name", name, "--state", "--no-humanize") != "STOPPED"

    def close(self) -> None:
        for name in self.made:
            tool("lxc-unfreeze", "--name", name, check=False)
            tool("lxc-stop", "--name", name, "--kill", check=False)
            shutil.rmtree(self.place / name, ignore_errors=True)
        remove_empty_groups("lxc.pivot")


Make = Callable[[SimHost, Path], Manager]
KINDS = [
    pytest.param(Podman, marks=pytest.mark.podman),
    pytest.param(Slurm, marks=pytest.mark.slurm),
    pytest.param(Lxc, marks=pytest.mark.lxc),
]


@pytest.fixture
def manager(make: Make, host: SimHost, folder: Path) -> Iterator[Manager]:
    made = make(host, folder)
    yield made
    made.close()


@pytest.fixture
def agent(host: SimHost, make_agent: MakeAgent) -> Agent:
    made = make_agent(host, POLICY).start()
    made.until_seen(2)
    return made


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("more", [(), ("--ignore-term",)], ids=["meek", "stubborn"])
def test_over_quota_is_ended_and_stays_down(
    host: SimHost, manager: Manager, agent: Agent, more: Sequence[str]
) -> None:
    tenant = manager.start(*HOG, *more)
    agent.until("it is over", lambda: bytes_on(host) == 0 and _is_settled(agent, tenant))
    agent.until("its manager knows", lambda: not manager.is_up(tenant))
    agent.always("it stays down", lambda: not manager.is_up(tenant), for_s=3.0)
    assert bytes_on(host) == 0
    done = {o.kind for o in agent.diary.outcomes(result=Result.DONE)}
    assert (Kind.STOP in done) or not manager.stops_in_runtime, agent.story()
    assert (Kind.KILL in done) or not more, agent.story()
    (stone,) = agent.view().tombstones
    assert len(stone.evicted_wall) == 1, "once was enough"


@pytest.mark.parametrize("make", KINDS)
def test_whose_owner_starts_it_again_and_again_is_held(
    host: SimHost, manager: Manager, agent: Agent
) -> None:
    """The fourth time it is stopped in its runtime, well within its quota."""
    fuse = host.folder / "grow"
    words = (*HOG, "--start-size", "1GiB", "--start-when", str(fuse))
    tenant = ""
    for turn in range(3):
        fuse.touch()
        tenant = manager.start_again(tenant) if turn else manager.start(*words)
        agent.until(f"turn {turn} is over", lambda: len(_closed(agent)) > turn)  # noqa: B023
        agent.until("its manager knows", lambda: not manager.is_up(tenant))  # noqa: B023
    fuse.unlink()
    last = manager.start_again(tenant)
    agent.until("it is held", lambda: len(_closed(agent)) == 4)
    agent.until("its manager knows", lambda: not manager.is_up(last))
    agent.always("it stays down", lambda: not manager.is_up(last), for_s=2.0)
    held = [i for i in agent.view().incidents if i.rule == "tombstone"]
    assert [i.tenant for i in held] == [last], agent.story()
    assert agent.diary.outcomes(Kind.STOP, result=Result.DONE)
    assert [stone.is_paged for stone in agent.view().tombstones] == [True]


def _closed(agent: Agent) -> list[str]:
    return [i.id for i in agent.view().incidents if i.closed_at is not None]


def _is_settled(agent: Agent, tenant: str) -> bool:
    """It had an incident, and none is open."""
    found = [i for i in agent.view().incidents if i.tenant == tenant]
    return bool(found) and all(i.closed_at is not None for i in found)
