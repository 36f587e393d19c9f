"""The contract of NVML over the simulated driver and, where there is a GPU, over the real one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from gpuwarden.adapters.probe.parent import NvmlProbe
from gpuwarden.config import NvmlConfig, SamplingConfig
from gpuwarden.sim.host import SimHost, SimOptions, Workload
from tests.adapters.probe_seat import seated
from tests.contract.nvml_contract import (
    CHECKS,
    Bench,
    Check,
    Holding,
    NotHere,
    is_host_pid_namespace,
)
from tests.contract.real_holder import holding
from tests.contract.seat import Seat


@contextlib.contextmanager
def _hold_simulated(host: SimHost, size_bytes: int) -> Iterator[Workload]:
    workload = host.start_workload("hold", "--size", str(size_bytes), devices=[0])
    try:
        yield workload
    finally:
        workload.kill()


@contextlib.contextmanager
def _simulated(options: SimOptions) -> Iterator[Bench]:
    with SimHost(options) as host, seated(host, SamplingConfig()) as seat:

        def hold(size_bytes: int) -> contextlib.AbstractContextManager[Holding]:
            return _hold_simulated(host, size_bytes)

        yield Bench(seat=seat, hold=hold)


@contextlib.contextmanager
def _real() -> Iterator[Bench]:
    probe = NvmlProbe(NvmlConfig(), SamplingConfig(), time.monotonic())
    try:
        yield Bench(seat=Seat(probe), hold=holding, is_pid_shared=is_host_pid_namespace())
    finally:
        probe.close()


@pytest.fixture(
    params=[
        pytest.param(SimOptions(devices=2, profile="H100-80"), id="simulated-H100"),
        pytest.param(SimOptions(devices=1, profile="T4"), id="simulated-T4"),
        pytest.param(None, id="real", marks=pytest.mark.gpu),
    ]
)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with _real() if request.param is None else _simulated(request.param) as made:
        yield made


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_nvml(bench: Bench, check: Check) -> None:
    try:
        check(bench)
    except NotHere as reason:
        pytest.skip(str(reason))


def test_the_checks_need_nothing_installed() -> None:
    """scripts/gpu-check runs them on a host that has Python and a driver, and nothing else."""
    code = (
        "import sys; sys.path[:0] = ['agent', '.'];"
        "import tests.contract.nvml_contract, tests.contract.real_holder;"
        "print(*sorted(m for m in sys.modules if 'site-packages' in"
        " (getattr(sys.modules[m], '__file__', '') or '')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert {name.partition(".")[0] for name in done.stdout.split()} <= {
        "_distutils_hack",
        "sitecustomize",
    }
