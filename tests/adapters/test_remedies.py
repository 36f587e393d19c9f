"""Steps of a repair with programs that say what nvidia-smi, systemctl and shutdown say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.adapters import remedies
from gpuwarden.adapters.evidence import EvidenceRoom
from gpuwarden.adapters.remedies import HostRemedies
from gpuwarden.clock import SystemClock
from gpuwarden.config import RepairConfig
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.repair import Subject

GPU = Subject(device=DeviceId("GPU-1"), index=0, pci="00000000:3B:00.0")
IN_USE = "GPU 00000000:3B:00.0 is currently in use by another process."
# Units are files in the folder: there, and active or not.
SYSTEMCTL = r"""
case $1 in
show) shift 4; [ -e "unit.$1" ] && echo loaded || echo not-found ;;
is-active) cat "unit.$2" 2>/dev/null || echo inactive ;;
stop) echo inactive > "unit.$2" ;;
start) echo active > "unit.$2" ;;
restart) [ ! -e broken ] || { echo "Job failed." >&2; exit 1; } ;;
esac
"""
Make = Callable[..., HostRemedies]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr(remedies, "LET_GO_S", 0.3)
    monkeypatch.setattr(remedies, "RETRY_S", 0.02)

    def program(name: str, body: str) -> Path:
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\ncd {tmp_path}\necho "{name} $*" >> said\n{body}\n')
        path.chmod(0o755)
        return path

    def host(smi: str = "exit 0", other: str = "exit 0", **settings: Any) -> HostRemedies:
        told: dict[str, Any] = {
            key: (str(program("other", other)), *value) if key.endswith("command") else value
            for key, value in settings.items()
        }
        cfg = RepairConfig(
            nvidia_smi=program("nvidia-smi", smi),
            systemctl=program("systemctl", SYSTEMCTL),
            **told,
        )
        clock = SystemClock()
        room = EvidenceRoom(
            folder=tmp_path / "evidence",
            kernel_log=tmp_path / "none",
            nvidia_smi=cfg.nvidia_smi,
            bug_report=tmp_path / "none",
            report_s=1.0,
            clock=clock,
        )
        return HostRemedies(cfg, clock, tmp_path, room, scheduled=tmp_path / "scheduled")

    return host


def said(folder: Path) -> list[str]:
    try:
        return (folder / "said").read_text().splitlines()
    except FileNotFoundError:
        return []


def test_a_reset_names_the_device_by_its_uuid(make: Make, tmp_path: Path) -> None:
    assert make().reset_gpu(GPU) == "reset"
    assert said(tmp_path) == ["nvidia-smi --gpu-reset -i GPU-1"]


def test_a_reset_of_no_device_is_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="needs a device"):
        make().reset_gpu(Subject())
    assert said(tmp_path) == []


def test_one_that_is_let_go_of_a_moment_later_is_reset(make: Make) -> None:
    smi = f'[ "$(grep -c nvidia-smi said)" -gt 2 ] || {{ echo "{IN_USE}"; exit 1; }}'
    assert make(smi).reset_gpu(GPU) == "reset"


@pytest.mark.parametrize("status", [0, 1])
def test_one_in_use_is_refused_whatever_the_status_says(make: Make, status: int) -> None:
    """Old versions exit 0 and say what was wrong."""
    with pytest.raises(Refused, match="currently in use"):
        make(f'echo "{IN_USE}"; exit {status}').reset_gpu(GPU)


def test_persistenced_goes_out_of_the_way_and_comes_back(make: Make, tmp_path: Path) -> None:
    unit = tmp_path / "unit.nvidia-persistenced.service"
    unit.write_text("active\n")
    smi = f'grep -q inactive {unit.name} || {{ echo "{IN_USE}"; exit 1; }}'
    make(smi).reset_gpu(GPU)
    assert unit.read_text() == "active\n"


def test_persistenced_comes_back_after_a_failure_too(make: Make, tmp_path: Path) -> None:
    unit = tmp_path / "unit.nvidia-persistenced.service"
    unit.write_text("active\n")
    with pytest.raises(Refused):
        make(f'echo "{IN_USE}"; exit 1').reset_gpu(GPU)
    assert "systemctl stop nvidia-persistenced.service" in said(tmp_path)
    assert unit.read_text() == "active\n"


def test_what_cannot_be_reset_here_is_told_apart_from_a_failure(make: Make) -> None:
    with pytest.raises(Unsupported):
        make("echo Resetting GPU 00000000:3B:00.0 is not supported.; exit 3").reset_gpu(GPU)
    with pytest.raises(Unavailable, match="Unknown Error"):
        make("echo Unknown Error; exit 255").reset_gpu(GPU)


def test_a_reset_that_hangs_has_failed(make: Make) -> None:
    with pytest.raises(Unavailable, match="did not end"):
        make("sleep 600", reset_s=0.2).reset_gpu(GPU)


def test_the_operators_check_decides_whether_a_reset_was_one(make: Make, tmp_path: Path) -> None:
    assert "passed" in make(check_command=("--quick",)).reset_gpu(GPU)
    assert said(tmp_path)[-1] == "other --quick GPU-1"
    with pytest.raises(Unavailable, match="CUDA error"):
        make(other="echo CUDA error; exit 1", check_command=()).reset_gpu(GPU)


def test_only_services_that_are_installed_are_restarted(make: Make, tmp_path: Path) -> None:
    (tmp_path / "unit.nvidia-fabricmanager.service").touch()
    assert make().restart_services() == "nvidia-fabricmanager.service"
    assert said(tmp_path)[-1] == "systemctl restart nvidia-fabricmanager.service"
    (tmp_path / "broken").touch()
    with pytest.raises(Unavailable, match="Job failed"):
        make().restart_services()


def test_where_none_is_installed_there_is_nothing_to_restart(make: Make, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="none of nvidia-fabricmanager"):
        make().restart_services()
    assert not [line for line in said(tmp_path) if " restart " in line]


def test_the_operators_own_way_to_reload(make: Make, tmp_path: Path) -> None:
    make(reload_command=("--all",)).reload_driver()
    assert said(tmp_path) == ["other --all"]
    with pytest.raises(Unavailable, match="no such module"):
        make(other="echo no such module >&2; exit 1", reload_command=()).reload_driver()


def test_a_reboot_is_scheduled_once_with_its_reason_on_one_line(make: Make, tmp_path: Path) -> None:
    host = make(reboot_command=("-r",), reboot_delay_s=120)
    assert host.reboot("lost fault\nof GPU 0") == "in 2 min; shutdown -c cancels it"
    assert said(tmp_path) == ["other -r +2 gpuwarden: lost fault of GPU 0"]
    (tmp_path / "scheduled").touch()
    assert "already" in host.reboot("lost fault of GPU 0")
    assert len(said(tmp_path)) == 1
