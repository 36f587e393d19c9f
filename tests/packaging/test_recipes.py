"""What lies in packaging/: maintainer scripts, the description for nfpm, the locks."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
SCRIPTS = sorted([*(PACKAGING / "deb").iterdir(), *(PACKAGING / "rpm").iterdir()])
TIMEOUT_S = 30


def code(script: Path) -> str:
    """Without comments."""
    lines = script.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: f"{s.parent.name}-{s.name}")
def test_a_shell_takes_it(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True, timeout=TIMEOUT_S)
    if shutil.which("shellcheck"):
        command = ["shellcheck", "--shell=sh", "--severity=warning", str(script)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: f"{s.parent.name}-{s.name}")
def test_nothing_is_taken_from_an_admin(script: Path) -> None:
    text = code(script)
    assert "chown" not in text
    assert not re.search(r"\b(userdel|groupdel|deluser|delgroup)\b", text)
    assert not re.search(r"systemctl[^\n]*\benable\b", text.replace("is-enabled", ""))


@pytest.mark.parametrize("script", ["deb/postinst", "rpm/post"])
def test_the_configuration_is_checked_before_a_restart(script: str) -> None:
    text = code(PACKAGING / script)
    assert text.index("check-config") < text.index(" restart ")


def test_an_upgrade_stops_nothing() -> None:
    assert code(PACKAGING / "deb/prerm").startswith('set -e\nif [ "$1" = remove ]')
    assert code(PACKAGING / "rpm/preun").startswith('if [ "$1" -eq 0 ]')


def test_the_interpreter_is_pinned_by_hash() -> None:
    lines = (PACKAGING / "interpreter.lock").read_text(encoding="utf-8").splitlines()
    version, *sums = [line for line in lines if not line.startswith("#")]
    assert re.fullmatch(r"3\.13\.\d+-\S+", version)
    names = [line.split()[1] for line in sums if re.fullmatch(r"[0-9a-f]{64} {2}\S+", line)]
    assert len(names) == 2
    assert any(version in name for name in names)


def test_the_agent_carries_no_numpy() -> None:
    assert "numpy" not in (ROOT / "requirements.lock").read_text(encoding="utf-8")
