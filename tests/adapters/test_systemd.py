"""The systemd runtime: units of a real systemd where one is init, and a fake systemctl elsewhere."""

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.adapters.cgroup_owner import owner_of, owner_of_pid
from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.adapters.systemd import Systemd
from gpuwarden.adapters.tenancy import tenant_of_owner
from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import CgroupId, DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner
from tests.adapters.trees import soon, wait_gone


@pytest.fixture
def runtime() -> Systemd:
    clock = SystemClock()
    return Systemd(Tool(name="systemctl", clock=clock, timeout_s=20.0), clock, CgroupFs())


@contextmanager
def unit(*options: str, command: str = "exec sleep 300") -> Iterator[tuple[str, int, CgroupOwner]]:
    """A transient service: its name, main pid and owner."""
    name = f"gw-{uuid.uuid4().hex[:10]}.service"
    start = ["systemd-run", f"--unit={name}", "--quiet", *options, "sh", "-c", command]
    subprocess.run(start, check=True, timeout=60)
    try:
        pid = int(shown(name, "MainPID"))
        owner = owner_of_pid(pid)
        assert owner is not None
        yield name, pid, owner
    finally:
        subprocess.run(["systemctl", "kill", "--signal=KILL", name], check=False, timeout=60)
        subprocess.run(["systemctl", "stop", name], check=False, timeout=60)
        subprocess.run(["systemctl", "reset-failed", name], check=False, timeout=60)


