"""cgroupfs on the kernel's own files: v1 controllers and the v2 tree, in groups of our own."""

import signal
import subprocess

import pytest

from gpuwarden.adapters.cgroup_tree import Group
from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.errors import Refused
from gpuwarden.model.ids import CgroupId
from gpuwarden.model.owner import CgroupOwner
from gpuwarden.model.tenant import HostLimits
from tests.adapters.trees import (
    CGROUP_ROOT,
    identity,
    join,
    real_group,
    real_hierarchies,
    sleeper,
    soon,
    unkept,
)

HERE = real_hierarchies() or ["."]
FREEZABLE = [name for name in HERE if name in ("freezer", "unified", ".")]


def group_of(path: str) -> CgroupOwner:
    return CgroupOwner(runtime="docker", cgroup_path=path, leaf_path=path)


def located(cgroups: CgroupFs, path: str) -> CgroupId:
    cgroup = cgroups.locate(group_of(path))
    assert cgroup is not None
    return cgroup


@pytest.mark.root
@pytest.mark.parametrize("hierarchy", HERE)
def test_real_group_is_killed_whole(hierarchy: str) -> None:
    cgroups = CgroupFs()
    with real_group(hierarchy) as path, sleeper() as one, sleeper() as two, sleeper() as bystander:
        (CGROUP_ROOT / hierarchy / path[1:] / "below").mkdir()
        join(one.pid, path, hierarchy)
        join(two.pid, f"{path}/below", hierarchy)
        cgroup = located(cgroups, path)
        assert cgroup.hierarchy == identity(hierarchy)
        assert set(cgroups.members(cgroup)) == {one.pid, two.pid}
        assert cgroups.is_populated(cgroup)
        assert cgroups.kill(cgroup) == 2
        assert one.wait(10) == two.wait(10) == -signal.SIGKILL
        assert soon(lambda: not cgroups.is_populated(cgroup))
        assert bystander.poll() is None


class Removed(CgroupFs):
    """Beside a manager that removes a group the moment its last member is dead, as LXC's monitor does."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        super().__init__()
        self._process = process

    def _set_frozen(self, group: Group, is_frozen: bool) -> None:
        super()._set_frozen(group, is_frozen)
        if not is_frozen:
            self._process.wait(10)
            directory = CGROUP_ROOT / group.hierarchy / group.path[1:]
            assert soon(lambda: not (directory / "cgroup.procs").read_text())
            directory.rmdir()
            super()._set_frozen(group, is_frozen)


@pytest.mark.root
@pytest.mark.skipif("freezer" not in HERE, reason="v2 kills by cgroup.kill")
def test_a_group_that_its_manager_removes_in_the_middle_was_killed() -> None:
    with real_group("freezer") as path, sleeper() as process:
        (CGROUP_ROOT / "freezer" / path[1:] / "below").mkdir()
        join(process.pid, f"{path}/below", "freezer")
        cgroups = Removed(process)
        assert cgroups.kill(located(cgroups, f"{path}/below")) == 1


@pytest.mark.root
@pytest.mark.parametrize("hierarchy", FREEZABLE)
def test_real_freeze_holds_and_a_frozen_group_dies(hierarchy: str) -> None:
    cgroups = CgroupFs()
    with real_group(hierarchy) as path, sleeper() as process:
        join(process.pid, path, hierarchy)
        cgroup = located(cgroups, path)
        cgroups.freeze(cgroup)
        assert soon(lambda: cgroups.is_frozen(cgroup))
        cgroups.thaw(cgroup)
        assert not cgroups.is_frozen(cgroup)
        cgroups.freeze(cgroup)
        assert soon(lambda: cgroups.is_frozen(cgroup))
        assert cgroups.kill(cgroup) == 1
        assert process.wait(10) == -signal.SIGKILL


@pytest.mark.root
@pytest.mark.parametrize("hierarchy", HERE)
def test_real_fork_swarm_dies(hierarchy: str) -> None:
    """Children that outrun a single listing; at most 400 a burst, niced."""
    script = "i=0; while :; do i=$((i+1)); (sleep 20 &) ; [ $i -ge 400 ] && exec sleep 20; done"
    cgroups = CgroupFs()
    with real_group(hierarchy) as path:
        enter = (
            f"echo $$ > {CGROUP_ROOT / hierarchy}{path}/cgroup.procs; renice -n 10 $$ >&2; {script}"
        )
        with sleeper(("/bin/sh", "-c", enter)) as swarm:
            cgroup = located(cgroups, path)
            while len(cgroups.members(cgroup)) < 20:
                assert swarm.poll() is None
            assert cgroups.kill(cgroup) > 0
            assert soon(lambda: list(cgroups.members(cgroup)) == [])


@pytest.mark.root
def test_real_group_made_again_is_refused() -> None:
    cgroups = CgroupFs()
    with real_group(HERE[0]) as path, sleeper() as process:
        cgroup = located(cgroups, path)
        (CGROUP_ROOT / HERE[0] / path[1:]).rmdir()
        assert not cgroups.is_same(cgroup)
        (CGROUP_ROOT / HERE[0] / path[1:]).mkdir()
        join(process.pid, path, HERE[0])
        assert not cgroups.is_same(cgroup)
        with pytest.raises(Refused):
            cgroups.kill(cgroup)
        assert process.poll() is None


if {"freezer", "memory", "cpu"} <= set(HERE):

    @pytest.mark.root
    def test_real_v1_limits_are_written_read_back_and_restored() -> None:
        cgroups = CgroupFs()
        hierarchies = ("freezer", "memory", "cpu")
        with real_group(*hierarchies) as path, sleeper() as process:
            join(process.pid, path, *hierarchies)
            cgroup = located(cgroups, path)
            memory, cpu = CGROUP_ROOT / "memory" / path[1:], CGROUP_ROOT / "cpu" / path[1:]
            odd_bytes = 256 * 1024 * 1024 + 123  # the kernel rounds to pages
            old = cgroups.limit(cgroup, HostLimits(memory_bytes=odd_bytes, cpu_cores=0.5))
            assert int((memory / "memory.limit_in_bytes").read_text()) == 256 * 1024 * 1024
            assert (cpu / "cpu.cfs_quota_us").read_text() == "50000\n"
            slow = cgroups.throttle(
                cgroup, cpu_cores=0.2, memory_high_bytes=64 * 1024 * 1024, keep=unkept
            )
            assert (cpu / "cpu.shares").read_text() == "2\n"
            assert (cpu / "cpu.cfs_quota_us").read_text() == "20000\n"
            cgroups.restore(cgroup, slow)
            cgroups.restore(cgroup, old)
            assert (cpu / "cpu.cfs_quota_us").read_text() == "-1\n"
            assert (cpu / "cpu.shares").read_text() == "1024\n"
            assert int((memory / "memory.limit_in_bytes").read_text()) > 2**62


@pytest.mark.root
def test_real_group_above_this_process_is_refused() -> None:
    """The test's own processes stand in for the agent's."""
    cgroups = CgroupFs()
    with real_group(HERE[0]) as path, subprocess.Popen(["sleep", "60"]) as child:
        join(child.pid, path, HERE[0])
        mine = CgroupFs(own_cgroups=lambda: f"8:pids:{path}\n")
        with pytest.raises(Refused):
            mine.kill(located(mine, path))
        assert child.poll() is None
        assert cgroups.kill(located(cgroups, path)) == 1
