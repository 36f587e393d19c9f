"""``enable-enforcement`` under a real systemd: the unit has the rights after it, and not after its undoing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.clock import SystemClock
from gpuwarden.log_journal import message_id
from tests.commands.cli_run import ROOT, run

UNIT = "gpuwarden-agent.service"
FOLDER = Path("/etc/systemd/system")
PARENT = Path("/etc/gpuwarden")

pytestmark = pytest.mark.systemd


def systemctl(*words: str) -> str:
    done = subprocess.run(
        ["systemctl", *words], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0 or words[0] in ("stop", "disable", "reset-failed"), done.stderr
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
        "Slice=system.slice\nOOMScoreAdjust=0\nWatchdogSec=5\n"
    )
    (PARENT / "conf.d").mkdir(parents=True, exist_ok=True)
    (PARENT / "agent.toml").write_text(
        '[agent]\nmetrics_listen = "127.0.0.1:0"\n[kmsg]\nsource = "none"\n'
    )
    systemctl("daemon-reload")
    yield
    systemctl("stop", UNIT)
    systemctl("disable", UNIT)
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


def doctor() -> dict[str, str]:
    """Results by check."""
    said = json.loads(run("doctor", "--json").output)["checks"]
    return {check["name"]: check["result"] for check in said}


def journal(matching: str) -> dict[str, str]:
    """The newest entry of this life of the unit that matches."""
    life = f"_SYSTEMD_INVOCATION_ID={shown('InvocationID')}"
    command = ["journalctl", "--no-pager", "-n", "1", "-o", "json", life, matching]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.usefixtures("unit")
def test_a_host_without_gpus_is_no_crash_loop_and_a_hung_agent_is_started_anew(
    tmp_path: Path,
) -> None:
    systemctl("start", UNIT)
    assert "no GPUs (LIBRARY_NOT_FOUND" in shown("StatusText")
    said = doctor()
    assert (said["unit"], said["agent"], said["enforcement"]) == ("warning", "warning", "ok")
    logged = journal("GPUWARDEN_EVENT=no_gpus")
    assert "libnvidia-ml.so.1" in logged["GPUWARDEN_WHY"]
    assert (logged["_SYSTEMD_UNIT"], logged["MESSAGE_ID"]) == (UNIT, message_id("no_gpus"))
    systemctl("enable", UNIT)
    assert doctor()["unit"] == "ok"
    assert shown("NRestarts") == "0"
    pid = int(shown("MainPID"))
    os.kill(pid, signal.SIGSTOP)
    clock = SystemClock()
    end = clock.now() + 60.0
    while shown("NRestarts") == "0" or shown("SubState") != "running":
        assert clock.now() < end, systemctl("status", UNIT)
        clock.sleep(0.5)
    assert int(shown("MainPID")) != pid
    assert mode() == "observe"
    bundle = tmp_path / "b.tar.gz"
    assert run("support-bundle", str(bundle)).exit_code == 0
    with tarfile.open(bundle) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"unit/status.txt", "unit/files.txt", "journal.txt", "status.json"} <= inside


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
    assert doctor()["enforcement"] == "ok"
    assert {"cap_sys_admin", "cap_dac_override"} <= set(shown("CapabilityBoundingSet").split())
    assert shown("DropInPaths").endswith("50-enforcement.conf")
    assert run("enable-enforcement", "--undo", "--yes").exit_code == 0
    systemctl("restart", UNIT)
    assert mode() == "observe"
    assert shown("CapabilityBoundingSet") == before
    systemctl("reload", UNIT)
    assert shown("ActiveState") == "active"
