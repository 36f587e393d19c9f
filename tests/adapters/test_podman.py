"""The Podman runtime against real containers of the private Podman of scripts/services."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.adapters.cgroup_owner import owner_of_pid
from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.adapters.podman import Podman
from gpuwarden.adapters.tenancy import tenant_of_owner
from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import TenantId
from gpuwarden.model.owner import CgroupOwner
from tests.adapters.trees import soon, wait_gone

IMAGE = "localhost/gpuwarden-test:busybox"
A = "3ccfa00432798ff38f85839de1e396f771b4acbe9f4ddea0a761c39b9790a782"


def env() -> dict[str, str]:
    """The private Podman of scripts/services."""
    names = ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF")
    return {name: os.environ[name] for name in names if name in os.environ}


@pytest.fixture
def runtime() -> Podman:
    return Podman(Tool(name="podman", clock=SystemClock(), timeout_s=20.0, env=env()), CgroupFs())


def podman(*args: str, is_checked: bool = True) -> str:
    """The podman CLI with the tests' own storage; its output without the last line break."""
    done = subprocess.run(
        ["podman", *args], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 or not is_checked, done.stderr
    return done.stdout.strip()


@contextmanager
def container(
    *options: str, command: tuple[str, ...] = ("sleep", "300")
) -> Iterator[tuple[str, CgroupOwner]]:
    """A running container and its owner."""
    made = podman("run", "--detach", *options, IMAGE, *command)
    try:
        owner = owner_of_pid(init_pid(made))
        assert owner is not None
        yield made, owner
    finally:
        podman("unpause", made, is_checked=False)
        podman("rm", "--force", "--time=0", made, is_checked=False)


def init_pid(made: str) -> int:
    return int(podman("inspect", "--format={{.State.Pid}}", made))


def target_of(owner: CgroupOwner) -> Target:
    tenant = tenant_of_owner(owner)
    assert tenant is not None
    return Target(tenant=tenant, runtime="podman", cgroup=CgroupFs().locate(owner))


@pytest.mark.podman
def test_describe(runtime: Podman) -> None:
    more = ("--label=gpuwarden.class=low", "--env=NVIDIA_VISIBLE_DEVICES=1", "--name=gw-box")
    with container(*more, "--restart=on-failure:2") as (made, owner):
        assert (owner.runtime, owner.container_id) == ("podman", made)
        facts = runtime.describe(owner)
        assert facts.tenant == f"podman:{made}"
        assert (facts.name, facts.restart_policy) == ("gw-box", "on-failure:2")
        assert ("gpuwarden.class", "low") in facts.labels
        assert facts.visible_devices == ("1",)
        with pytest.raises(Refused, match="not in /elsewhere"):
            runtime.describe(replace(owner, cgroup_path=f"/elsewhere/libpod-{made}"))
        with pytest.raises(Refused, match="does not know"):
            runtime.describe(
                replace(owner, container_id=A, cgroup_path=f"/libpod_parent/libpod-{A}")
            )


@pytest.mark.podman
@pytest.mark.parametrize("grace_s", [0.0, 1.0])
def test_stop_ends_who_ignores_term(runtime: Podman, grace_s: float) -> None:
    trap = ("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    with container(command=trap) as (made, owner):
        pid = init_pid(made)
        runtime.stop(target_of(owner), grace_s)
        assert wait_gone(pid)
        assert podman("inspect", "--format={{.State.Running}}", made) == "false"
        runtime.stop(Target(tenant=TenantId(f"podman:{made}"), runtime="podman"), grace_s)


@pytest.mark.podman
def test_one_that_is_removed_when_it_ends_was_stopped(runtime: Podman) -> None:
    with container("--rm", "--restart=no") as (made, owner):
        runtime.stop(target_of(owner), 0.2)
        assert soon(lambda: podman("ps", "--all", "--quiet", "--filter", f"id={made}") == "")


@pytest.mark.podman
def test_paused_container_dies_as_it_stands(runtime: Podman) -> None:
    with container() as (made, owner):
        podman("pause", made)
        assert runtime.describe(owner).is_paused
        runtime.stop(target_of(owner), 5.0)
        assert podman("inspect", "--format={{.State.Running}}", made) == "false"


@pytest.mark.podman
def test_restart_policy(runtime: Podman) -> None:
    """Podman 5.1 and later can change it; an older one says so and changes nothing."""
    with container("--restart=always") as (made, owner):
        target = target_of(owner)
        form = "--format={{.HostConfig.RestartPolicy.Name}}"
        if "--restart" not in podman("update", "--help"):
            with pytest.raises(Unsupported, match=r"needs 5\.1"):
                runtime.restart_off(target)
            assert podman("inspect", form, made) == "always"
            return
        old = runtime.restart_off(target)
        assert podman("inspect", form, made) == "no"
        runtime.restart_back(target, old)
        assert podman("inspect", form, made) == "always"


@pytest.mark.podman
@pytest.mark.parametrize("wait_for_it", [False, True])
def test_one_that_podman_starts_again_is_stopped_for_good(
    runtime: Podman, wait_for_it: bool
) -> None:
    """It was killed, not stopped: Podman starts it again, and may have done so when the stop comes."""
    with container("--restart=always") as (made, owner):
        target, pid = target_of(owner), init_pid(made)
        os.kill(pid, signal.SIGKILL)
        assert wait_gone(pid)
        if wait_for_it:
            assert soon(lambda: init_pid(made) not in (0, pid), 30.0)
        runtime.stop(replace(target, cgroup=None), 0.0)
        pause = threading.Event()
        for _ in range(5):
            assert podman("inspect", "--format={{.State.Running}}", made) == "false"
            pause.wait(0.5)


class Looking(Podman):
    """Tells when it has looked for the first time."""

    def __init__(self, tool: Tool) -> None:
        super().__init__(tool)
        self.has_looked = threading.Event()

    def _look(self, target: Target, *, was_stopped: bool) -> Mapping[str, Any] | None:
        raw = super()._look(target, was_stopped=was_stopped)
        self.has_looked.set()
        return raw


@pytest.mark.podman
def test_one_that_somebody_starts_meanwhile_is_another_run() -> None:
    runtime = Looking(Tool(name="podman", clock=SystemClock(), timeout_s=20.0, env=env()))
    with container("--restart=always") as (made, owner):
        target = target_of(owner)
        podman("stop", "--time=0", made)
        with ThreadPoolExecutor(1) as pool:
            stopped = pool.submit(runtime.stop, replace(target, cgroup=None), 0.0)
            assert runtime.has_looked.wait(60)
            podman("start", made)
            stopped.result(60)
        assert podman("inspect", "--format={{.State.Running}}", made) == "true"


def test_containers_of_a_user_are_not_the_system_s() -> None:
    tool = Tool(name="podman", clock=SystemClock(), timeout_s=1.0, path="/nonexistent")
    runtime = Podman(tool)
    for tenant in (f"podman:{A}@uid1000", "podman:short", f"podman:{A[:-1]} --all"):
        with pytest.raises(Refused):
            runtime.stop(Target(tenant=TenantId(tenant), runtime="podman"), 0)
    with pytest.raises(Unsupported, match="no podman"):
        runtime.stop(Target(tenant=TenantId(f"podman:{A}"), runtime="podman"), 0)


@pytest.mark.parametrize("output", ["", "{", "[]", "null", "[7]", '[{"Id": "x"}]', "[" * 90_000])
def test_garbage_of_a_fake_podman(tmp_path: Path, output: str) -> None:
    (tmp_path / "out").write_text(output)
    (tmp_path / "podman").write_text(f"#!/bin/sh\nexec cat {tmp_path}/out\n")
    (tmp_path / "podman").chmod(0o755)
    tool = Tool(name="podman", clock=SystemClock(), timeout_s=5.0, path=f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(Unavailable):
        Podman(tool).stop(Target(tenant=TenantId(f"podman:{A}"), runtime="podman"), 0)


@pytest.mark.podman
def test_restart_is_another_run_and_never_of_one_that_was_stopped(runtime: Podman) -> None:
    with container() as (made, owner):
        target = target_of(owner)
        before = podman("inspect", "--format={{.State.StartedAt}}", made)
        runtime.restart(target, 0.0)
        assert podman("inspect", "--format={{.State.StartedAt}}", made) != before
        podman("stop", "--time=0", made)
        with pytest.raises(Refused):
            runtime.restart(target, 0.0)
