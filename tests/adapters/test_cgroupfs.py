"""cgroupfs: recorded v2 and v1 trees, and the kernel's own files where there is root."""

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from gpuwarden.adapters.cgroup_owner import owner_of
from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.errors import GpuwardenError, Refused, Unavailable, Unsupported
from gpuwarden.model.ids import CgroupId
from gpuwarden.model.owner import CgroupOwner
from gpuwarden.model.tenant import HostLimits
from tests.adapters.trees import (
    build,
    unkept,
)

ID = "3ccfa00432798ff38f85839de1e396f771b4acbe9f4ddea0a761c39b9790a782"
GIB = 2**30
V2 = f"""
cgroup.controllers: cpuset cpu io memory pids
system.slice/cgroup.procs:
system.slice/docker-{ID}.scope/cgroup.procs: 4001\\n4002
system.slice/docker-{ID}.scope/cgroup.events: populated 1\\nfrozen 0
system.slice/docker-{ID}.scope/cgroup.freeze: 0
system.slice/docker-{ID}.scope/cpu.weight: 100
system.slice/docker-{ID}.scope/cpu.max: max 100000
system.slice/docker-{ID}.scope/memory.current: 1073741824
system.slice/docker-{ID}.scope/memory.high: max
system.slice/docker-{ID}.scope/memory.max: max
system.slice/docker-{ID}.scope/memory.pressure: some avg10=1.50 avg60=0.17 avg300=1.11 total=5\\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=1
system.slice/docker-{ID}.scope/inner/cgroup.procs: 4003
bare.slice/cgroup.procs: 4004
bare.slice/cgroup.freeze: 0
"""
V1 = f"""
freezer/cgroup.procs: 1
freezer/docker/{ID}/cgroup.procs: 4001
freezer/docker/{ID}/freezer.state: THAWED
cpu,cpuacct/cgroup.procs: 1
cpu,cpuacct/docker/{ID}/cgroup.procs: 4001
cpu,cpuacct/docker/{ID}/cpu.shares: 1024
cpu,cpuacct/docker/{ID}/cpu.cfs_quota_us: -1
cpu,cpuacct/docker/{ID}/cpu.cfs_period_us: 100000
memory/cgroup.procs: 1
memory/docker/{ID}/cgroup.procs: 4001
memory/docker/{ID}/memory.usage_in_bytes: 1073741824
memory/docker/{ID}/memory.limit_in_bytes: 9223372036854771712
memory/docker/{ID}/memory.soft_limit_in_bytes: 9223372036854771712
systemd/cgroup.procs: 1
systemd/system.slice/train.service/cgroup.procs: 4005
"""
SCOPE = f"/system.slice/docker-{ID}.scope"


def group_of(path: str) -> CgroupOwner:
    return CgroupOwner(runtime="docker", cgroup_path=path, leaf_path=path)


def located(cgroups: CgroupFs, path: str) -> CgroupId:
    cgroup = cgroups.locate(group_of(path))
    assert cgroup is not None
    return cgroup


def nobody() -> str:
    return "0::/system.slice/gpuwarden.service\n"


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    return build(tmp_path, V2)


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    return build(tmp_path, V1)


def test_v2_group_is_located_and_read(v2: Path) -> None:
    cgroups = CgroupFs(str(v2), nobody)
    cgroup = located(cgroups, SCOPE)
    assert cgroup == CgroupId(path=SCOPE, inode=os.stat(v2 / SCOPE[1:]).st_ino, hierarchy="")
    assert cgroups.is_same(cgroup)
    assert list(cgroups.members(cgroup)) == [4001, 4002, 4003]
    assert cgroups.is_populated(cgroup)
    assert not cgroups.is_frozen(cgroup)
    assert cgroups.pressure(cgroup)["memory_full_avg10"] == 0.25


