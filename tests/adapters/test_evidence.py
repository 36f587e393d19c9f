"""What is kept of a failed repair, with programs that behave as nvidia-smi and nvidia-bug-report do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuwarden.adapters import evidence
from gpuwarden.adapters.evidence import EvidenceRoom
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Unavailable
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.repair import Subject

GPU = Subject(device=DeviceId("GPU-1"), index=0, pci="00000000:3B:00.0")
SMI = 'echo "$@"; echo "Timestamp : now"'
REPORT = 'shift; [ "$1" = --output-file ] || exit 2; echo all of it > "$2.gz"'
Make = Callable[..., EvidenceRoom]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def program(name: str, body: str | None) -> Path:
        path = tmp_path / name
        if body is not None:
            path.write_text(f"#!/bin/sh\n{body}\n")
            path.chmod(0o755)
        return path

    def room(
        smi: str | None = SMI, report: str | None = REPORT, log: str = "NVRM: Xid 79\n"
    ) -> EvidenceRoom:
        (tmp_path / "lines").write_text(log)
        return EvidenceRoom(
            folder=tmp_path / "evidence",
            kernel_log=tmp_path / "lines",
            nvidia_smi=program("nvidia-smi", smi),
            bug_report=program("nvidia-bug-report.sh", report),
            report_s=5.0,
            clock=SystemClock(),
        )

    return room


def about(folder: Path) -> dict[str, object]:
    said: dict[str, object] = json.loads((folder / "about.json").read_text())
    return said


def test_all_of_it_is_kept_for_the_owner_alone(make: Make, tmp_path: Path) -> None:
    said = make().keep(GPU, "inc-1-2", "hang fault of GPU 0")
    folder = tmp_path / "evidence" / "inc-1-2.1"
    assert said.startswith(f"{folder}: kernel.log, nvidia-smi.txt, nvidia-bug-report.log.gz")
    assert (folder / "kernel.log").read_text() == "NVRM: Xid 79\n"
    assert (folder / "nvidia-smi.txt").read_text().startswith("-q -i GPU-1\n")
    assert about(folder)["missing"] == {}
    assert about(folder)["why"] == "hang fault of GPU 0"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "kernel.log").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_had_is_named_and_the_rest_is_kept(make: Make, tmp_path: Path) -> None:
    said = make(smi="echo GPU is lost >&2; exit 15", report=None).keep(GPU, "inc-1", "")
    folder = tmp_path / "evidence" / "inc-1.1"
    assert about(folder)["kept"] == ["kernel.log"]
    assert "GPU is lost" in said
    assert "no nvidia-bug-report" in said
    assert "GPU is lost" in (folder / "nvidia-smi.txt").read_text()


def test_a_report_that_hangs_is_left_behind_in_time(make: Make, tmp_path: Path) -> None:
    room = make(report="sleep 600")
    quick = EvidenceRoom(
        folder=room.folder,
        kernel_log=room.kernel_log,
        nvidia_smi=room.nvidia_smi,
        bug_report=room.bug_report,
        report_s=0.2,
        clock=SystemClock(),
    )
    assert "did not end in 0.2 s" in quick.keep(GPU, "inc-1", "")
    assert about(tmp_path / "evidence" / "inc-1.1")["kept"] == ["kernel.log", "nvidia-smi.txt"]


def test_the_newest_part_of_a_long_log(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "LOG_MAX_BYTES", 8)
    make(log="0123456789abcdef").keep(GPU, "inc-1", "")
    assert (tmp_path / "evidence" / "inc-1.1" / "kernel.log").read_text() == "89abcdef"


def test_the_oldest_goes_and_what_is_not_ours_stays(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "FOLDERS_MAX", 3)
    room = make(report=None)
    (tmp_path / "evidence" / "notes of mine").mkdir(parents=True)
    for number in range(5):
        room.keep(GPU, f"inc-{number}", "")
        os.utime(tmp_path / "evidence" / f"inc-{number}.1", (number, number))
    room.keep(GPU, "inc-4", "")
    left = sorted(path.name for path in (tmp_path / "evidence").iterdir())
    assert left == ["inc-3.1", "inc-4.1", "inc-4.2", "notes of mine"]


@pytest.mark.parametrize("name", ["", "../inc", "inc/1", "inc\n1", "-inc", "x" * 81])
def test_no_name_leads_out_of_the_folder(make: Make, tmp_path: Path, name: str) -> None:
    with pytest.raises(Unavailable, match="not the name"):
        make().keep(GPU, name, "")
    assert not (tmp_path / "evidence").exists()


def test_a_link_in_its_place_is_not_removed_through(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "FOLDERS_MAX", 1)
    room = make(report=None)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "inc-9.1").symlink_to(precious)
    room.keep(GPU, "inc-1", "")
    room.keep(GPU, "inc-2", "")
    assert (precious / "file").exists()


def test_nothing_is_kept_on_a_full_disk(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "FREE_MIN_BYTES", shutil.disk_usage("/").total + 1)
    with pytest.raises(Unavailable, match="MiB are free"):
        make().keep(GPU, "inc-1", "")


@pytest.mark.root
def test_the_kernels_own_log(make: Make, tmp_path: Path) -> None:
    room = make()
    real = EvidenceRoom(
        folder=room.folder,
        kernel_log=Path("/dev/kmsg"),
        nvidia_smi=room.nvidia_smi,
        bug_report=room.bug_report,
        report_s=5.0,
        clock=SystemClock(),
    )
    real.keep(GPU, "inc-1", "")
    first = (tmp_path / "evidence" / "inc-1.1" / "kernel.log").read_bytes().splitlines()[0]
    assert first.split(b",")[1].isdigit()
