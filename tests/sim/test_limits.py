"""Memory limits per cgroup: what the vendor documents, and the ways a driver can fail to keep it.

The offender lives in a real cgroup; the limit is set through the library, as the agent does it.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from gpuwarden.sim.host import SimHost, Workload
from tests.adapters.trees import CGROUP_ROOT, join, real_group, real_hierarchies
from tests.sim.sight import GIB, MIB, code, library, until

NO_LIMIT = 2**64 - 1
NOT_FOUND = pynvml.NVML_ERROR_NOT_FOUND

pytestmark = pytest.mark.root


@pytest.fixture
def group() -> Iterator[str]:
    """A cgroup of our own, as a path below its hierarchy's mount."""
    with real_group(real_hierarchies()[0]) as name:
        yield name


def _directory(group: str) -> Path:
    return CGROUP_ROOT / real_hierarchies()[0] / group.lstrip("/")


def _set(group: str, hard: int, soft: int = 0, index: int = 0) -> int:
    limits = pynvml.c_nvmlSetMemoryLimits_v1_t()
    limits.nameSpace, limits.softLimit, limits.hardLimit = group.encode(), soft, hard
    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    return code(lambda: pynvml.nvmlDeviceSetMemoryLimits_v1(device, limits))


def _get(group: str, index: int = 0) -> tuple[int, int, int]:
    limits = pynvml.c_nvmlGetMemoryLimits_v1_t()
    limits.nameSpace = group.encode()
    pynvml.nvmlDeviceGetMemoryLimits_v1(pynvml.nvmlDeviceGetHandleByIndex(index), limits)
    return limits.softLimit, limits.hardLimit, limits.currentUsed


def _hog_in(host: SimHost, group: str, size: str, rate: str = "16GiB/s") -> Workload:
    """It stands in the cgroup before its first byte beyond the start size."""
    hog = host.start_workload(
        "hog", "--size", size, "--rate", rate, "--start-size", "16MiB", "--start-after-ms", "300"
    )
    join(hog.pid, group, real_hierarchies()[0])
    return hog


def test_the_hard_limit_fails_the_offender_and_nobody_else(group: str, nvml: SimHost) -> None:
    bystander = nvml.start_workload("hold", "--size", "8GiB")
    assert _set(group, 4 * GIB) == 0
    hog = _hog_in(nvml, group, "10GiB")
    assert until(lambda: nvml.bytes_of(hog.pid) > 3 * GIB)
    assert until(lambda: _get(group)[2] > 3 * GIB)
    nvml.start_workload("hold", "--size", "8GiB")  # outside: the device has room
    assert nvml.bytes_of(hog.pid) <= 4 * GIB
    assert hog.is_running()
    assert nvml.bytes_of(bystander.pid) == 8 * GIB
    soft, hard, used = _get(group)
    assert (soft, hard) == (0, 4 * GIB)
    assert used == nvml.bytes_of(hog.pid)


def test_a_limit_belongs_to_one_device(group: str, nvml: SimHost) -> None:
    assert _set(group, GIB, index=1) == 0
    hog = _hog_in(nvml, group, "3GiB")
    assert until(lambda: nvml.bytes_of(hog.pid) == 3 * GIB)
    assert _get(group, index=0)[1] == NO_LIMIT


def test_a_limit_on_a_parent_does_not_reach_its_child(group: str, nvml: SimHost) -> None:
    child = f"{group}/leaf"
    _directory(child).mkdir()
    try:
        assert _set(group, GIB) == 0
        hog = _hog_in(nvml, child, "3GiB")
        assert until(lambda: nvml.bytes_of(hog.pid) == 3 * GIB)
        hog.kill()
    finally:
        assert until(lambda: _removed(_directory(child)))


def _removed(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def test_lowering_below_the_use_takes_nothing_back(group: str, nvml: SimHost) -> None:
    hog = _hog_in(nvml, group, "4GiB")
    assert until(lambda: nvml.bytes_of(hog.pid) == 4 * GIB)
    assert _set(group, GIB) == 0
    assert _get(group) == (0, GIB, 4 * GIB)
    assert nvml.bytes_of(hog.pid) == 4 * GIB


def test_raising_to_no_limit_ends_it(group: str, nvml: SimHost) -> None:
    assert _set(group, GIB) == 0
    assert _set(group, NO_LIMIT) == 0
    assert nvml.control("limits")["limits"] == []
    hog = _hog_in(nvml, group, "3GiB")
    assert until(lambda: nvml.bytes_of(hog.pid) == 3 * GIB)


def test_inside_a_limited_cgroup_the_limit_is_the_total(group: str, nvml: SimHost) -> None:
    program = (
        "import pynvml as n, sys\n"
        "sys.stdin.readline()\n"
        "n.nvmlInit()\n"
        "i = n.nvmlDeviceGetMemoryInfo(n.nvmlDeviceGetHandleByIndex(0), n.nvmlMemory_v2)\n"
        "print(i.total, i.used, i.free)\n"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", program],
        env=nvml.env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    join(client.pid, group, real_hierarchies()[0])
    assert _set(group, 2 * GIB) == 0
    hog = _hog_in(nvml, group, "1GiB")
    assert until(lambda: nvml.bytes_of(hog.pid) == GIB)
    said, _ = client.communicate("go\n", timeout=20)
    assert said.split() == [str(2 * GIB), str(GIB), str(GIB)]
    outside = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0))
    assert outside.total == 40960 * MIB


