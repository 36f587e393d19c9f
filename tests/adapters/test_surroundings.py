"""The thread of the senses: one sample after the other, on a tree; a look that hangs hangs alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.adapters.kernel_clock import ClockState
from gpuwarden.adapters.surroundings import HostSenses
from gpuwarden.clock import SystemClock
from gpuwarden.model.health import Surroundings
from tests.adapters.host_tree import HostTree
from tests.adapters.test_gpu_tasks import listed
from tests.sim.sight import until

KEPT = ClockState(is_synchronised=True, error_s=0.001)


def service(around: Surroundings | None, name: str) -> tuple[bool, bool, bool | None]:
    assert around is not None
    found = next(s for s in around.services if s.name == name)
    return found.is_installed, found.is_enabled, found.is_running


@pytest.fixture
def tree(tmp_path: Path) -> HostTree:
    tree = HostTree(tmp_path)
    tree.write("dev/null", "")
    tree.write("sys/module/nvidia/version", "580.95.05\n")
    tree.unit("nvidia-fabricmanager.service", enabled=True)
    tree.unit("nvidia-persistenced.service", enabled=True)
    tree.process(300, "nv-fabricmanage")
    tree.gpu("0000:07:00.0")
    tree.gpu("0000:c1:00.0", kind="0x068000")
    return tree


@pytest.fixture
def senses(tree: HostTree) -> Iterator[HostSenses]:
    made = HostSenses(str(tree.root), 0.02, SystemClock(), read_clock=lambda: KEPT)
    yield made
    made.close()


def test_everything_in_one_sample(senses: HostSenses) -> None:
    assert until(lambda: senses.surroundings() is not None)
    around = senses.surroundings()
    assert around is not None
    assert (around.module_version, around.library_version) == ("580.95.05", None)
    assert (around.pci_gpus, around.nvswitches, around.imex_channels) == (1, 1, 0)
    assert (around.is_clock_synchronised, around.clock_error_s) == (True, 0.001)
    assert service(around, "nvidia-fabricmanager") == (True, True, True)
    assert service(around, "nvidia-persistenced") == (True, True, False)
    assert service(around, "nvidia-imex") == (False, False, False)


def test_it_looks_again_and_what_is_listed_is_looked_for(
    senses: HostSenses, tree: HostTree
) -> None:
    assert until(lambda: senses.surroundings() is not None)
    first = senses.surroundings()
    assert first is not None
    senses.watch(listed(4711))
    assert until(lambda: bool((now := senses.surroundings()) and now.remains))
    (tree.root / "proc/300/stat").unlink()
    assert until(lambda: service(senses.surroundings(), "nvidia-fabricmanager")[2] is False)
    later = senses.surroundings()
    assert later is not None
    assert later.at > first.at


def test_where_the_hosts_processes_cannot_be_seen_nothing_is_said_to_be_down(
    tmp_path: Path,
) -> None:
    tree = HostTree(tmp_path, "pid:[4026532198]")
    tree.unit("nvidia-fabricmanager.service", enabled=True)
    senses = HostSenses(str(tree.root), 9.0, SystemClock(), read_clock=lambda: KEPT)
    try:
        assert until(lambda: senses.surroundings() is not None)
        assert service(senses.surroundings(), "nvidia-fabricmanager") == (True, True, None)
    finally:
        senses.close()


def test_a_look_that_hangs_holds_up_nobody_and_grows_old(tree: HostTree) -> None:
    gate, asked = threading.Event(), threading.Event()

    def hangs() -> ClockState:
        asked.set()
        gate.wait(60)
        return KEPT

    senses = HostSenses(str(tree.root), 0.01, SystemClock(), read_clock=hangs)
    try:
        assert asked.wait(10)
        assert senses.surroundings() is None
        senses.watch(listed(1))
    finally:
        senses.close()  # returns although the thread does not
        gate.set()


def test_an_exception_is_counted_and_the_thread_goes_on(tree: HostTree) -> None:
    answers = iter([KEPT])

    def raises() -> ClockState:
        return next(answers)  # StopIteration from the second on

    senses = HostSenses(str(tree.root), 0.01, SystemClock(), read_clock=raises)
    try:
        assert until(lambda: senses.failures >= 3)
        assert senses.surroundings() is not None
    finally:
        senses.close()
