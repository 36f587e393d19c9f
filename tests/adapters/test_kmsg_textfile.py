"""A file of kernel lines: rotated, truncated, cut, removed; its lines are never trusted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.adapters.kmsg.record import TEXT_MAX_BYTES
from gpuwarden.adapters.kmsg.sieve import Counts, Sieve
from gpuwarden.adapters.kmsg.source import CannotRead, Place
from gpuwarden.adapters.kmsg.textfile import CHUNK_BYTES, LINE_MAX_BYTES, MISSING_S, TextFile
from gpuwarden.model.kernel_record import KernelTrust
from gpuwarden.model.snapshot import GapKind
from tests.adapters.kmsg_feed import Followed, Opened, xid

BEFORE = "Jan 18 11:38:05 host kernel: [ 269.516977] "


class Log:
    """The file, as a logger writes it, and its readers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()
        self.opened: list[Opened] = []

    def add(self, *lines: str | bytes, end: bytes = b"\n") -> None:
        with self.path.open("ab") as file:
            for line in lines:
                file.write((line.encode() if isinstance(line, str) else line) + end)

    def reader(self, place: Place | None = None) -> Opened:
        self.opened.append(Opened(lambda sieve: TextFile(self.path, sieve), place))
        return self.opened[-1]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "kern.log")
    yield made
    for opened in made.opened:
        opened.source.close()


def test_lines_are_handed_on_as_they_stand_and_untrusted(log: Log) -> None:
    """Case 19 of the reliability research: the class of the source is on every record."""
    opened = log.reader()
    log.add("nothing of interest", BEFORE + xid(), "kern  :err   : NVRM: GPU at 0000:01:00.0 lost")
    records = opened.all(now=7.0)
    assert [r.trust for r in records] == [KernelTrust.UNTRUSTED] * 2
    record = records[0]
    assert record.text == BEFORE + xid()
    assert (record.source, record.seen_at, record.is_backlog) == ("file", 7.0, True)
    assert (record.sequence, record.boot_us, record.facility, record.level) == (None,) * 4
    assert opened.counts.records == 3


def test_without_a_place_it_begins_at_the_end(log: Log) -> None:
    log.add(xid(13))
    opened = log.reader()
    assert opened.all() == []
    log.add(xid(31))
    assert opened.texts() == [xid(31)]
    assert [r.is_backlog for r in opened.all()] == []


def test_a_line_is_handed_on_when_it_is_whole(log: Log) -> None:
    log.add("half of a line ", end=b"")
    opened = log.reader()
    log.add(xid(13))
    log.add("NVRM: Xid (PCI:0000:3b", end=b"")
    assert opened.texts() == []
    log.add(":00): 79, whole")
    assert opened.texts() == ["NVRM: Xid (PCI:0000:3b:00): 79, whole"]


def test_the_next_agent_goes_on_at_its_offset(log: Log) -> None:
    opened = log.reader()
    log.add(xid(13), xid(31))
    log.add("NVRM: a beginning", end=b"")
    assert len(opened.all()) == 2
    log.add(" and an end", xid(79))
    again = log.reader(opened.source.place())
    assert again.texts() == ["NVRM: a beginning and an end", xid(79)]


def test_where_it_began_is_a_place_though_nothing_came(log: Log, tmp_path: Path) -> None:
    log.add("NVRM: the first half of a line", end=b"")
    with Followed(lambda sieve: TextFile(log.path, sieve), tmp_path) as followed:
        followed.look()
        followed.port.settle()
    log.add(" and its second", xid(79))
    with Followed(lambda sieve: TextFile(log.path, sieve), tmp_path) as followed:
        assert followed.has(1)
        assert followed.texts() == [xid(79)]


def test_each_record_has_its_own_place(log: Log) -> None:
    opened = log.reader()
    log.add(xid(13), "between", xid(31), xid(79))
    kept = opened.pull().kept
    again = log.reader(Place(source="file", stream=str(log.path), at=kept[0].at))
    assert again.texts() == [xid(31), xid(79)]


def test_a_file_that_is_rotated_is_read_to_its_end_first(log: Log) -> None:
    opened = log.reader()
    log.add(xid(13))
    assert opened.texts() == [xid(13)]
    log.add(xid(31))
    log.path.rename(log.path.with_suffix(".1"))
    log.path.touch()
    log.add(xid(79))
    assert opened.texts() == [xid(31), xid(79)]
    assert opened.counts.opens == 2


def test_a_rotation_between_its_two_steps(log: Log) -> None:
    opened = log.reader()
    log.path.rename(log.path.with_suffix(".1"))
    assert opened.all(now=1.0) == []
    log.path.touch()
    log.add(xid())
    assert opened.texts() == [xid()]