def test_a_leaf_that_goes_with_a_soft_limit_leaks_its_reservation(nvml: SimHost) -> None:
    hierarchy = real_hierarchies()[0]
    with real_group(hierarchy) as name:
        assert _set(name, 4 * GIB, soft=GIB) == 0
    assert until(lambda: nvml.control("limits")["limits"] == [])
    assert nvml.control("limits")["leaked_reservation"] == GIB
    with real_group(hierarchy) as name:
        assert _set(name, 4 * GIB, soft=GIB) == 0
        assert _set(name, 4 * GIB, soft=0) == 0
    assert until(lambda: nvml.control("limits")["limits"] == [])
    assert nvml.control("limits")["leaked_reservation"] == GIB


@pytest.mark.parametrize("mode", ["not-supported", "no-permission"])
def test_a_driver_that_refuses(group: str, nvml: SimHost, mode: str) -> None:
    nvml.control("limit_mode", mode=mode)
    wanted = {
        "not-supported": pynvml.NVML_ERROR_NOT_SUPPORTED,
        "no-permission": pynvml.NVML_ERROR_NO_PERMISSION,
    }[mode]
    assert _set(group, GIB) == wanted


@pytest.mark.parametrize(("mode", "reads_back"), [("no-effect", 2 * GIB), ("forgotten", NO_LIMIT)])
def test_a_driver_that_says_yes_and_does_nothing(
    group: str, nvml: SimHost, mode: str, reads_back: int
) -> None:
    nvml.control("limit_mode", mode=mode)
    assert _set(group, 2 * GIB) == 0
    hog = _hog_in(nvml, group, "5GiB")
    assert until(lambda: nvml.bytes_of(hog.pid) == 5 * GIB)
    assert _get(group) == (0, reads_back, 5 * GIB)


@pytest.mark.parametrize(
    ("path", "soft", "wanted"),
    [
        ("/no/such/group", 0, NOT_FOUND),
        ("relative", 0, pynvml.NVML_ERROR_INVALID_ARGUMENT),
        ("", 0, pynvml.NVML_ERROR_INVALID_ARGUMENT),
        ("/" + "x" * 5000, 0, pynvml.NVML_ERROR_INVALID_ARGUMENT),
        (None, 2 * GIB, pynvml.NVML_ERROR_INVALID_ARGUMENT),  # soft above hard
    ],
)
def test_wrong_arguments_are_refused(
    group: str, nvml: SimHost, path: str | None, soft: int, wanted: int
) -> None:
    assert _set(group if path is None else path, GIB, soft=soft) == wanted


def test_the_mounted_path_is_the_same_group(group: str, nvml: SimHost) -> None:
    assert _set(f"{_directory(group)}/", 3 * GIB) == 0
    assert _get(group)[:2] == (0, 3 * GIB)


def test_only_root_and_the_drivers_user_may_set(group: str, nvml: SimHost) -> None:
    nvml.folder.chmod(0o755)
    program = (
        "import ctypes, os, pynvml as n, sys\n"
        "os.setuid(65534)\n"
        "n.nvmlLib = ctypes.CDLL(sys.argv[2])\n"
        "n.nvmlInit()\n"
        "x = n.c_nvmlSetMemoryLimits_v1_t()\n"
        "x.nameSpace, x.hardLimit = sys.argv[1].encode(), 1 << 30\n"
        "try: n.nvmlDeviceSetMemoryLimits_v1(n.nvmlDeviceGetHandleByIndex(0), x)\n"
        "except n.NVMLError as e: print(e.value)\n"
    )
    readable = _copied_for_all(nvml)
    said = subprocess.run(
        [sys.executable, "-c", program, group, str(readable)],
        env=nvml.env(),
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert said.stdout.strip() == str(pynvml.NVML_ERROR_NO_PERMISSION)


def _copied_for_all(host: SimHost) -> Path:
    """The library where another user can read it: the cache may lie in root's home."""
    copy = host.folder / "libnvidia-ml.so.1"
    copy.write_bytes(host.built.library.read_bytes())
    copy.chmod(0o755)
    return copy


def test_a_partitioned_device_refuses_limits(built: Any, group: str) -> None:
    from gpuwarden.sim.host import SimOptions
    from tests.sim.sight import seen

    with (
        SimHost(SimOptions(mig=(0,)), built=built) as host,
        pytest.MonkeyPatch.context() as patch,
        seen(host, patch),
    ):
        assert _set(group, GIB) == pynvml.NVML_ERROR_NOT_SUPPORTED
        instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(
            pynvml.nvmlDeviceGetHandleByIndex(0), 0
        )
        limits = pynvml.c_nvmlSetMemoryLimits_v1_t()
        limits.nameSpace, limits.hardLimit = group.encode(), GIB
        set_limits = library(host).nvmlDeviceSetMemoryLimits_v1
        assert set_limits(instance, ctypes.byref(limits)) == pynvml.NVML_ERROR_NOT_SUPPORTED


def test_the_tests_run_where_limits_can(group: str) -> None:
    assert os.path.isdir(_directory(group))
