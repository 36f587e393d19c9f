"""Segments of the journal: each stands by itself, and what cannot be read is told apart from damage."""

from __future__ import annotations

import errno
import os
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.errors import Unavailable
from gpuwarden.model.action import Kind
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.memory import Debt, Memory
from gpuwarden.node.journal import FileJournal, Reading, RealDisk, encode, read, segments
from gpuwarden.node.journal import Record as Line
from gpuwarden.node.recover import recover
from tests.policy.builders import memory, outcome, target, tenant

HOG = tenant("hog")
OWED = Debt(
    tenant=HOG.id, kind=Kind.UNTHROTTLE, target=target(HOG), incident=IncidentId("inc"), old=()
)
OLD = {"cpu.cfs_quota_us": "-1"}


class FailingDisk(RealDisk):
    """A disk that is full while ``is_full``."""

    def __init__(self) -> None:
        self.is_full = False

    def write(self, fd: int, data: bytes) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        super().write(fd, data)


class IllDisk(RealDisk):
    """A disk that loses what was written, and says so once: the page is clean when asked again."""

    def __init__(self) -> None:
        self.is_ill = False
        self.synced: list[str] = []

    def sync(self, fd: int) -> None:
        self.synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        if self.is_ill:
            self.is_ill = False  # the kernel reports a lost write to one fsync only
            raise OSError(errno.EIO, "Input/output error")
        super().sync(fd)


def test_a_file_whose_sync_failed_is_given_up(tmp_path: Path) -> None:
    """The second fsync of a file that lost a page would succeed, and mean nothing."""
    disk = IllDisk()
    journal = FileJournal(tmp_path, 2**30, disk)
    journal.begin("{}", owing())
    lost = disk.synced[-1]
    disk.is_ill = True
    with pytest.raises(Unavailable, match="Input/output error"):
        journal.conclude((outcome(Kind.THROTTLE, HOG, old=OLD),))
    asked = disk.synced.count(lost)
    journal.keep(())
    journal.close()
    assert disk.synced.count(lost) == asked, "never asked again"
    assert disk.synced[-1] != lost
    assert journal.failures == 1
    first, second = segments(tmp_path)
    first.unlink()  # whatever of it reached the disk
    (debt,) = recover(read(second)).memory.debts
    assert dict(debt.old) == OLD, "what the lost record said is in the new one"


def owing() -> Memory:
    return replace(memory(), debts=(OWED,))


def test_a_new_segment_begins_with_what_became_of_the_actions(tmp_path: Path) -> None:
    disk = FailingDisk()
    journal = FileJournal(tmp_path, 2**30, disk)
    journal.begin("{}", owing())
    journal.conclude((outcome(Kind.THROTTLE, HOG, old=OLD),))
    disk.is_full = True
    with pytest.raises(Unavailable, match="No space left"):
        journal.keep(())
    disk.is_full = False
    journal.keep(())
    journal.close()
    first, second = segments(tmp_path)
    first.unlink()  # as the cap does
    (debt,) = recover(read(second)).memory.debts
    assert dict(debt.old) == OLD


def test_a_disk_that_stays_full_gets_no_new_segments(tmp_path: Path) -> None:
    disk = FailingDisk()
    journal = FileJournal(tmp_path, 2**30, disk)
    journal.begin("{}", owing())
    disk.is_full = True
    for _ in range(5):
        with pytest.raises(Unavailable):
            journal.remember(owing())
    assert len(segments(tmp_path)) == 1
    disk.is_full = False
    journal.remember(owing())
    assert len(segments(tmp_path)) == 2
    journal.close()


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind":"start","schema":2}',
        b'{"kind":"never-heard-of","schema":9}',
        b'{"kind":"tick","schema":2,"decision":"another shape"}',
    ],
)
def test_a_newer_schema_is_not_damage(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "journal-00000001.jsonl"
    path.write_bytes(b"%08x %s\n" % (zlib.crc32(body), body) + encode(Line(kind="stop")))
    reading = Reading()
    assert [record.kind for record in read(tmp_path, reading)] == ["stop"]
    assert reading.newer_schema
    assert reading.gaps == 0


@pytest.mark.parametrize(
    "line",
    [
        b'00000000 {"kind":"start","schema":2}\n',  # the sum is wrong
        b"%08x [2]\n" % zlib.crc32(b"[2]"),
        b"%08x {\n" % zlib.crc32(b"{"),
        b"\xff\xfe\n",
        b"\n",
    ],
)
def test_damage_is_not_a_newer_schema(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "journal-00000001.jsonl").write_bytes(line + line)
    reading = Reading()
    assert list(read(tmp_path, reading)) == []
    assert not reading.newer_schema
    assert reading.gaps == 1  # side by side they are one


def test_a_segment_that_cannot_be_read_is_a_gap(tmp_path: Path) -> None:
    (tmp_path / "journal-00000001.jsonl").mkdir()
    (tmp_path / "journal-00000002.jsonl").write_bytes(encode(Line(kind="stop")))
    reading = Reading()
    assert [record.kind for record in read(tmp_path, reading)] == ["stop"]
    assert reading.gaps == 1


def test_a_segment_that_is_no_file_of_its_own_is_a_gap_and_holds_nobody_up(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "journal", 2**30)
    journal.begin("{}", owing())
    journal.close()
    forged = tmp_path / "forged"
    forged.write_bytes(encode(Line(kind="memory", memory=Memory(serial=99))))
    (tmp_path / "journal" / "journal-00000002.jsonl").symlink_to(forged)
    os.mkfifo(tmp_path / "journal" / "journal-00000003.jsonl")
    reading = Reading()
    assert recover(read(tmp_path / "journal", reading)).memory == owing()
    assert reading.gaps == 2
