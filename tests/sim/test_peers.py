"""Other people's programs, unmodified, see the simulated host with full values."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.sim.driver.build import Built
from gpuwarden.sim.host import SimHost, SimOptions
from gpuwarden.sim.run import start_holders
from tests.sim.sight import until

ROOT = Path(__file__).resolve().parents[2]
DEVICES, PROCESSES = 8, 20


def _program(name: str) -> str:
    places = [ROOT / ".venv-peers" / "bin", Path(sys.executable).parent]
    found = shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"no {name} (scripts/env peers installs it)")
    return found


@pytest.fixture(scope="module")
def full(built: Built) -> Iterator[SimHost]:
    """Eight boards with twenty processes each."""
    with SimHost(SimOptions(devices=DEVICES, seed=4), built=built) as host:
        start_holders(host, PROCESSES)
        yield host


def _output(host: SimHost, *command: str) -> str:
    done = subprocess.run(
        command,
        env={**host.env(), "COLUMNS": "200", "LINES": "400", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_gpustat_shows_all(full: SimHost) -> None:
    shown = json.loads(_output(full, _program("gpustat"), "--json"))
    assert len(shown["gpus"]) == DEVICES
    assert sum(len(gpu["processes"]) for gpu in shown["gpus"]) == DEVICES * PROCESSES
    for gpu in shown["gpus"]:
        # boards of data centres have no fan; everything else has a value
        assert {key for key, value in gpu.items() if value is None} == {"fan.speed"}
        assert gpu["memory.used"] > 5000
        assert all(each["gpu_memory_usage"] > 0 for each in gpu["processes"])


def test_nvitop_shows_all(full: SimHost) -> None:
    shown = _output(full, _program("nvitop"), "--once", "--ascii")
    rows = [line for line in shown.splitlines() if "workload" in line or ".cache" in line]
    info = full.control("info")["devices"]
    for device in info:
        assert device["pci"].upper() in shown
    listed = [line.split()[2] for line in rows]
    pids = {
        str(each["pid"])
        for index in range(DEVICES)
        for each in full.control("processes", device=index)["processes"]
    }
    assert len(pids) == DEVICES * PROCESSES
    assert set(listed) == pids


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_nvitop_exporter_serves_all(full: SimHost) -> None:
    port = _free_port()
    exporter = subprocess.Popen(
        [_program("nvitop-exporter"), "--bind-address", "127.0.0.1", "--port", str(port)],
        env=full.env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    page = ""

    def complete() -> bool:
        nonlocal page
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                page = answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            return False
        processes = page.count("\nprocess_gpu_memory_MiB{")
        devices = page.count("\ngpu_memory_used_MiB{")
        return bool(processes == DEVICES * PROCESSES and devices >= DEVICES)

    try:
        assert until(complete, timeout_s=30)
    finally:
        exporter.terminate()
        exporter.wait(20)
    missing = {line.split("{")[0] for line in page.splitlines() if line.endswith(" NaN")}
    assert missing <= {"gpu_fan_speed_Percentage"}
    assert page.count("\ngpu_memory_used_MiB{") == DEVICES


def test_nvitop_shows_instances_as_devices(built: Built) -> None:
    with SimHost(SimOptions(devices=1, mig=(0,)), built=built) as host:
        start_holders(host, 8)
        shown = _output(host, _program("nvitop"), "--once", "--ascii")
    assert "3g.20gb" in shown
    assert shown.count("1g.5gb") == 2