@pytest.mark.parametrize(
    "path", [None, "/", "", "relative", "/../x", "/system.slice/..", "/a//b", "/nowhere", "/a\0b"]
)
def test_paths_that_are_no_group_to_act_on(v2: Path, path: str | None) -> None:
    owner = CgroupOwner(runtime="unknown", cgroup_path=path, leaf_path=path)
    assert CgroupFs(str(v2), nobody).locate(owner) is None


def test_relative_owner_is_never_located(v2: Path) -> None:
    assert CgroupFs(str(v2), nobody).locate(owner_of(f"0::/../..{SCOPE}\n")) is None


def test_v2_throttle_and_back(v2: Path) -> None:
    cgroups = CgroupFs(str(v2), nobody)
    cgroup = located(cgroups, SCOPE)
    old = cgroups.throttle(cgroup, cpu_cores=0.2, memory_high_bytes=GIB, keep=unkept)
    files = v2 / SCOPE[1:]
    assert (files / "cpu.weight").read_text() == "1"
    assert (files / "cpu.max").read_text() == "20000 100000"
    assert (files / "memory.high").read_text() == str(GIB)
    assert old == {"cpu.weight": "100", "cpu.max": "max 100000", "memory.high": "max"}
    cgroups.restore(cgroup, old)
    assert (files / "cpu.max").read_text() == "max 100000"
    assert (files / "memory.high").read_text() == "max"


def test_how_it_was_is_told_before_anything_is_changed(v2: Path) -> None:
    cgroups = CgroupFs(str(v2), nobody)
    cgroup = located(cgroups, SCOPE)
    weight = v2 / SCOPE[1:] / "cpu.weight"
    told: list[Mapping[str, str]] = []

    def refuse(old: Mapping[str, str]) -> None:
        told.append(old)
        assert weight.read_text() == "100\n"
        raise Unavailable("the journal cannot be written")

    with pytest.raises(Unavailable, match="journal"):
        cgroups.throttle(cgroup, cpu_cores=0.2, memory_high_bytes=None, keep=refuse)
    assert told == [{"cpu.weight": "100", "cpu.max": "max 100000"}]
    assert weight.read_text() == "100\n"


def test_v2_limit_leaves_room_below_the_quota(v2: Path) -> None:
    cgroups = CgroupFs(str(v2), nobody)
    cgroup = located(cgroups, SCOPE)
    old = cgroups.limit(cgroup, HostLimits(memory_bytes=10 * GIB, cpu_cores=2))
    files = v2 / SCOPE[1:]
    assert (files / "memory.high").read_text() == str(9 * GIB)
    assert (files / "memory.max").read_text() == str(10 * GIB)
    assert (files / "cpu.max").read_text() == "200000 100000"
    assert old == {"memory.high": "max", "memory.max": "max", "cpu.max": "max 100000"}


