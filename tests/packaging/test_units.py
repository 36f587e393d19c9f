"""The units of systemd/: how exposed they are, whom they page through, what they may not use yet."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "systemd").glob("*.service"))
ANALYZE_TIMEOUT_S = 30


def settings(unit: Path) -> dict[str, list[str]]:
    """Each setting with every value it is given."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def exposure(text: Path, threshold: int) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze here")
    return subprocess.run(
        [program, "security", "--offline=yes", f"--threshold={threshold}", "--no-pager", str(text)],
        capture_output=True,
        text=True,
        timeout=ANALYZE_TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("unit", "threshold"),
    [
        ("gpuwarden-agent.service", 31),
        ("gpuwarden-agent-failed.service", 31),
        ("gpuwarden-aggregator.service", 12),
        ("gpuwarden-aggregator-failed.service", 31),
    ],
)
def test_how_exposed_it_is(unit: str, threshold: int, tmp_path: Path) -> None:
    said = exposure(ROOT / "systemd" / unit, threshold)
    assert said.returncode == 0, said.stdout
    bare = tmp_path / unit  # the same without its hardening is found out
    bare.write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    assert exposure(bare, threshold).returncode != 0


@pytest.mark.parametrize("daemon", ["agent", "aggregator"])
def test_people_are_told_when_it_is_given_up(daemon: str) -> None:
    unit = settings(ROOT / "systemd" / f"gpuwarden-{daemon}.service")
    assert unit["OnFailure"] == [f"gpuwarden-{daemon}-failed.service"]
    told = settings(ROOT / "systemd" / f"gpuwarden-{daemon}-failed.service")
    assert f"notify unit-failed gpuwarden-{daemon}.service" in told["ExecStart"][0]
    assert ("--aggregator" in told["ExecStart"][0]) is (daemon == "aggregator")


def test_the_agent_reads_the_kernel_log_and_lets_go() -> None:
    unit = settings(ROOT / "systemd" / "gpuwarden-agent.service")
    assert unit["ProtectKernelLogs"] == ["no"]
    assert "CAP_SYSLOG" in unit["CapabilityBoundingSet"][0].split()
    assert unit["Type"] == ["notify"]
    assert "WatchdogSec" in unit
    assert unit["ExecStopPost"][0].endswith("debug let-go")
    assert "AF_NETLINK" not in unit["RestrictAddressFamilies"][0]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_nothing_that_systemd_247_does_not_know(unit: Path) -> None:
    used = settings(unit)
    newer = {"RestartSteps", "RestartMaxDelaySec", "OpenFile", "MemoryZSwapMax", "RestartMode"}
    assert newer.isdisjoint(used)
    assert used["Type"][0] in ("notify", "simple", "oneshot")  # notify-reload is of 253


def test_case_47_it_is_started_again_and_given_up_after_five_in_ten_minutes() -> None:
    """What ends it (memory, threads) under systemd: scripts/install-test.d/scarce.py."""
    unit = settings(ROOT / "systemd" / "gpuwarden-agent.service")
    assert unit["Restart"] == ["always"]
    assert int(unit["StartLimitBurst"][0]) <= 5
    assert (
        "StartLimitAction" not in unit
    )  # given up stays given up: people are told, the host lives on
    assert float(unit["RestartSec"][0]) * 5 < float(unit["StartLimitIntervalSec"][0])


@pytest.mark.parametrize("daemon", ["agent", "aggregator"])
def test_a_reload_is_a_signal(daemon: str) -> None:
    unit = settings(ROOT / "systemd" / f"gpuwarden-{daemon}.service")
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
