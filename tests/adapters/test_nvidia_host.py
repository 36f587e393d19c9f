"""Versions, the bus, channels and units, as recorded on hosts of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuwarden.adapters.nvidia_host import Bus, NvidiaHost
from tests.adapters.host_tree import HostTree

OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (b@)\n"
    "GCC version:  gcc version 15.3.0 (GCC)\n"
)
CLOSED = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
    "GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n"
)


@pytest.fixture
def tree(tmp_path: Path) -> HostTree:
    return HostTree(tmp_path)


def host(tree: HostTree, library: str | None = None) -> NvidiaHost:
    return NvidiaHost(str(tree.root), library)


@pytest.mark.parametrize(
    ("sys", "proc", "version"),
    [
        ("580.159.04\n", None, "580.159.04"),
        (None, OPEN, "580.159.04"),
        (None, CLOSED, "535.104.05"),
        ("garbage\n", CLOSED, "535.104.05"),
        (None, None, None),
        (None, "NVRM version: \xff\n", None),
    ],
)
def test_the_modules_version(
    tree: HostTree, sys: str | None, proc: str | None, version: str | None
) -> None:
    if sys is not None:
        tree.write("sys/module/nvidia/version", sys)
    if proc is not None:
        tree.write("proc/driver/nvidia/version", proc)
    assert host(tree).module_version() == version


LIB = "usr/lib/x86_64-linux-gnu"


def test_the_librarys_version_is_the_name_of_the_file_its_link_leads_to(tree: HostTree) -> None:
    tree.write(f"{LIB}/libnvidia-ml.so.580.95.05", b"\x7fELF")
    tree.link(f"{LIB}/libnvidia-ml.so.1", "libnvidia-ml.so.580.95.05")
    assert host(tree).library_version() == "580.95.05"


def test_through_alternatives_with_links_that_are_absolute(tree: HostTree) -> None:
    tree.write(f"{LIB}/nvidia/current/libnvidia-ml.so.535.104.05", b"\x7fELF")
    inner = f"{LIB}/nvidia/current/libnvidia-ml.so.1"
    tree.link(inner, "libnvidia-ml.so.535.104.05")
    tree.link("etc/alternatives/libnvidia-ml.so.1", f"/{inner}")
    tree.link(f"{LIB}/libnvidia-ml.so.1", "/etc/alternatives/libnvidia-ml.so.1")
    assert host(tree).library_version() == "535.104.05"


def test_links_that_lead_nowhere(tree: HostTree) -> None:
    assert host(tree).library_version() is None
    tree.link(f"{LIB}/libnvidia-ml.so.1", "libnvidia-ml.so.580.95.05")
    assert host(tree).library_version() is None
    tree.link(f"{LIB}/libnvidia-ml.so.1", "libnvidia-ml.so.1")
    assert host(tree).library_version() is None


def test_a_library_of_the_operators_choice(tree: HostTree) -> None:
    tree.write("opt/libnvidia-ml.so.570.1", b"\x7fELF")
    tree.link("opt/libnvidia-ml.so.1", "libnvidia-ml.so.570.1")
    assert host(tree, str(tree.root / "opt/libnvidia-ml.so.1")).library_version() == "570.1"
    tree.write("opt/mine.so", b"\x7fELF")
    assert host(tree, str(tree.root / "opt/mine.so")).library_version() is None


def test_what_the_bus_holds(tree: HostTree) -> None:
    tree.gpu("0000:07:00.0")
    tree.gpu("0000:0f:00.0", driver=None)  # no driver has taken it: it should be here
    tree.gpu("0000:10:00.0", kind="0x030000")
    tree.gpu("0000:47:00.0", driver="vfio-pci")  # a guest's
    tree.gpu("0000:48:00.0", driver="nouveau")
    tree.gpu("0000:4e:00.0", vendor="0x1002")
    tree.gpu("0000:07:00.1", kind="0x040300")  # the sound function of a GPU
    tree.gpu("0000:07:00.4")
    tree.link("sys/bus/pci/devices/0000:07:00.4/physfn", "../0000:07:00.0")
    tree.gpu("0000:90:00.0")
    excluded = "Model: \t\t NVIDIA H100\nGPU Excluded:\t Yes\n"
    tree.write("proc/driver/nvidia/gpus/0000:90:00.0/information", excluded)
    for n in range(4):
        tree.gpu(f"0000:c{n}:00.0", kind="0x068000", driver="nvidia-nvswitch")
    assert host(tree).bus() == Bus(gpus=3, nvswitches=4)


def test_a_bus_that_cannot_be_seen_holds_an_unknown_number(tree: HostTree) -> None:
    assert host(tree).bus() == Bus(gpus=None, nvswitches=None)


@pytest.mark.parametrize(
    ("files", "channels"),
    [
        ([], None),
        (["dev/null"], 0),
        (["dev/nvidia-caps-imex-channels/channel0"], 1),
        ([f"dev/nvidia-caps-imex-channels/channel{n}" for n in (0, 7, 2047)], 3),
    ],
)
def test_imex_channels(tree: HostTree, files: list[str], channels: int | None) -> None:
    for file in files:
        tree.write(file, "")
    assert host(tree).imex_channels() == channels


def test_units(tree: HostTree) -> None:
    tree.unit("nvidia-fabricmanager.service", enabled=True)
    tree.unit("nvidia-persistenced.service")
    tree.unit("nvidia-imex.service", enabled=True, masked=True)
    mine = host(tree)
    assert [
        (mine.is_installed(f"nvidia-{name}.service"), mine.is_enabled(f"nvidia-{name}.service"))
        for name in ("fabricmanager", "persistenced", "imex", "other")
    ] == [(True, True), (True, False), (False, False), (False, False)]


def test_this_host_is_read_without_an_exception() -> None:
    mine = NvidiaHost("/")
    assert isinstance(mine.bus().gpus, int | None)
    assert isinstance(mine.module_version(), str | None)
    assert isinstance(mine.library_version(), str | None)
    assert mine.imex_channels() is not None