def test_limit_below_use_kills_nobody(v2: Path) -> None:
    cgroups = CgroupFs(str(v2), nobody)
    old = cgroups.limit(located(cgroups, SCOPE), HostLimits(memory_bytes=GIB // 2))
    assert old == {"memory.high": "max"}
    assert (v2 / SCOPE[1:] / "memory.max").read_text() == "max\n"


def test_tighter_limits_of_others_stay(v2: Path) -> None:
    files = v2 / SCOPE[1:]
    (files / "memory.max").write_text(str(2 * GIB))
    (files / "memory.high").write_text(str(GIB))
    (files / "cpu.max").write_text("10000 100000")
    cgroups = CgroupFs(str(v2), nobody)
    cgroup = located(cgroups, SCOPE)
    assert cgroups.limit(cgroup, HostLimits(memory_bytes=8 * GIB, cpu_cores=4)) == {}
    assert cgroups.throttle(cgroup, cpu_cores=0.2, memory_high_bytes=4 * GIB, keep=unkept) == {
        "cpu.weight": "100"
    }


def test_period_of_the_group_is_kept(v2: Path) -> None:
    (v2 / SCOPE[1:] / "cpu.max").write_text("max 50000")
    cgroups = CgroupFs(str(v2), nobody)
    cgroups.throttle(located(cgroups, SCOPE), cpu_cores=0.5, memory_high_bytes=None, keep=unkept)
    assert (v2 / SCOPE[1:] / "cpu.max").read_text() == "25000 50000"


def test_missing_controller_is_named(v2: Path) -> None:
    cgroups = CgroupFs(str(v2), nobody)
    bare = located(cgroups, "/bare.slice")
    with pytest.raises(Unsupported, match="cpu and memory"):
        cgroups.throttle(bare, cpu_cores=0.2, memory_high_bytes=GIB, keep=unkept)
    with pytest.raises(Unsupported, match="memory controller"):
        cgroups.limit(bare, HostLimits(memory_bytes=GIB))
    with pytest.raises(Unsupported, match="pressure"):
        cgroups.pressure(bare)


def test_v1_controllers_lie_in_their_own_hierarchies(v1: Path) -> None:
    cgroups = CgroupFs(str(v1), nobody)
    cgroup = located(cgroups, f"/docker/{ID}")
    assert cgroup.hierarchy == "freezer"
    old = cgroups.limit(cgroup, HostLimits(memory_bytes=10 * GIB, cpu_cores=1.5))
    memory = v1 / "memory/docker" / ID
    assert (memory / "memory.limit_in_bytes").read_text() == str(10 * GIB)
    assert (memory / "memory.soft_limit_in_bytes").read_text() == str(9 * GIB)
    assert (v1 / "cpu,cpuacct/docker" / ID / "cpu.cfs_quota_us").read_text() == "150000"
    cgroups.restore(cgroup, old)
    assert (v1 / "cpu,cpuacct/docker" / ID / "cpu.cfs_quota_us").read_text() == "-1"
    assert cgroups.throttle(cgroup, cpu_cores=0.2, memory_high_bytes=None, keep=unkept) == {
        "cpu.shares": "1024",
        "cpu.cfs_quota_us": "-1",
    }


def test_v1_directory_of_other_processes_is_left_alone(v1: Path) -> None:
    (v1 / "memory/docker" / ID / "cgroup.procs").write_text("4001\n9999\n")
    cgroups = CgroupFs(str(v1), nobody)
    with pytest.raises(Unsupported, match="memory"):
        cgroups.limit(located(cgroups, f"/docker/{ID}"), HostLimits(memory_bytes=GIB))
    assert (v1 / "memory/docker" / ID / "memory.limit_in_bytes").read_text().startswith("9223")


def test_v1_unit_without_controllers_has_members_only(v1: Path) -> None:
    cgroups = CgroupFs(str(v1), nobody)
    cgroup = located(cgroups, "/system.slice/train.service")
    assert (cgroup.hierarchy, list(cgroups.members(cgroup))) == ("systemd", [4005])
    with pytest.raises(Unsupported, match="freezer"):
        cgroups.freeze(cgroup)
    with pytest.raises(Unsupported, match="memory"):
        cgroups.limit(cgroup, HostLimits(memory_bytes=GIB))


@pytest.mark.parametrize(
    "own",
    [SCOPE, f"{SCOPE}/agent"],
)
def test_group_of_the_agent_is_refused(v2: Path, own: str) -> None:
    cgroups = CgroupFs(str(v2), lambda: f"3:cpu:/\n0::{own}\n")
    cgroup = located(cgroups, SCOPE)
    for harm in (cgroups.freeze, cgroups.kill):
        with pytest.raises(Refused, match="agent"):
            harm(cgroup)
    with pytest.raises(Refused, match="agent"):
        cgroups.throttle(cgroup, cpu_cores=1, memory_high_bytes=None, keep=unkept)
    assert (v2 / SCOPE[1:] / "cgroup.freeze").read_text() == "0\n"


@pytest.mark.parametrize("pid", [1, os.getpid()], ids=["init", "agent"])
def test_group_that_holds_the_agent_or_init_is_refused(v2: Path, pid: int) -> None:
    (v2 / SCOPE[1:] / "inner/cgroup.procs").write_text(f"{pid}\n")
    cgroups = CgroupFs(str(v2), nobody)
    with pytest.raises(Refused, match="agent itself or init"):
        cgroups.kill(located(cgroups, SCOPE))


def test_group_made_again_is_another_one(v2: Path) -> None:
    cgroups = CgroupFs(str(v2), nobody)
    cgroup = located(cgroups, SCOPE)
    other = CgroupId(path=cgroup.path, inode=cgroup.inode + 1, hierarchy="")
    assert not cgroups.is_same(other)
    for call in (cgroups.freeze, cgroups.kill, cgroups.thaw, cgroups.members, cgroups.is_populated):
        with pytest.raises(Refused, match="another one"):
            call(other)
    with pytest.raises(Refused, match="another one"):
        cgroups.restore(other, {"cpu.weight": "100"})


@pytest.mark.parametrize(
    ("name", "value"),
    [("cgroup.procs", "1"), ("../cgroup.freeze", "1"), ("cpu.max", "1\n2"), ("memory.max", "$(x)")],
)
def test_ledger_garbage_is_not_restored(v2: Path, name: str, value: str) -> None:
    cgroups = CgroupFs(str(v2), nobody)
    with pytest.raises(Refused, match="nothing this agent would set"):
        cgroups.restore(located(cgroups, SCOPE), {name: value, "cpu.weight": "77"})
    assert (v2 / SCOPE[1:] / "cpu.weight").read_text() == "77", "the rest is restored all the same"


def test_a_write_that_does_not_take_is_undone(v2: Path) -> None:
    files = v2 / SCOPE[1:]
    (files / "memory.high").unlink()
    (files / "memory.high").symlink_to("cpu.weight")
    cgroups = CgroupFs(str(v2), nobody)
    with pytest.raises(GpuwardenError):
        cgroups.throttle(located(cgroups, SCOPE), cpu_cores=0.2, memory_high_bytes=GIB, keep=unkept)
    assert (files / "cpu.weight").read_text() == "100\n"
    assert (files / "cpu.max").read_text().strip() == "max 100000"


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no cgroup"):
        CgroupFs(str(tmp_path), nobody)
    with pytest.raises(Unsupported, match="no cgroup"):
        CgroupFs(str(tmp_path / "absent"), nobody)


@pytest.mark.parametrize("swaps_s", [2.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_links_swapped_in_are_never_followed(v2: Path, swaps_s: float) -> None:
    """A directory that turns into a link, and back, while the agent freezes it again and again."""
    bystander = v2 / "bare.slice"
    real, aside = v2 / SCOPE[1:], v2 / "system.slice/aside"
    cgroups = CgroupFs(str(v2), nobody)
    cgroup = located(cgroups, SCOPE)
    stop = threading.Event()

    def swap() -> None:
        while not stop.wait(0.0005):
            real.rename(aside)
            real.symlink_to(bystander)
            real.unlink()
            aside.rename(real)

    thread = threading.Thread(target=swap)
    thread.start()
    refused = tries = 0
    end = time.monotonic() + swaps_s
    try:
        while time.monotonic() < end or not refused:
            tries += 1
            try:
                cgroups.freeze(cgroup)
                cgroups.thaw(cgroup)
            except Refused:
                refused += 1
    finally:
        stop.set()
        thread.join()
    assert (bystander / "cgroup.freeze").read_text() == "0\n"
    assert 0 < refused < tries


def test_links_on_the_way_are_never_followed(v2: Path, tmp_path: Path) -> None:
    (v2 / "link.slice").symlink_to(v2 / "system.slice")
    cgroups = CgroupFs(str(v2), nobody)
    assert cgroups.locate(group_of(f"/link.slice/docker-{ID}.scope")) is None
    (v2 / SCOPE[1:] / "deep").symlink_to(v2)
    assert list(cgroups.members(located(cgroups, SCOPE))) == [4001, 4002, 4003]
