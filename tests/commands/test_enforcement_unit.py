"""``enable-enforcement`` under a real systemd: the unit has the rights after it, and not after its undoing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.cli_run import ROOT, run

UNIT = "gpuwarden-agent.service"
FOLDER = Path("/etc/systemd/system")
PARENT = Path("/etc/gpuwarden")

pytestmark = pytest.mark.systemd


def systemctl(*words: str) -> str:
    done = subprocess.run(
        ["systemctl", *words], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0 or words[0] in ("stop", "reset-failed"), done.stderr
    return done.stdout.strip()


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[None]:
    """The agent's unit, with this checkout's agent in it; nothing of it is left."""
    text = (ROOT / "systemd" / UNIT).read_text()
    start = f"ExecStart={sys.executable} -m gpuwarden agent"
    lines = [start if line.startswith("ExecStart=") else line for line in text.splitlines()]
    lines = [line for line in lines if not line.startswith(("ExecStopPost=", "OnFailure="))]
    (FOLDER / UNIT).write_text("\n".join(lines) + "\n")
    own = FOLDER / f"{UNIT}.d"
    own.mkdir(exist_ok=True)
    (own / "10-checkout.conf").write_text(  # which may lie in a home, or in /tmp
        f"[Service]\nEnvironment=PYTHONPATH={ROOT}/agent\nPrivateTmp=no\nProtectHome=no\n"
        "Slice=system.slice\nOOMScoreAdjust=0\n"
    )
    (PARENT / "conf.d").mkdir(parents=True, exist_ok=True)
    (PARENT / "agent.toml").write_text(
        '[agent]\nmetrics_listen = "127.0.0.1:0"\n[kmsg]\nsource = "none"\n'
    )
    systemctl("daemon-reload")
    yield
    systemctl("stop", UNIT)
    shutil.rmtree(own)
    (FOLDER / UNIT).unlink()
    shutil.rmtree(PARENT)
    systemctl("daemon-reload")
    systemctl("reset-failed")


def shown(key: str) -> str:
    return systemctl("show", UNIT, f"--property={key}", "--value")


def mode() -> str:
    """What the agent itself tells its manager: it is there once it is ready."""
    return shown("StatusText").partition(":")[0]


@pytest.mark.usefixtures("unit")
def test_rights_and_mode_come_and_go() -> None:
    systemctl("start", UNIT)  # returns once a tick has finished
    assert mode() == "observe"
    before = shown("CapabilityBoundingSet")
    result = run("enable-enforcement", "--yes", width=200)
    assert result.exit_code == 0, result.output
    assert "systemd has read its files again" in result.output
    assert f"then: systemctl restart {UNIT}" in result.output
    assert mode() == "observe"  # it does not start anything anew by itself
    systemctl("restart", UNIT)
    assert mode() == "enforce"
    assert {"cap_sys_admin", "cap_dac_override"} <= set(shown("CapabilityBoundingSet").split())
    assert shown("DropInPaths").endswith("50-enforcement.conf")
    assert run("enable-enforcement", "--undo", "--yes").exit_code == 0
    systemctl("restart", UNIT)
    assert mode() == "observe"
    assert shown("CapabilityBoundingSet") == before
    systemctl("reload", UNIT)
    assert shown("ActiveState") == "active"
