"""What every adapter that knows or stops an owner promises, whatever it is asked."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.adapters.containerd import Containerd
from gpuwarden.adapters.cri import Cri
from gpuwarden.adapters.cri_door import CriDoor
from gpuwarden.adapters.docker_client import DockerDoor
from gpuwarden.adapters.dockerd import Docker
from gpuwarden.adapters.firstof import FirstOf, OnlyWhere
from gpuwarden.adapters.lxc import Lxc
from gpuwarden.adapters.nested import ByCgroup, ByPlace
from gpuwarden.adapters.pgrp import ProcessGroups
from gpuwarden.adapters.podman import Podman
from gpuwarden.adapters.procfs import ProcFs
from gpuwarden.adapters.runtimes import HostRuntimes
from gpuwarden.adapters.slurm import Slurm
from gpuwarden.adapters.systemd import Systemd
from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import SystemClock
from gpuwarden.errors import GpuwardenError, Refused, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import CgroupId, DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner
from gpuwarden.ports import Cgroups, Processes, Runtime, Runtimes

CLOCK = SystemClock()
GPU = DeviceId("GPU-x")


def absent(name: str) -> Tool:
    return Tool(name=name, clock=CLOCK, timeout_s=1.0, path="/nonexistent")


def no_cri() -> Cri:
    return Cri((CriDoor("unix:///nonexistent", 1.0, CLOCK),))


RUNTIMES: dict[str, Callable[[], Runtime]] = {
    "docker": lambda: Docker(DockerDoor("unix:///nonexistent", 1.0, CLOCK), None),
    "podman": lambda: Podman(absent("podman")),
    "containerd": lambda: Containerd(absent("ctr"), CLOCK),
    "cri": no_cri,
    "pods": lambda: FirstOf((no_cri(), Containerd(absent("ctr"), CLOCK))),
    "no-docker": lambda: OnlyWhere(no_cri(), lambda: False, "no Docker here"),
    "slurm": lambda: Slurm(absent("squeue"), absent("scancel"), CLOCK),
    "systemd": lambda: Systemd(absent("systemctl"), CLOCK),
    "lxc": lambda: Lxc(absent("lxc-info"), absent("lxc-stop")),
    "inside": lambda: ByPlace(
        Docker(DockerDoor("unix:///nonexistent", 1.0, CLOCK), None),
        ByCgroup(CgroupFs(), CLOCK, 1.0, lambda: ProcFs(None)),
    ),
    "pgrp": lambda: ProcessGroups(CLOCK, 1.0, lambda: ProcFs(None)),
}
PORTS: tuple[type[Processes] | type[Cgroups] | type[Runtimes], ...] = (
    ProcFs,
    CgroupFs,
    HostRuntimes,
)
"""Read by mypy: each class fulfils its Protocol."""

KINDS = ("docker", "podman", "cri", "pod", "slurm", "unit", "lxc", "nspawn", "container", "")
names = st.builds(
    lambda kind, rest: TenantId(f"{kind}:{rest}"), st.sampled_from(KINDS), st.text(max_size=80)
)
owners = st.builds(
    CgroupOwner,
    runtime=st.sampled_from(("docker", "podman", "slurm", "lxc", "systemd-service", "unknown")),
    cgroup_path=st.none() | st.text(max_size=60).map(lambda text: f"/{text}"),
    leaf_path=st.none(),
    container_id=st.none() | st.text(max_size=80),
    unit=st.none() | st.text(max_size=40),
    job_id=st.none() | st.text(max_size=20),
    name=st.none() | st.text(max_size=40),
)


@pytest.mark.parametrize("make", RUNTIMES.values(), ids=RUNTIMES.keys())
@settings(max_examples=60, deadline=None)
@given(tenant=names, old=st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3))
def test_no_name_gets_past_a_runtime(
    make: Callable[[], Runtime], tenant: TenantId, old: dict[str, str]
) -> None:
    """Nothing is there to act on, so a call does nothing or raises one of the four errors."""
    runtime = make()
    target = Target(tenant=tenant, runtime="x", cgroup=CgroupId(path="/nowhere", inode=1))
    calls: tuple[Callable[[], object], ...] = (
        lambda: runtime.stop(target, 0.0),
        lambda: runtime.restart_off(target),
        lambda: runtime.restart_back(target, old),
        lambda: runtime.relocate(target, GPU, 0),
        lambda: runtime.restart(target, 0.0),
    )
    for call in calls:
        with suppress(GpuwardenError):
            call()


@pytest.mark.parametrize("make", RUNTIMES.values(), ids=RUNTIMES.keys())
@settings(max_examples=60, deadline=None)
@given(owner=owners)
def test_no_owner_is_described_by_guessing(make: Callable[[], Runtime], owner: CgroupOwner) -> None:
    with pytest.raises(GpuwardenError):
        make().describe(owner)


@pytest.mark.parametrize("make", RUNTIMES.values(), ids=RUNTIMES.keys())
def test_without_its_tool_a_runtime_says_so(make: Callable[[], Runtime]) -> None:
    target = Target(tenant=TenantId("docker:nobody"), runtime="docker")
    with pytest.raises((Refused, Unsupported)):
        make().stop(target, 0.0)
