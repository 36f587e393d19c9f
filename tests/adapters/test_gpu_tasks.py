"""Stuck tasks, bytes of the dead and services, on recorded trees and on this very host."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuwarden.adapters.gpu_tasks import INITIAL_NAMESPACE, Found, GpuTasks
from gpuwarden.model.device import Listing, ProcessUse
from gpuwarden.model.health import GpuTask, Remains
from gpuwarden.model.ids import DeviceId, Pid
from tests.adapters.host_tree import HostTree

GPU = DeviceId("GPU-0")
MIB = 2**20


def listed(*pids: int, size: int | None = 512 * MIB) -> list[Listing]:
    rows = tuple(ProcessUse(pid=None, raw_pid=pid, device=GPU, used_bytes=size) for pid in pids)
    return [Listing(device=GPU, at=1.0, used_bytes=0, rows=rows)]


@pytest.fixture
def tree(tmp_path: Path) -> HostTree:
    return HostTree(tmp_path)


def tasks(tree: HostTree) -> GpuTasks:
    return GpuTasks(str(tree.root / "proc"), ["nv-fabricmanage", "nvidia-imex"])


def twice(tree: HostTree, *pids: int, between: Callable[[], None] = lambda: None) -> Found:
    """What the second of two looks finds, 15 s after the first."""
    watch = tasks(tree)
    assert watch.look(100.0, listed(*pids)).stuck == (), "one look tells nothing of time"
    between()
    return watch.look(115.0, listed(*pids))


def test_a_listed_process_that_is_stuck(tree: HostTree) -> None:
    tree.process(4711, "train", "D", start=77)
    assert twice(tree, 4711).stuck == (
        GpuTask(pid=Pid(pid=4711, start=77), comm="train", since=100.0, holds="listed"),
    )


def test_one_that_is_not_listed_but_has_a_device_open(tree: HostTree) -> None:
    tree.process(4711, "nvidia-smi", "D", files=("/dev/null", "/dev/nvidia0"))
    assert [task.holds for task in twice(tree).stuck] == ["/dev/nvidia0"]


@pytest.mark.parametrize(
    ("target", "is_device"),
    [
        ("/dev/nvidiactl", True),
        ("/dev/nvidia-uvm", True),
        ("/dev/nvidia15 (deleted)", True),
        ("/dev/nvidia-caps/nvidia-cap1", False),
        ("/home/me/dev/nvidia0", False),
        ("/dev/nvidia0/../null", False),
    ],
)
def test_which_files_are_a_gpus(tree: HostTree, target: str, is_device: bool) -> None:
    tree.process(4711, "x", "D", files=(target,))
    assert bool(twice(tree).stuck) is is_device


def test_sleeping_in_the_kernel_without_a_gpu_is_nobodys_business(tree: HostTree) -> None:
    tree.process(10, "nfsd", "D")
    assert twice(tree).stuck == ()


def test_one_that_works_in_between_is_not_stuck(tree: HostTree) -> None:
    """It reads from a slow disk: in state D at both looks, with CPU time between them."""
    tree.process(4711, "loader", "D", cpu_ns=5_000)
    found = twice(tree, 4711, between=lambda: tree.process(4711, "loader", "D", cpu_ns=5_001))
    assert found.stuck == ()


def test_without_schedstat_nothing_is_claimed(tree: HostTree) -> None:
    tree.process(4711, "train", "D", cpu_ns=None)
    assert twice(tree, 4711).stuck == ()


def test_a_thread_of_a_listed_process_counts_and_one_of_another_is_not_looked_for(
    tree: HostTree,
) -> None:
    tree.process(4711, "train", "S", threads={4712: ("D", 9), 4713: ("S", 9)})
    tree.process(4800, "other", "S", threads={4801: ("D", 9)}, files=("/dev/nvidia0",))
    assert [task.pid.pid for task in twice(tree, 4711).stuck] == [4711]


def test_a_pid_that_is_anothers_now_begins_anew(tree: HostTree) -> None:
    tree.process(4711, "train", "D", start=1)
    found = twice(tree, 4711, between=lambda: tree.process(4711, "train", "D", start=2))
    assert found.stuck == ()


def test_a_name_cannot_break_a_line(tree: HostTree) -> None:
    tree.process(4711, "a) D 1 (\n\x1b[2J", "D")
    (task,) = twice(tree, 4711).stuck
    assert task.comm == "a) D 1 (??[2J"


def test_a_zombie_with_bytes_and_who_has_to_reap_it(tree: HostTree) -> None:
    tree.process(4711, "train", "Z", ppid=42)
    assert tasks(tree).look(1.0, listed(4711)).remains == (
        Remains(
            device=GPU,
            raw_pid=4711,
            used_bytes=512 * MIB,
            is_zombie=True,
            comm="train",
            parent=42,
        ),
    )


def test_a_process_that_is_gone_with_its_bytes_still_there(tree: HostTree) -> None:
    (left,) = tasks(tree).look(1.0, listed(4711)).remains
    assert (left.is_zombie, left.comm, left.parent) == (False, "", None)


def test_a_dead_main_thread_whose_siblings_live_is_no_zombie(tree: HostTree) -> None:
    tree.process(4711, "train", "Z", threads={4712: ("S", 1)})
    assert tasks(tree).look(1.0, listed(4711)).remains == ()


def test_a_size_the_driver_withholds_is_not_said_to_be_left(tree: HostTree) -> None:
    assert tasks(tree).look(1.0, listed(4711, size=None)).remains == ()


@pytest.mark.parametrize("namespace", ["pid:[4026532198]", "nonsense"])
def test_in_a_container_the_drivers_pids_are_other_processes(
    tmp_path: Path, namespace: str
) -> None:
    tree = HostTree(tmp_path, namespace)
    tree.process(10, "x", "D", files=("/dev/nvidia0",))
    found = twice(tree, 4711)
    assert (found.stuck, found.remains, found.sees_host) == ((), (), False)


def test_services_by_their_cut_names(tree: HostTree) -> None:
    tree.process(300, "nv-fabricmanage")
    tree.process(301, "nvidia-imex", "Z")
    tree.process(302, "nvidia-imex-ctl")
    assert tasks(tree).look(1.0, []).named == {"nv-fabricmanage": (300,)}


def test_a_containers_process_of_that_name_is_no_service(tree: HostTree) -> None:
    tree.process(300, "nv-fabricmanage", namespace="pid:[4026532198]")
    found = tasks(tree).look(1.0, [])
    assert found.sees_host
    assert found.named == {}


@pytest.mark.root
def test_nor_is_an_ordinary_users(tree: HostTree) -> None:
    tree.process(300, "nv-fabricmanage")
    os.chown(tree.root / "proc/300", 1000, 1000)
    assert tasks(tree).look(1.0, []).named == {}


def test_a_proc_that_is_not_there_or_goes_away(tree: HostTree) -> None:
    watch = tasks(tree)
    tree.process(4711, "train", "D")
    watch.look(1.0, listed(4711))
    shutil.rmtree(tree.root / "proc")
    assert watch.look(16.0, listed(4711)) == Found()


def test_garbage_in_proc_is_nothing(tree: HostTree) -> None:
    for pid, line in ((1, b""), (2, b"\xff\xfe"), (3, b"3 (x"), (4, b"4 (x) D"), (5, b")(")):
        tree.write(f"proc/{pid}/stat", line)
    tree.write("proc/6", "a file where a folder should be")
    assert twice(tree, 1, 2, 3, 4, 5).stuck == ()


@contextmanager
def waiting_in_the_kernel(folder: Path) -> Iterator[int]:
    """A child in uninterruptible sleep: it waits in vfork for a child that cannot open a pipe's end."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    pid = os.fork()
    if pid == 0:
        try:
            action = (os.POSIX_SPAWN_OPEN, 0, str(fifo), os.O_RDONLY, 0)
            os.waitpid(os.posix_spawn("/bin/true", ["true"], {}, file_actions=[action]), 0)
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        with open(fifo, "wb"):
            pass
        os.waitpid(pid, 0)


def test_a_real_task_in_a_real_kernel(tmp_path: Path) -> None:
    if os.readlink("/proc/self/ns/pid") != INITIAL_NAMESPACE:
        pytest.skip("not in the host's pid namespace")
    watch = GpuTasks("/proc", [])
    with waiting_in_the_kernel(tmp_path) as pid:
        never = threading.Event()
        found, now = watch.look(0.0, listed(pid)), 0.0
        while not found.stuck and now < 30.0:
            never.wait(0.05)
            now += 0.05
            found = watch.look(now, listed(pid))
        assert [task.pid.pid for task in found.stuck] == [pid]
    assert watch.look(now + 1, []).stuck == ()


def test_a_real_zombie() -> None:
    if os.readlink("/proc/self/ns/pid") != INITIAL_NAMESPACE:
        pytest.skip("not in the host's pid namespace")
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        (left,) = GpuTasks("/proc", []).look(1.0, listed(pid)).remains
        assert (left.is_zombie, left.parent) == (True, os.getpid())
    finally:
        os.waitpid(pid, 0)
    (gone,) = GpuTasks("/proc", []).look(2.0, listed(pid)).remains
    assert not gone.is_zombie
