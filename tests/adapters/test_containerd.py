"""The containerd runtime (ctr, nerdctl: no pods) against the private containerd, in namespace ``default``."""

import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.adapters.cgroup_owner import owner_of, owner_of_pid
from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.adapters.containerd import Containerd
from gpuwarden.adapters.tenancy import tenant_of_owner
from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner
from tests.adapters.trees import remove_empty_groups, soon, wait_gone

needs_containerd = pytest.mark.containerd
A = "3ccfa00432798ff38f85839de1e396f771b4acbe9f4ddea0a761c39b9790a782"


OWNER = owner_of(f"0::/default/{A}\n")


def address() -> str:
    return os.environ["CONTAINERD_ADDRESS"]


@pytest.fixture
def runtime() -> Containerd:
    tool = Tool(name="ctr", clock=SystemClock(), timeout_s=20.0)
    return Containerd(tool, SystemClock(), CgroupFs(), address=address())


def ctr(*args: str, is_checked: bool = True) -> str:
    done = subprocess.run(
        ["ctr", "--address", address(), "--namespace", "default", *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0 or not is_checked, done.stderr
    return done.stdout


@contextmanager
def container(
    tmp_path: Path,
    *options: str,
    command: tuple[str, ...] = ("/bin/sleep", "300"),
    name: str = "",
) -> Iterator[tuple[str, CgroupOwner]]:
    busybox = shutil.which("busybox")
    assert busybox is not None
    root = tmp_path / "rootfs"
    (root / "bin").mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for applet in ("sh", "sleep"):
        (root / "bin" / applet).symlink_to("busybox")
    made = name or f"gw-{uuid.uuid4().hex[:10]}"
    ctr("run", "--detach", *options, "--rootfs", str(root), made, *command)
    try:
        owner = owner_of_pid(pids_of(made)[0])
        assert owner is not None
        yield made, owner
    finally:
        ctr("containers", "label", made, "containerd.io/restart.status=", is_checked=False)
        ctr("tasks", "resume", made, is_checked=False)
        ctr("tasks", "kill", "--signal=SIGKILL", "--all", made, is_checked=False)
        ctr("tasks", "delete", "--force", made, is_checked=False)
        ctr("containers", "delete", made, is_checked=False)
        remove_empty_groups("default")


def pids_of(made: str) -> list[int]:
    """The first process of a container, where it runs."""
    rows = [line.split() for line in ctr("tasks", "list").splitlines()]
    return [int(row[1]) for row in rows if row[0] == made and row[2] == "RUNNING"]


def target_of(owner: CgroupOwner) -> Target:
    tenant = tenant_of_owner(owner)
    assert tenant is not None
    return Target(tenant=tenant, runtime="containerd", cgroup=CgroupFs().locate(owner))


@needs_containerd
def test_describe(runtime: Containerd, tmp_path: Path) -> None:
    labels = ("--label=gpuwarden.class=low", "--label=nerdctl/name=box")
    with container(tmp_path, *labels) as (made, owner):
        assert (owner.runtime, owner.container_id) == ("containerd", made)
        facts = runtime.describe(owner)
        assert (facts.tenant, facts.name, facts.described) == (f"cri:{made}", "box", True)
        assert facts.labels[0] == ("gpuwarden.class", "low")
        assert facts.owner_key == "containerd:default/box"
        ctr("tasks", "pause", made)
        assert runtime.describe(owner).is_paused
        with pytest.raises(Refused, match="not in /default/other"):
            runtime.describe(replace(owner, cgroup_path="/default/other"))
        with pytest.raises(Refused, match="does not know"):
            runtime.describe(replace(owner, container_id="nobody"))


@needs_containerd
def test_labels_of_a_pod_are_those_of_its_sandbox(runtime: Containerd, tmp_path: Path) -> None:
    pod = (
        *("--label=gpuwarden.class=low", "--label=io.kubernetes.pod.name=web-5d9c7b-x2x9z"),
        *("--label=io.kubernetes.pod.namespace=shop", "--label=pod-template-hash=5d9c7b"),
    )
    (tmp_path / "pod").mkdir()
    (tmp_path / "app").mkdir()
    with container(tmp_path / "pod", *pod) as (sandbox, _):
        more = (
            f"--annotation=io.kubernetes.cri.sandbox-id={sandbox}",
            "--label=io.kubernetes.container.name=app",
        )
        with container(tmp_path / "app", *more) as (_, owner):
            facts = runtime.describe(owner)
            assert ("gpuwarden.class", "low") in facts.labels
            assert facts.owner_key == "kubernetes:shop/web/app"


@needs_containerd
@pytest.mark.parametrize("grace_s", [0.0, 0.5])
@pytest.mark.parametrize(
    "command",
    [
        ("/bin/sleep", "300"),
        ("/bin/sh", "-c", "trap '' TERM; /bin/sleep 300 & while :; do /bin/sleep 1; done"),
    ],
)
def test_stop(
    runtime: Containerd, tmp_path: Path, command: tuple[str, ...], grace_s: float
) -> None:
    with container(tmp_path, command=command) as (made, owner):
        target = target_of(owner)
        assert target.cgroup is not None
        pids = CgroupFs().members(target.cgroup)
        runtime.stop(target, grace_s)
        assert all(wait_gone(pid) for pid in pids)
        runtime.stop(Target(tenant=TenantId(f"cri:{made}"), runtime="containerd"), grace_s)


@needs_containerd
def test_paused_container_dies_as_it_stands(runtime: Containerd, tmp_path: Path) -> None:
    with container(tmp_path) as (made, owner):
        target = target_of(owner)
        ctr("tasks", "pause", made)
        runtime.stop(target, 5.0)
        assert "RUNNING" not in ctr("tasks", "list")


@needs_containerd
def test_restart_label(runtime: Containerd, tmp_path: Path) -> None:
    """What nerdctl's --restart sets and containerd's restart monitor reads."""
    label = "containerd.io/restart.status"
    with container(tmp_path, f"--label={label}=running") as (made, owner):
        target = target_of(owner)
        assert runtime.restart_off(target) == {label: "running"}
        assert f'"{label}": "stopped"' in ctr("containers", "info", made)
        runtime.restart_back(target, {label: "running"})
        assert f'"{label}": "running"' in ctr("containers", "info", made)
        with pytest.raises(Refused):
            runtime.restart_back(target, {label: "maybe"})


@needs_containerd
def test_what_containerd_restarts_stays_down(runtime: Containerd, tmp_path: Path) -> None:
    """containerd's own restart monitor brings back who is merely killed."""
    with container(tmp_path, "--label=containerd.io/restart.status=running") as (made, owner):
        (first,) = pids_of(made)
        ctr("tasks", "kill", "--signal=SIGKILL", made)
        assert wait_gone(first)
        assert soon(lambda: pids_of(made) not in ([], [first]), 30.0), "it comes back"
        (second,) = pids_of(made)
        runtime.stop(target_of(owner), 0.0)
        assert wait_gone(second)
        assert '"containerd.io/restart.status": "stopped"' in ctr("containers", "info", made)
        pause = threading.Event()
        for _ in range(5):  # five turns of the monitor
            pause.wait(1.0)
            assert pids_of(made) == []


@needs_containerd
def test_a_name_that_is_used_again_is_told_by_its_group(
    runtime: Containerd, tmp_path: Path
) -> None:
    """Names of ctr and nerdctl are free again when a container is gone; the group's inode is not."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with container(tmp_path / "one") as (made, owner):
        target = target_of(owner)
        runtime.stop(target, 0.0)
    with pytest.raises(Refused, match="does not know it"):
        runtime.stop(target, 0.0)
    with container(tmp_path / "two", name=made) as (again, other):
        assert (again, other.cgroup_path) == (made, owner.cgroup_path)
        fresh = target_of(other)
        assert fresh.tenant == target.tenant
        assert fresh.cgroup != target.cgroup
        assert target.cgroup is not None
        with pytest.raises(Refused):  # what the agent compares before it asks for the stop
            CgroupFs().is_populated(target.cgroup)


@pytest.mark.parametrize(
    "tenant",
    ["cri:--all", "cri:a b", "cri:", f"cri:{A}@{A}", "docker:x", "pod:u/..", f"cri:{'a' * 77}"],
)
def test_tenants_that_name_no_container(tenant: str) -> None:
    nothing = Tool(name="ctr", clock=SystemClock(), timeout_s=1.0, path="/nonexistent")
    runtime = Containerd(nothing, SystemClock(), address="/dev/null")
    with pytest.raises(Refused):
        runtime.stop(Target(tenant=TenantId(tenant), runtime="containerd"), 0)
    with pytest.raises(Unsupported, match="no ctr"):
        runtime.stop(Target(tenant=TenantId(f"cri:{A}"), runtime="containerd"), 0)
    with pytest.raises(Unsupported, match="no containerd at /nonexistent"):
        Containerd(nothing, SystemClock(), address="/nonexistent").describe(OWNER)


def test_containerd_that_is_away(tmp_path: Path) -> None:
    left_behind = tmp_path / "containerd.sock"
    left_behind.touch()
    tool = Tool(
        name="ctr",
        clock=SystemClock(),
        timeout_s=5.0,
        options=("--connect-timeout=300ms", "--timeout=300ms"),
    )
    if tool.where() is None:
        tool = replace(tool, path=str(tmp_path))
        (tmp_path / "ctr").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "ctr").chmod(0o755)
    runtime = Containerd(tool, SystemClock(), address=str(left_behind))
    target = Target(tenant=TenantId(f"cri:{A}"), runtime="containerd")
    with pytest.raises(Unavailable):
        runtime.stop(target, 0)
    left_behind.unlink()
    with pytest.raises(Unavailable):  # it was there: it is down, not elsewhere
        runtime.stop(target, 0)
    with pytest.raises(Unsupported):
        runtime.relocate(target, DeviceId("GPU-x"), 0)
