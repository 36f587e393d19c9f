"""The book of on-call on disk: what was saved comes back, whatever happened to the file since."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuwarden.errors import Unavailable
from gpuwarden.model.oncall import Book, Matcher, Result
from gpuwarden.node import sent_log
from gpuwarden.node.journal import RealDisk
from gpuwarden.node.sent_log import SentLog
from gpuwarden.policy.notify import people
from tests.adapters.sink_notices import EVIL
from tests.policy.notify_stage import T0, Duty, inc, oncall


def busy_book() -> Book:
    """A bit of everything."""
    cfg = oncall("pagerduty", "slack", storm_notices=2, flap_count=2)
    duty = Duty(cfg, down={"slack": Result.FAILED})
    duty.page(1).run(5).ack(1)
    for number in range(2, 7):
        duty.page(number, summary=EVIL, tenant_name=EVIL)
    duty.run(20).close(2).run(30)
    duty.book, _ = people.silenced(
        duty.book, Matcher(rule="x"), author="ann", reason=EVIL, wall=T0, until_wall=T0 + 9
    )
    return replace(duty.book, dropped=3, dropped_wall=T0)


def told(book: Book) -> Book:
    """What of a book is kept."""
    return replace(book, refreshed={})


def saved(folder: Path, *books: Book) -> SentLog:
    log = SentLog(folder)
    before = Book()
    for book in books:
        log.save(before, book)
        before = book
    log.close()
    return log


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    book = busy_book()
    assert book.sinks["pagerduty"].storm is not None
    assert book.flaps
    saved(tmp_path, book)
    assert SentLog(tmp_path).read() == told(book)


def test_change_by_change(tmp_path: Path) -> None:
    """Only what changed is written, and what is gone is gone."""
    duty = Duty(oncall("pagerduty"))
    log, before = SentLog(tmp_path), Book()
    for number in range(6):
        duty.page(number).run(duty.at + 3)
        if number == 3:
            duty.close(0, 1, 2)
        log.save(before, duty.book)
        before = duty.book
    duty.run(duty.at + 5000, step_s=10.0)
    log.save(before, duty.book)
    log.close()
    assert inc(0) not in duty.book.entries
    assert SentLog(tmp_path).read() == told(duty.book)
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_changed_is_nothing_written(tmp_path: Path) -> None:
    book = busy_book()
    log = SentLog(tmp_path)
    log.save(Book(), book)
    size = sum(p.stat().st_size for p in tmp_path.iterdir())
    log.save(book, replace(book, refreshed={"x y": 1.0}))
    log.close()
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) == size


def test_nothing_there_is_an_empty_book(tmp_path: Path) -> None:
    log = SentLog(tmp_path / "none")
    assert (log.read(), log.gaps) == (Book(), 0)


class TestDamage:
    @pytest.mark.parametrize(("lost", "is_there"), [(1, True), (7, True), (300, False)])
    def test_a_torn_tail_loses_the_last_lines_alone(
        self, lost: int, is_there: bool, tmp_path: Path
    ) -> None:
        duty = Duty(oncall("pagerduty")).page(1).run(3)
        before = duty.book
        duty.page(2)
        saved(tmp_path, before, duty.book)
        (path,) = tmp_path.iterdir()
        os.truncate(path, path.stat().st_size - lost)
        log = SentLog(tmp_path)
        book = log.read()
        assert inc(1) in book.entries
        assert (inc(2) in book.entries) is is_there
        assert log.gaps == 1

    @settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        at=st.floats(0, 1, exclude_max=True),
        junk=st.binary(min_size=1, max_size=40),
        inserts=st.booleans(),
    )
    def test_any_damage_is_survived(
        self, at: float, junk: bytes, inserts: bool, tmp_path: Path
    ) -> None:
        folder = tmp_path / "log"
        book = busy_book() if not folder.exists() else None
        if book is not None:
            saved(folder, book)
            (tmp_path / "whole").write_bytes(next(folder.iterdir()).read_bytes())
        whole = (tmp_path / "whole").read_bytes()
        cut = int(at * len(whole))
        rest = whole[cut:] if inserts else whole[cut + len(junk) :]
        next(folder.iterdir()).write_bytes(whole[:cut] + junk + rest)
        log = SentLog(folder)
        found = log.read()
        assert log.gaps >= 1 or whole[cut : cut + len(junk)] == junk or found.entries
        assert len(found.entries) <= 6

    def test_a_line_of_a_newer_program_is_left_out(self, tmp_path: Path) -> None:
        saved(tmp_path, busy_book())
        (path,) = tmp_path.iterdir()
        record = sent_log.SentRecord(schema=99, gone=("entry inc-1",))
        with path.open("ab") as file:
            file.write(sent_log.encode(record))
        assert inc(1) in SentLog(tmp_path).read().entries


@dataclass
class FullDisk:
    """A disk that takes no more after so many writes, or whose sync fails."""

    writes_left: int = 10**9
    syncs_left: int = 10**9
    real: RealDisk = field(default_factory=RealDisk)
    open_fds: set[int] = field(default_factory=set)

    def open(self, path: Path) -> int:
        fd = self.real.open(path)
        self.open_fds.add(fd)
        return fd

    def write(self, fd: int, data: bytes) -> None:
        if self.writes_left <= 0:
            self.real.write(fd, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        self.writes_left -= 1
        self.real.write(fd, data)

    def sync(self, fd: int) -> None:
        if self.syncs_left <= 0:
            raise OSError(errno.EIO, "Input/output error")
        self.syncs_left -= 1

    def close(self, fd: int) -> None:
        self.open_fds.discard(fd)
        self.real.close(fd)

    def sync_folder(self, folder: Path) -> None:
        """As ``sync``."""


@pytest.mark.parametrize("what", ["writes_left", "syncs_left"])
def test_a_disk_that_fails_says_so_and_the_next_write_has_it_all(what: str, tmp_path: Path) -> None:
    disk = FullDisk()
    log = SentLog(tmp_path, disk)
    one = Duty(oncall("pagerduty")).page(1)
    first = one.book
    log.save(Book(), first)
    setattr(disk, what, 0)
    second = one.page(2).book
    for _ in range(3):
        with pytest.raises(Unavailable):
            log.save(first, second)
    assert inc(1) in SentLog(tmp_path).read().entries
    setattr(disk, what, 10**9)
    third = one.page(3).book
    log.save(second, third)
    assert set(SentLog(tmp_path).read().entries) == {inc(1), inc(2), inc(3)}
    assert len(list(tmp_path.iterdir())) == 1
    log.close()
    assert disk.open_fds == set()
    assert log.failures == 3


def test_does_not_grow_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_log, "SEGMENT_BYTES", 20_000)
    duty = Duty(oncall("pagerduty"))
    log, before = SentLog(tmp_path), Book()
    for number in range(200):
        duty.page(1, id=f"p{number}", summary=f"news {number}").run(duty.at + 1)
        log.save(before, duty.book)
        before = duty.book
    log.close()
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 60_000
    assert SentLog(tmp_path).read() == told(duty.book)