def test_a_file_that_stays_away_is_a_gap(log: Log) -> None:
    opened = log.reader()
    log.path.unlink()
    assert opened.all(now=1.0) == []
    with pytest.raises(CannotRead, match="No such file"):
        opened.all(now=1.1 + MISSING_S)


def test_a_file_that_is_truncated_is_read_from_its_beginning(log: Log) -> None:
    log.add("x" * 1000)
    opened = log.reader()
    log.add(xid(13))
    assert opened.texts() == [xid(13)]
    os.truncate(log.path, 0)
    log.add(xid(31))
    assert opened.texts() == [xid(31)]


def test_a_file_that_was_rotated_while_no_agent_ran_is_read_whole(log: Log) -> None:
    opened = log.reader()
    log.add(xid(13))
    opened.all()
    place = opened.source.place()
    log.path.rename(log.path.with_suffix(".1"))
    log.path.touch()
    log.add(xid(31))
    assert log.reader(place).texts() == [xid(31)]


def test_a_file_that_was_truncated_while_no_agent_ran_is_read_whole(log: Log) -> None:
    log.add("x" * 1000)
    opened = log.reader()
    log.add(xid(13))
    opened.all()
    os.truncate(log.path, 0)
    log.add(xid(31))
    assert log.reader(opened.source.place()).texts() == [xid(31)]


@pytest.mark.parametrize("at", ["", "x", "1:2", "1:2:-3", "1:2:" + "9" * 40, "1:2:3:4"])
def test_a_place_that_is_none_is_left(log: Log, at: str) -> None:
    log.add(xid(13))
    opened = log.reader(Place(source="file", stream=str(log.path), at=at))
    log.add(xid(31))
    assert opened.texts() == [xid(31)]


HOSTILE = [
    b"\xff" * 400,
    b"\x00" * 400,
    b"NVRM: Xid (\xff\xfe): 79",
    b"NVRM: Xid (" * 40,
    b"\r\r\r",
    b"",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_lines_end_nothing(log: Log, hostile: bytes) -> None:
    opened = log.reader()
    log.add(hostile, xid(31), hostile, xid(79))
    assert {xid(31), xid(79)} <= set(opened.texts())


@pytest.mark.parametrize("size", [LINE_MAX_BYTES + 1, 3 * CHUNK_BYTES, 1_000_000])
def test_a_line_without_an_end_is_cut_and_the_next_is_whole(log: Log, size: int) -> None:
    opened = log.reader()
    log.add(xid() + "y" * size, xid(31))
    texts = opened.texts()
    assert texts[-1] == xid(31)
    assert texts[0].startswith(xid())
    assert len(texts) == 2
    assert len(texts[0]) <= TEXT_MAX_BYTES
    assert opened.counts.cut == 1


def test_memory_does_not_grow_with_a_line_without_an_end(log: Log) -> None:
    opened = log.reader()
    for _ in range(40):
        log.add("z" * CHUNK_BYTES, end=b"")
        opened.all()
    source = opened.source
    assert isinstance(source, TextFile)
    assert len(source._pending) <= LINE_MAX_BYTES + CHUNK_BYTES


def test_a_flood_is_bounded_and_hides_no_xid(log: Log) -> None:
    opened = log.reader()
    for number in range(20):
        log.add(*["NVRM: of no interest"] * 500, xid(pid=number))
    texts = opened.texts()
    assert [t for t in texts if "Xid" in t] == [xid(pid=number) for number in range(20)]
    assert len(texts) < 600
    assert opened.counts.records == 20 * 501


def opening(path: Path) -> CannotRead:
    source = TextFile(path, Sieve(Counts()))
    with pytest.raises(CannotRead) as caught:
        source.open(None, is_backlog=True)
    source.close()
    return caught.value


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert opening(tmp_path / "none").kind is GapKind.GONE


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_what_is_no_file(tmp_path: Path, make: object) -> None:
    make(tmp_path / "log")  # type: ignore[operator]
    assert "not a regular file" in str(opening(tmp_path / "log"))


def test_it_is_followed(log: Log, tmp_path: Path) -> None:
    with Followed(lambda sieve: TextFile(log.path, sieve), tmp_path) as followed:
        log.add(xid(31))
        assert followed.has(1)
        assert followed.view.trust is KernelTrust.UNTRUSTED
        followed.port.settle()
    log.add(xid(79))
    with Followed(lambda sieve: TextFile(log.path, sieve), tmp_path) as followed:
        assert followed.has(1)
        assert followed.texts() == [xid(79)]
