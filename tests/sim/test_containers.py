"""Workloads in real containers hold memory of the simulated host under their host pids."""

from __future__ import annotations

import subprocess

import pynvml
import pytest

from gpuwarden.sim.host import SimHost
from tests.adapters.containers import container, docker, init_pid
from tests.sim.sight import GIB, until

pytestmark = pytest.mark.docker


def _options(host: SimHost, *more: str) -> tuple[str, ...]:
    return (
        "--network=none",
        f"--volume={host.folder}:{host.folder}",
        f"--volume={host.built.workload}:/workload:ro",
        f"--env=GPUWARDEN_SIM_DIR={host.folder}",
        *more,
    )


def test_a_container_holds_bytes_under_its_host_pid(host: SimHost) -> None:
    command = ("/workload", "hold", "--size", "3GiB")
    shown = _options(host, "--env=NVIDIA_VISIBLE_DEVICES=1", "--user=65534:65534")
    with container(*shown, command=command) as made:
        pid = init_pid(made)
        assert until(lambda: host.bytes_of(pid, 1) == 3 * GIB)
        assert host.bytes_of(pid, 0) == 0
        docker("kill", made)
        assert until(lambda: host.bytes_of(pid, 1) == 0)


def test_a_paused_container_keeps_its_bytes(host: SimHost) -> None:
    command = ("/workload", "hog", "--size", "2GiB", "--rate", "32GiB/s")
    with container(*_options(host), command=command) as made:
        pid = init_pid(made)
        assert until(lambda: host.bytes_of(pid) == 2 * GIB)
        docker("pause", made)
        assert host.bytes_of(pid) == 2 * GIB
        docker("unpause", made)
        docker("stop", "--time", "10", made)  # the first process of a container, and it obeys
        assert host.bytes_of(pid) == 0
        assert docker("inspect", "--format", "{{.State.ExitCode}}", made) == "143"


def test_a_limit_of_the_containers_own_cgroup_stops_it(nvml: SimHost) -> None:
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    command = ("/workload", "hog", "--size", "8GiB", "--rate", "4GiB/s", "--start-after-ms", "700")
    with container(*_options(nvml), command=command) as made:
        limits = pynvml.c_nvmlSetMemoryLimits_v1_t()
        limits.nameSpace, limits.hardLimit = f"/docker/{made}".encode(), GIB
        pynvml.nvmlDeviceSetMemoryLimits_v1(device, limits)
        pid = init_pid(made)
        assert until(lambda: nvml.bytes_of(pid) > GIB // 2)
        assert until(lambda: _ran_out(made))
        assert nvml.bytes_of(pid) <= GIB
        assert docker("inspect", "--format", "{{.State.Running}}", made) == "true"


def _ran_out(made: str) -> bool:
    logs = subprocess.run(
        ["docker", "logs", made], capture_output=True, text=True, timeout=60, check=False
    )
    return "out of memory" in logs.stderr
