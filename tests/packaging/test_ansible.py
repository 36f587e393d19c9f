"""The role: Ansible takes it, and what the program refuses never takes the place of what is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gpuwarden.config_files import load

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "packaging" / "ansible"
GOOD = '[default]\nclass = "low"\n'
BAD = '[default]\nclass = "lowly"\n'
TIMEOUT_S = 110


def play(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {
        **{k: v for k, v in os.environ.items() if not k.startswith("GPUWARDEN_")},
        "ANSIBLE_HOME": str(tmp_path / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "ansible" / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(tmp_path / "ansible" / "far"),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), *words]
    return subprocess.run(
        command,
        env=environ,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def configured(tmp_path: Path, drop_ins: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The role's own tasks, in a folder instead of /etc, with this checkout's gpuwarden."""
    command = tmp_path / "gpuwarden"
    command.write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT / "agent"} exec {sys.executable} -m gpuwarden "$@"\n'
    )
    command.chmod(0o755)
    etc = tmp_path / "etc"
    etc.mkdir(exist_ok=True)
    variables = {
        "gpuwarden_config": "# by Ansible\n",
        "gpuwarden_drop_ins": drop_ins,
        "gpuwarden_credentials": {"slack": "a-secret"},
        "gpuwarden_config_dir": str(etc),
        "gpuwarden_unit_dir": str(tmp_path / "units"),
        "gpuwarden_command": str(command),
        "gpuwarden_owner": str(os.getuid()),
        "gpuwarden_group": str(os.getgid()),
        "gpuwarden_service": False,
        "ansible_python_interpreter": sys.executable,
    }
    book = tmp_path / "play.yml"
    book.write_text(
        yaml.safe_dump(
            [
                {
                    "hosts": "localhost",
                    "connection": "local",
                    "gather_facts": False,
                    "roles": [{"role": str(FOLDER / "roles" / "gpuwarden"), "vars": variables}],
                }
            ]
        )
    )
    return play(tmp_path, "--inventory", "localhost,", "--tags", "configure", str(book))


def test_ansible_takes_the_playbook(tmp_path: Path) -> None:
    done = play(
        tmp_path, "--syntax-check", "--inventory", "localhost,", str(FOLDER / "playbook.yml")
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(240)
def test_good_settings_are_put_in_place_once(tmp_path: Path) -> None:
    done = configured(tmp_path, {"50-quotas": GOOD})
    assert done.returncode == 0, done.stdout + done.stderr
    etc = tmp_path / "etc"
    assert (etc / "conf.d" / "50-quotas.toml").read_text() == GOOD
    secret = etc / "credentials" / "slack"
    assert (secret.read_text(), secret.stat().st_mode & 0o777) == ("a-secret", 0o600)
    assert "a-secret" not in done.stdout
    drop_in = tmp_path / "units" / "gpuwarden-.service.d" / "credentials.conf"
    assert f"LoadCredential=slack:{secret}" in drop_in.read_text()
    again = configured(tmp_path, {"50-quotas": GOOD})
    assert "changed=0" in again.stdout, again.stdout


@pytest.mark.timeout(240)
def test_bad_settings_stop_the_play_and_change_nothing(tmp_path: Path) -> None:
    assert configured(tmp_path, {"50-quotas": GOOD}).returncode == 0
    done = configured(tmp_path, {"50-quotas": BAD})
    assert done.returncode != 0
    assert "lowly" in done.stdout
    assert (tmp_path / "etc" / "conf.d" / "50-quotas.toml").read_text() == GOOD


def test_the_playbooks_own_settings_are_taken(tmp_path: Path) -> None:
    (hosts,) = yaml.safe_load((FOLDER / "playbook.yml").read_text(encoding="utf-8"))
    for name, text in hosts["roles"][0]["vars"]["gpuwarden_drop_ins"].items():
        path = tmp_path / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        load(path, environ={})


def test_the_check_comes_before_anybody_is_told() -> None:
    tasks = FOLDER / "roles" / "gpuwarden" / "tasks" / "configure.yml"
    rows = yaml.safe_load(tasks.read_text(encoding="utf-8"))
    assert "command" in json.dumps(rows[-1])
    assert all(
        "validate" in row["ansible.builtin.copy"] for row in rows if "ansible.builtin.copy" in row
    )
