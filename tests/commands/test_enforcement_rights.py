"""What the drop-in of enforcement is for, tried under a real systemd: a user's control group is written to with it
alone. What goes by systemd's own word (stopping a unit, a reboot) needs none of it."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.commands.enforcement import shipped
from tests.commands.cli_run import ROOT

FOLDER = Path("/etc/systemd/system")
CGROUPS = Path("/sys/fs/cgroup")
SCHEDULED = Path("/run/systemd/shutdown/scheduled")
NOBODY = 65534
RIGHTS = (
    *("Protect", "Private", "Restrict", "Capability", "SystemCall", "NoNew", "Lock", "MemoryDeny"),
    *("RemoveIPC", "Keyring", "UMask", "ReadWritePaths"),
)
"""Beginnings of the settings that say what a unit may do."""

pytestmark = pytest.mark.systemd


def rights(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith(RIGHTS)]
    return "\n".join(line for line in lines if not line.startswith("Restart"))


@pytest.fixture
def name() -> Iterator[str]:
    """Of a unit, a victim of its kind, and a control group; all are gone afterwards."""
    name = f"gw-{uuid.uuid4().hex[:8]}"
    yield name
    for unit in (f"{name}.service", f"{name}-victim.service"):
        subprocess.run(["systemctl", "stop", unit], check=False, timeout=60, capture_output=True)
    (FOLDER / f"{name}.service").unlink(missing_ok=True)
    (CGROUPS / name).rmdir()
    subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=60)
    subprocess.run(["systemctl", "reset-failed"], check=False, timeout=60)


def tried(name: str, more: str) -> tuple[bool, bool, bool]:
    """Whether a unit with these rights froze a user's group, stopped another unit, and ordered a reboot."""
    unit = (ROOT / "systemd" / "gpuwarden-agent.service").read_text()
    if "CapabilityBoundingSet" not in unit:
        (CGROUPS / name).mkdir(exist_ok=True)
        pytest.skip("the unit is not hardened yet")
    victim = f"{name}-victim.service"
    subprocess.run(
        ["systemd-run", "--quiet", f"--unit={victim}", "sleep", "300"], check=True, timeout=60
    )
    group = CGROUPS / name
    group.mkdir(exist_ok=True)
    for file in (group, group / "cgroup.freeze"):
        os.chown(file, NOBODY, NOBODY)
    lines = (
        *("[Service]", "Type=oneshot"),
        f"ExecStart=-/bin/sh -c 'echo 1 >{group}/cgroup.freeze'",
        f"ExecStart=-/bin/systemctl stop {victim}",
        "ExecStart=-/usr/sbin/shutdown -r +600 test",
        *(rights(unit), rights(more), ""),
    )
    (FOLDER / f"{name}.service").write_text("\n".join(lines))
    subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=60)
    subprocess.run(["systemctl", "start", f"{name}.service"], check=True, timeout=60)
    froze = (group / "cgroup.freeze").read_text().strip() == "1"
    (group / "cgroup.freeze").write_text("0")
    state = subprocess.run(
        ["systemctl", "is-active", victim], capture_output=True, text=True, timeout=60, check=False
    )
    is_ordered = SCHEDULED.exists()
    subprocess.run(["shutdown", "-c"], check=False, timeout=60, capture_output=True)
    return froze, state.stdout.strip() != "active", is_ordered


def test_a_unit_that_only_watches_cannot_hold_a_user_s_group(name: str) -> None:
    assert tried(name, "") == (False, True, True)


def test_with_the_drop_in_it_can(name: str) -> None:
    assert tried(name, shipped("50-enforcement.conf")) == (True, True, True)
