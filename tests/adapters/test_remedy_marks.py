"""What an agent that died leaves to the next one of the step it was taking."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuwarden.adapters.evidence import EvidenceRoom
from gpuwarden.adapters.remedies import MARK, HostRemedies
from gpuwarden.clock import SystemClock
from gpuwarden.config import RepairConfig
from gpuwarden.errors import Unavailable


def remedies(folder: Path) -> HostRemedies:
    cfg, clock = RepairConfig(), SystemClock()
    room = EvidenceRoom(
        folder=folder / "evidence",
        kernel_log=folder / "none",
        nvidia_smi=cfg.nvidia_smi,
        bug_report=cfg.bug_report,
        report_s=1.0,
        clock=clock,
    )
    return HostRemedies(cfg, clock, folder, room)


def test_a_step_that_was_never_marked_never_began(tmp_path: Path) -> None:
    assert remedies(tmp_path).is_done("inc-1/4") is False
    remedies(tmp_path).mark("inc-1/2", is_done=True)
    assert remedies(tmp_path).is_done("inc-1/4") is False


def test_one_that_began_may_have_been_taken_and_one_that_was_is_known(tmp_path: Path) -> None:
    remedies(tmp_path).mark("inc-1/4", is_done=False)
    assert remedies(tmp_path).is_done("inc-1/4") is None
    remedies(tmp_path).mark("inc-1/4", is_done=True)
    assert remedies(tmp_path).is_done("inc-1/4") is True


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b"\xff\xfe", b"7"])
def test_a_mark_that_cannot_be_read_says_nothing(said: bytes, tmp_path: Path) -> None:
    (tmp_path / MARK).write_bytes(said)
    assert remedies(tmp_path).is_done("inc-1/4") is None


def test_a_mark_through_a_link_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("{}")
    (tmp_path / MARK).symlink_to(tmp_path / "elsewhere")
    assert remedies(tmp_path).is_done("inc-1/4") is None


def test_a_step_that_cannot_be_marked_must_not_begin(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file"):
        remedies(tmp_path / "gone").mark("inc-1/4", is_done=False)