def shown(name: str, key: str) -> str:
    done = subprocess.run(
        ["systemctl", "show", f"--property={key}", "--value", name],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip()


def target_of(owner: CgroupOwner) -> Target:
    tenant = tenant_of_owner(owner)
    assert tenant is not None
    return Target(tenant=tenant, runtime=owner.runtime, cgroup=CgroupFs().locate(owner))


@pytest.mark.systemd
def test_describe(runtime: Systemd) -> None:
    with unit("--property=User=nobody", "--property=Restart=on-failure") as (name, _, owner):
        assert (owner.runtime, owner.unit) == ("systemd-service", name)
        facts = runtime.describe(owner)
        assert (facts.tenant, facts.name) == (f"unit:{name}", name)
        assert (facts.user, facts.restart_policy) == ("nobody", "on-failure")
        assert facts.described
        with pytest.raises(Refused, match="not in /elsewhere"):
            runtime.describe(replace(owner, cgroup_path=f"/elsewhere/{name}"))
        with pytest.raises(Refused, match="no unit"):
            runtime.describe(replace(owner, unit="gw-none.service", cgroup_path="/x"))


RESTARTS = ("--property=Restart=always", "--property=RestartSec=0")
DEAF = "trap '' TERM; sleep 300 & while :; do sleep 1; done"


@pytest.mark.systemd
@pytest.mark.parametrize("grace_s", [0.0, 1.0])
@pytest.mark.parametrize("command", ["exec sleep 300", DEAF])
@pytest.mark.parametrize("mode", ["control-group", "process", "none"])
def test_stop_leaves_nothing_running(
    runtime: Systemd, command: str, grace_s: float, mode: str
) -> None:
    with unit(*RESTARTS, f"--property=KillMode={mode}", command=command) as (name, pid, owner):
        target = target_of(owner)
        runtime.stop(target, grace_s)
        assert wait_gone(pid)
        assert shown(name, "ActiveState") in ("inactive", "failed")
        assert CgroupFs().locate(owner) is None
        runtime.stop(replace(target, cgroup=None), grace_s)


@pytest.mark.systemd
def test_unit_that_is_killed_after_its_restarts_are_off_stays_down(runtime: Systemd) -> None:
    """The same without: systemd has started another one by the time anybody looks."""
    with unit(*RESTARTS, command=DEAF) as (name, pid, owner):
        target = target_of(owner)
        assert target.cgroup is not None
        CgroupFs().kill(target.cgroup)
        assert soon(lambda: shown(name, "MainPID") not in ("0", str(pid)))
        with pytest.raises(Refused, match="another one now"):
            runtime.restart_off(target)

        pid = int(shown(name, "MainPID"))
        target = target_of(owner)
        assert target.cgroup is not None
        assert runtime.restart_off(target) == {"restart_policy": "always"}
        CgroupFs().kill(target.cgroup)
        assert wait_gone(pid)
        assert soon(lambda: shown(name, "ActiveState") in ("inactive", "failed"))
        runtime.restart_back(target, {"restart_policy": "always"})


@pytest.mark.systemd
def test_scope(runtime: Systemd) -> None:
    name = f"gw-{uuid.uuid4().hex[:10]}.scope"
    run = ["systemd-run", "--scope", f"--unit={name}", "--quiet", "sleep", "300"]
    with subprocess.Popen(run) as process:
        while (owner := owner_of_pid(process.pid)) is None or owner.unit != name:
            assert process.poll() is None
        assert owner.runtime == "systemd-scope"
        runtime.stop(target_of(owner), 2.0)
        assert process.wait(30) != 0


def fake(folder: Path, body: str) -> Systemd:
    """A fake systemctl: this machine's init may be something else."""
    path = folder / "systemctl"
    path.write_text(f'#!/bin/sh\necho "$*" >> {folder}/calls\n{body}\n')
    path.chmod(0o755)
    clock = SystemClock()
    return Systemd(
        Tool(name="systemctl", clock=clock, timeout_s=0.5, path=f"{folder}:/usr/bin:/bin"), clock
    )


SERVICE = Target(
    tenant=TenantId("unit:train@0.service"),
    runtime="systemd-service",
    cgroup=CgroupId(path="/system.slice/train@0.service", inode=1),
)
SHOW = """
if [ "$1" = show ]; then
    state=active group=/system.slice/train@0.service
    [ ! -e "$0.down" ] || { state=inactive group=; }
    [ ! -e "$0.left" ] || state=inactive
    printf 'Id=train@0.service\\nLoadState=loaded\\nActiveState=%s\\n' $state
    printf 'Restart=always\\nUser=alice\\nControlGroup=%s\\n' $group
    printf 'Description=x\\nActiveState=inactive\\n'
fi
"""


def calls(folder: Path) -> list[str]:
    return [line for line in (folder / "calls").read_text().splitlines() if line[:4] != "show"]


def test_fake_systemctl_obeyed(tmp_path: Path) -> None:
    runtime = fake(tmp_path, SHOW + '[ "$1" != stop ] || touch "$0.down"')
    runtime.stop(SERVICE, 5.0)
    assert calls(tmp_path) == ["stop --no-block -- train@0.service"]
    runtime.stop(SERVICE, 5.0)
    assert len(calls(tmp_path)) == 1, "it is down already"


def test_fake_systemctl_kills_who_does_not_stop(tmp_path: Path) -> None:
    runtime = fake(tmp_path, SHOW + '[ "$1" != kill ] || touch "$0.down"')
    runtime.stop(SERVICE, 0.2)
    assert calls(tmp_path) == [
        "stop --no-block -- train@0.service",
        "kill --signal=SIGKILL -- train@0.service",
    ]


def test_fake_systemctl_that_leaves_processes_behind(tmp_path: Path) -> None:
    runtime = fake(
        tmp_path, SHOW + '[ "$1" != stop ] || touch "$0.left"; [ "$1" != kill ] || touch "$0.down"'
    )
    runtime.stop(SERVICE, 0.2)
    assert [call.split()[0] for call in calls(tmp_path)] == ["stop", "kill"]


def test_fake_systemctl_takes_the_order_that_keeps_it_down(tmp_path: Path) -> None:
    runtime = fake(tmp_path, SHOW)
    assert runtime.restart_off(SERVICE) == {"restart_policy": "always"}
    assert calls(tmp_path) == ["stop --no-block -- train@0.service"]
    with pytest.raises(Refused, match="not in"):
        runtime.restart_off(replace(SERVICE, cgroup=CgroupId(path="/elsewhere", inode=1)))
    with pytest.raises(Refused, match="serves the whole host"):
        runtime.restart_off(replace(SERVICE, tenant=TenantId("unit:docker.service")))
    assert len(calls(tmp_path)) == 1


def test_fake_systemctl_that_does_not_obey(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="still up"):
        fake(tmp_path, SHOW).stop(SERVICE, 0.1)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("exit 1", Unavailable),
        ("sleep 60", Unavailable),
        ("echo ControlGroup=/system.slice/other.service", Refused),
        ("echo 'System has not been booted with systemd as init' >&2; exit 1", Unsupported),
    ],
)
def test_answers_of_a_fake_systemctl(tmp_path: Path, body: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        fake(tmp_path, body).stop(SERVICE, 0.1)


def test_unit_that_a_fake_systemctl_does_not_know(tmp_path: Path) -> None:
    runtime = fake(tmp_path, "echo LoadState=not-found; echo ActiveState=inactive")
    runtime.stop(SERVICE, 0.1)
    assert calls(tmp_path) == [], "it is down already"
    with pytest.raises(Refused, match="no unit"):
        runtime.describe(owner_of("0::/system.slice/train@0.service"))


@pytest.mark.parametrize(
    "tenant",
    [
        "unit:--force.service",
        "unit:a b.service",
        "unit:../x.service",
        "unit:x.slice",
        "unit:x.service;reboot.service",
        "unit:",
        "docker:x",
        "nspawn:web",
        "unit:docker.service",
        "unit:ssh.service",
        "unit:gpuwarden-agent.service",
    ],
)
def test_tenants_that_name_no_unit_to_stop(tmp_path: Path, tenant: str) -> None:
    runtime = fake(tmp_path, SHOW)
    with pytest.raises(Refused):
        runtime.stop(Target(tenant=TenantId(tenant), runtime="systemd-service"), 0)
    assert not (tmp_path / "calls").exists()


def test_machine_is_stopped_by_its_unit(tmp_path: Path) -> None:
    path = "/machine.slice/systemd-nspawn@web.service"
    body = SHOW.replace("group=/system.slice/train@0.service", f"group={path}")
    runtime = fake(tmp_path, body + '[ "$1" != stop ] || touch "$0.down"')
    cgroup = CgroupId(path=path, inode=1)
    runtime.stop(Target(tenant=TenantId("nspawn:web"), runtime="nspawn", cgroup=cgroup), 1.0)
    assert calls(tmp_path) == ["stop --no-block -- systemd-nspawn@web.service"]


@pytest.mark.systemd(outside=True)
def test_real_systemctl_where_systemd_is_not_the_init(tmp_path: Path) -> None:
    path = tmp_path / "systemctl"
    hidden = 'mount -t tmpfs tmpfs /run; exec /usr/bin/systemctl "$@"'
    path.write_text(f"#!/bin/sh\nexec unshare --mount sh -c '{hidden}' sh \"$@\"\n")
    path.chmod(0o755)
    clock = SystemClock()
    tool = Tool(name="systemctl", clock=clock, timeout_s=20.0, path=f"{tmp_path}:/usr/bin:/bin")
    runtime = Systemd(tool, clock)
    with pytest.raises(Unsupported, match="not the running init"):
        runtime.stop(replace(SERVICE, cgroup=None), 0.1)
    with pytest.raises(Unsupported, match="not the running init"):
        runtime.restart_off(SERVICE)
    with pytest.raises(Unsupported):
        runtime.relocate(SERVICE, DeviceId("GPU-x"), 0)


@pytest.mark.systemd
@pytest.mark.parametrize("command", ["exec sleep 300", DEAF])
def test_restart_is_another_run_of_the_unit(runtime: Systemd, command: str) -> None:
    with unit("--property=Restart=no", command=command) as (name, pid, owner):
        before = shown(name, "InvocationID")
        runtime.restart(target_of(owner), 0.5)
        assert wait_gone(pid)
        assert shown(name, "InvocationID") != before
        assert shown(name, "ActiveState") in ("active", "activating")


@pytest.mark.systemd
def test_restart_refuses_what_is_not_up(runtime: Systemd) -> None:
    with unit() as (name, _, owner):
        target = target_of(owner)
        subprocess.run(["systemctl", "stop", name], check=True, timeout=60)
        with pytest.raises(Refused):
            runtime.restart(target, 0.0)
