"""scripts/gpu-check from end to end on the simulated host, CUDA's part played by cuda_shim.c."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.sim.driver.build import SOURCES, find_compiler
from gpuwarden.sim.host import SimHost, SimOptions

ROOT = Path(__file__).resolve().parents[2]
SHIM = Path(__file__).with_name("cuda_shim.c")


@pytest.fixture(scope="module")
def cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libcuda that allocates on the simulated driver."""
    folder = tmp_path_factory.mktemp("cuda")
    library = str(folder / "libcuda.so.1")
    flags = ["-std=c11", "-O1", "-fPIC", "-shared", "-I", str(SOURCES), "-o", library]
    command = [*find_compiler().command, *flags, str(SHIM), str(SOURCES / "simclient.c")]
    subprocess.run(command, check=True, timeout=120)
    return folder


@pytest.fixture
def host() -> Iterator[SimHost]:
    with SimHost(SimOptions(devices=2, profile="H100-80")) as running:
        yield running


def gpu_check(host: SimHost, cuda: Path, tmp_path: Path, *words: str) -> tuple[int, Any, str]:
    """Exit code, the JSON it wrote, what it said."""
    env = host.env()
    env["LD_LIBRARY_PATH"] += f":{cuda}"
    out = tmp_path / "out.json"
    done = subprocess.run(
        [str(ROOT / "scripts" / "gpu-check"), str(out), *words],
        env=env,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    report = json.loads(out.read_text()) if out.exists() else None
    return done.returncode, report, done.stdout + done.stderr


@pytest.mark.slow
def test_contract(host: SimHost, cuda: Path, tmp_path: Path) -> None:
    code, report, said = gpu_check(host, cuda, tmp_path, "--only", "contract")
    assert code == 0, said
    contract = report["stages"]["contract"]["result"]
    assert contract["a_holder_is_seen_and_its_bytes_come_back"] in (
        "ok",
        "not here: this process is in a pid namespace of its own: rows cannot be compared",
    )
    assert {v.partition(":")[0] for v in contract.values()} <= {"ok", "not here"}


def test_costs_and_rate(host: SimHost, cuda: Path, tmp_path: Path) -> None:
    code, report, said = gpu_check(host, cuda, tmp_path, "--only", "costs,rate")
    assert code == 0, said
    assert report["host"]["devices"] == 2
    costs = report["stages"]["costs"]["result"]
    assert costs["nvmlDeviceGetTemperatureV"]["code"] == "SUCCESS"
    assert costs["pass memory"]["calls"] > 0
    rate = report["stages"]["rate"]["result"]
    assert rate["context_bytes"] == 400 * 2**20
    assert 5 < rate["gib_per_s block 1024 MiB"] < 30


def test_overshoot_and_freeze(host: SimHost, cuda: Path, tmp_path: Path) -> None:
    code, report, said = gpu_check(host, cuda, tmp_path, "--only", "overshoot,freeze")
    assert code == 0, said
    for run in report["stages"]["overshoot"]["result"].values():
        assert run["cuda"] is None
        assert run["noticed_ms"] > 0
        assert run["overshoot_gib"] > 0
    freeze = report["stages"]["freeze"]["result"]
    assert freeze["kept_bytes"] is True
    assert freeze["frozen_ms"] is not None
    assert freeze["bytes_back_ms"] is not None


@pytest.mark.root
def test_limits_are_tried_on_a_cgroup_of_its_own_and_lifted(
    host: SimHost, cuda: Path, tmp_path: Path
) -> None:
    code, report, said = gpu_check(host, cuda, tmp_path, "--only", "limits")
    assert code == 0, said
    stage = report["stages"]["limits"]
    if "not_here" in stage:
        pytest.skip(f"root: {stage['not_here']}")
    found = stage["result"]
    assert (found["alloc_below"], found["alloc_above"]) == ("ok", 2)
    assert found["lifted"] == "SUCCESS"
    assert found["alloc_after"] == "ok"
    assert not Path(found["path"]).exists()


@pytest.mark.slow
def test_release(host: SimHost, cuda: Path, tmp_path: Path) -> None:
    code, report, said = gpu_check(host, cuda, tmp_path, "--only", "release")
    assert code == 0, said
    runs = report["stages"]["release"]["result"]
    assert {name for name in runs if name.startswith("KILL")} == {
        "KILL 1 GiB",
        "KILL 10 GiB",
        "KILL 50 GiB",
    }
    assert all(run["bytes_back_ms"] is not None for run in runs["KILL 10 GiB"])


@pytest.mark.slow
def test_a_stage_that_hangs_is_left_and_reported(host: SimHost, cuda: Path, tmp_path: Path) -> None:
    host.control("hang", function="nvmlDeviceGetTemperatureV")
    try:
        code, report, _ = gpu_check(host, cuda, tmp_path, "--only", "costs", "--minutes", "0.1")
    finally:
        host.control("clear_faults")
    assert code == 1
    assert "left behind" in report["stages"]["costs"]["error"]


def test_without_a_driver_there_is_no_gpu(tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k not in ("LD_LIBRARY_PATH", "GPUWARDEN_SIM_DIR")}
    env["GPUWARDEN_NVML"] = "/nonexistent/libnvidia-ml.so.1"
    done = subprocess.run(
        [str(ROOT / "scripts" / "gpu-check"), str(tmp_path / "out.json")],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert "no NVML library" in done.stderr
