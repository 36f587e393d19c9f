"""Real containers on the private Docker: workloads of the simulated driver, and what became of them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuwarden.sim.host import SimHost
from tests.e2e.agent import Agent

IMAGE = "gpuwarden-test:busybox"
ASK_TIMEOUT_S = 60.0
CGROUP = Path("/sys/fs/cgroup")

POLICY = """
[docker]
host = "{docker}"
[nvml]
limiter = "{limiter}"
[quota]
warmup_s = "100ms"
{quota_more}
[ladder]
tombstone_window_s = "{window}"
{ladder}
[sampling]
list_every_s = "500ms"
[[tenant]]
match = {{name = "hog-*"}}
class = "low"
memory = "{quota}"
grace = "{grace}"
[[tenant]]
match = {{name = "safe-*"}}
class = "protected"
memory = "2GiB"
memory_max = "40GiB"
[[tenant]]
match = {{name = "soft-*"}}
class = "low"
memory = "20GiB"
memory_soft = "{soft}"
"""


FAST_SOFT = """
soft_hold_s = "500ms"
throttle_after_s = "500ms"
clear_hold_s = "500ms"
"""


def policy(
    *,
    quota: str = "8GiB",
    quota_more: str = "",
    grace: str = "300ms",
    soft: str = "20GiB",
    limiter: str = "none",
    window: str = "2s",
    ladder: str = "",
    mode: str = "enforce",
    docker_host: str = "",
) -> str:
    """A drop-in. The preventive limiter is off unless asked for: it would keep a hog from its sin."""
    return f'[agent]\nmode = "{mode}"\n' + POLICY.format(
        docker=docker_host or os.environ["DOCKER_HOST"],
        quota=quota,
        quota_more=quota_more,
        grace=grace,
        soft=soft,
        limiter=limiter,
        window=window,
        ladder=ladder,
    )


def docker(*words: str, check: bool = True, daemon: str = "") -> str:
    """One ``docker`` command at the private daemon, or at another one's address; its output."""
    where = ["--host", daemon] if daemon else []
    done = subprocess.run(
        ["docker", *where, *words],
        capture_output=True,
        text=True,
        timeout=ASK_TIMEOUT_S,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def daemon_pid() -> int:
    """Who answers at the private daemon's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(os.environ["DOCKER_HOST"].removeprefix("unix://"))
        peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", peer)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container by its full id."""

    id: str
    name: str
    daemon: str = ""

    def inspect(self) -> dict[str, Any]:
        found = json.loads(docker("inspect", "--type=container", self.id, daemon=self.daemon))[0]
        assert isinstance(found, dict)
        return found

    def state(self) -> dict[str, Any]:
        state = self.inspect()["State"]
        assert isinstance(state, dict)
        return state

    def is_running(self) -> bool:
        return bool(self.state()["Running"])

    def pid(self) -> int:
        """The host pid of its first process; 0 when it does not run."""
        return int(self.state()["Pid"])

    def restart_policy(self) -> str:
        return str(self.inspect()["HostConfig"]["RestartPolicy"]["Name"])

    def group(self, controller: str) -> Path:
        """Its group in one hierarchy of cgroup v1."""
        return CGROUP / controller / "docker" / self.id

    def setting(self, controller: str, file: str) -> str:
        """A file of its group; empty when the group is gone."""
        try:
            return (self.group(controller) / file).read_text().strip()
        except OSError:
            return ""

    def pids(self) -> list[int]:
        """Everything in it, children too."""
        return [int(word) for word in self.setting("freezer", "cgroup.procs").split()]

    def frozen(self) -> str:
        return self.setting("freezer", "freezer.state")

    def happened(self) -> list[str]:
        """Docker's events of it so far, in order."""
        events = docker(
            *("events", "--since", "0", "--until", "0s", "--filter", f"container={self.id}"),
            *("--format", "{{.Action}}"),
            daemon=self.daemon,
        )
        return events.split("\n") if events else []


class Containers:
    """Starts workloads of one simulated host in containers, and removes them all again."""

    def __init__(self, host: SimHost, daemon: str = "") -> None:
        self._host = host
        self._daemon = daemon
        self._ids: list[str] = []

    def run(
        self,
        role: str,
        *words: str,
        name: str = "",
        labels: Mapping[str, str] | None = None,
        restart: str = "no",
        device: int | str = 0,
        program: str = "/sim/workload",
        network: str = "none",
        options: Sequence[str] = (),
    ) -> Container:
        """``docker run`` of ``workload WORDS``; its name begins with ``role``."""
        name = name or f"{role}-{uuid.uuid4().hex[:8]}"
        folder, built = self._host.folder, self._host.built.folder
        given = [*options, "--detach", f"--network={network}", f"--name={name}"]
        given += [
            f"--restart={restart}",
            f"--volume={folder}:{folder}",
            f"--volume={built}:/sim:ro",
        ]
        given += [f"--env=GPUWARDEN_SIM_DIR={folder}", f"--env=NVIDIA_VISIBLE_DEVICES={device}"]
        given += [f"--label={key}={value}" for key, value in (labels or {}).items()]
        ident = docker("run", *given, IMAGE, program, *words, daemon=self._daemon)
        self._ids.append(ident)
        return Container(id=ident, name=name, daemon=self._daemon)

    def hog(self, *more: str, size: str = "12GiB", **options: Any) -> Container:
        """Holds ``size`` almost at once, over its quota of 8 GiB."""
        return self.run("hog", "hog", "--size", size, "--rate", "30GiB/s", *more, **options)

    def idle(self, role: str, *, device: int | str, **options: Any) -> Container:
        """It was given a GPU and never opens it."""
        return self.run(role, "600", program="sleep", device=device, **options)

    def hold(self, role: str, size: str, **options: Any) -> Container:
        return self.run(role, "hold", "--size", size, **options)

    def close(self) -> None:
        """A frozen process obeys no signal on cgroup v1, KILL included: it is let go first."""
        for ident in self._ids:
            state = CGROUP / "freezer" / "docker" / ident / "freezer.state"
            with contextlib.suppress(OSError):
                state.write_text("THAWED")
            docker("unpause", ident, check=False, daemon=self._daemon)
        if self._ids:
            docker(*("rm", "--force", "--volumes", *self._ids), check=False, daemon=self._daemon)


def bytes_on(host: SimHost, device: int = 0) -> int:
    used = host.control("info")["devices"][device]["used"]
    assert isinstance(used, int)
    return used


def until_dead(agent: Agent, container: Container) -> None:
    agent.until(f"{container.name} is dead", lambda: not container.is_running())


def until_named(agent: Agent, container: Container) -> None:
    """Until Docker has told the agent who it is."""
    agent.until(
        f"{container.name} is described",
        lambda: (tenant := agent.tenant(container.name)) and tenant.is_described,
    )
