"""Clients in Go, by scripts/go-tier."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuwarden.sim.driver.build import Built

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "go-tier"

pytestmark = [pytest.mark.go, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("client", ["go-nvml", "nvidia_gpu_exporter", "gpud"])
def test_a_go_client_sees_the_devices(built: Built, client: str) -> None:
    done = subprocess.run(
        [str(SCRIPT), client],
        env={**os.environ, "GPUWARDEN_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    if f"{client}: absent" in done.stdout:
        pytest.skip(f"this Go module proxy does not serve it: {done.stdout.strip()[:200]}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{client}: ok" in done.stdout
