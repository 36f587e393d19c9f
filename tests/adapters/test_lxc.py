"""The LXC runtime against a real guest."""

import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.adapters.cgroup_owner import owner_of_pid
from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.adapters.lxc import Lxc
from gpuwarden.adapters.tenancy import tenant_of_owner
from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import TenantId
from gpuwarden.model.owner import CgroupOwner
from tests.adapters.trees import remove_empty_groups, soon, wait_gone


def lxc(path: Path) -> Lxc:
    def tool(name: str) -> Tool:
        return Tool(name=name, clock=SystemClock(), timeout_s=20.0, options=(f"--lxcpath={path}",))

    return Lxc(tool("lxc-info"), tool("lxc-stop"))


@contextmanager
def guest(path: Path, init: str) -> Iterator[tuple[str, int, CgroupOwner]]:
    """A running guest: its name, the host pid of its init and its owner."""
    name = f"gw{uuid.uuid4().hex[:8]}"
    root = path / name / "rootfs"
    for folder in ("bin", "dev", "proc", "sys", "etc", "tmp"):
        (root / folder).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin/busybox")
    for program in ("sh", "sleep"):
        (root / "bin" / program).symlink_to("busybox")
    (root / "init").write_text(f"#!/bin/sh\n{init}\n")
    (root / "init").chmod(0o755)
    settings = [
        f"lxc.rootfs.path = dir:{root}",
        "lxc.net.0.type = empty",
        "lxc.apparmor.profile = unconfined",
        "lxc.mount.auto = proc:mixed",
        "lxc.init.cmd = /init",
        "lxc.signal.halt = SIGTERM",
    ]
    (path / name / "config").write_text("\n".join(settings) + "\n")
    run = ["--name", name, "--lxcpath", str(path)]
    subprocess.run(["lxc-start", *run], check=True, capture_output=True, timeout=60)
    try:
        told = subprocess.run(
            ["lxc-info", *run, "--pid", "--no-humanize"],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        pid = int(told.stdout)
        owner = owner_of_pid(pid)
        assert owner is not None
        yield name, pid, owner
    finally:
        subprocess.run(["lxc-unfreeze", *run], check=False, capture_output=True, timeout=60)
        subprocess.run(["lxc-stop", *run, "--kill"], check=False, capture_output=True, timeout=60)
        remove_empty_groups("lxc.pivot")


def target_of(owner: CgroupOwner) -> Target:
    tenant = tenant_of_owner(owner)
    assert tenant is not None
    return Target(tenant=tenant, runtime="lxc", cgroup=CgroupFs().locate(owner))


@pytest.mark.lxc
@pytest.mark.serial
def test_describe(tmp_path: Path) -> None:
    with guest(tmp_path, "exec sleep 300") as (name, _, owner):
        assert (owner.runtime, owner.name) == ("lxc", name)
        facts = lxc(tmp_path).describe(owner)
        assert (facts.tenant, facts.name) == (f"lxc:{name}", name)
        assert facts.described
        assert not facts.is_paused
        run = ["--name", name, "--lxcpath", str(tmp_path)]
        subprocess.run(["lxc-freeze", *run], check=True, timeout=60)
        assert lxc(tmp_path).describe(owner).is_paused
        with pytest.raises(Refused, match="not in /lxc/"):
            lxc(tmp_path).describe(replace(owner, cgroup_path=f"/lxc/{name}"))


@pytest.mark.lxc
@pytest.mark.serial
@pytest.mark.parametrize("grace_s", [0.0, 1.0])
@pytest.mark.parametrize("init", ["exec sleep 300", "trap '' TERM; while :; do sleep 1; done"])
def test_stop(tmp_path: Path, init: str, grace_s: float) -> None:
    with guest(tmp_path, init) as (name, pid, owner):
        lxc(tmp_path).stop(target_of(owner), grace_s)
        assert wait_gone(pid)
        lxc(tmp_path).stop(Target(tenant=TenantId(f"lxc:{name}"), runtime="lxc"), grace_s)


@pytest.mark.lxc
@pytest.mark.serial
def test_a_guest_that_shuts_down_has_its_time(tmp_path: Path) -> None:
    """A part of a second is a whole one, and the guest's init is asked before it is killed."""
    init = "trap 'echo down > /tmp/said; exit 0' TERM; sleep 300 & while :; do sleep 0.1; done"
    with guest(tmp_path, init) as (name, pid, owner):
        assert soon(lambda: _handles_term(pid))
        lxc(tmp_path).stop(target_of(owner), 0.3)
        assert wait_gone(pid)
        assert (tmp_path / name / "rootfs/tmp/said").read_text() == "down\n"


def _handles_term(pid: int) -> bool:
    """Whether its shell has come to the trap."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    handled = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
    return bool(handled & 1 << (signal.SIGTERM - 1))


@pytest.mark.lxc
@pytest.mark.serial
@pytest.mark.parametrize("grace_s", [0.0, 30.0])
def test_a_frozen_guest_dies_as_it_stands(tmp_path: Path, grace_s: float) -> None:
    with guest(tmp_path, "trap 'exit 0' TERM; while :; do sleep 0.1; done") as (name, pid, owner):
        run = ["--name", name, "--lxcpath", str(tmp_path)]
        subprocess.run(["lxc-freeze", *run], check=True, timeout=60)
        lxc(tmp_path).stop(target_of(owner), grace_s)
        assert wait_gone(pid)


@pytest.mark.lxc
@pytest.mark.serial
def test_guest_that_lxc_does_not_know(tmp_path: Path) -> None:
    """LXD and Incus name their guests' groups the same way."""
    with pytest.raises(Refused, match="does not know"):
        lxc(tmp_path).stop(Target(tenant=TenantId("lxc:nobody"), runtime="lxc"), 0)


@pytest.mark.parametrize(
    "tenant", ["lxc:", "lxc:--kill", "lxc:a b", "lxc:../x", "lxc:web@uid1000", "unit:web"]
)
def test_tenants_that_name_no_guest(tmp_path: Path, tenant: str) -> None:
    with pytest.raises(Refused):
        lxc(tmp_path).stop(Target(tenant=TenantId(tenant), runtime="lxc"), 0)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("exit 1", Unavailable),
        ("echo 'web does not start'; exit 9", Unavailable),
        ("echo State: RUNNING", Unavailable),
        (r"printf 'PID: x\377\n'", Unavailable),
    ],
)
def test_answers_of_a_fake_lxc(tmp_path: Path, body: str, error: type[Exception]) -> None:
    for name in ("lxc-info", "lxc-stop"):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)

    def tool(name: str) -> Tool:
        return Tool(name=name, clock=SystemClock(), timeout_s=5.0, path=f"{tmp_path}:/usr/bin:/bin")

    fake = Lxc(tool("lxc-info"), tool("lxc-stop"))
    with pytest.raises(error):
        fake.stop(Target(tenant=TenantId("lxc:web"), runtime="lxc"), 0)


def test_without_lxc() -> None:
    nothing = Tool(name="lxc-info", clock=SystemClock(), timeout_s=1.0, path="/nonexistent")
    with pytest.raises(Unsupported, match="no lxc-info"):
        Lxc(nothing, nothing).stop(Target(tenant=TenantId("lxc:web"), runtime="lxc"), 0)
