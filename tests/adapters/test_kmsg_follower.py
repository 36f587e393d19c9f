"""The port: what is told when, what is remembered, and what happens when a source cannot be read."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gpuwarden.adapters.kmsg.follower import KernelLogFollower, NoKernelLog
from gpuwarden.adapters.kmsg.placefile import NAME, PlaceFile
from gpuwarden.adapters.kmsg.sieve import Sieve
from gpuwarden.adapters.kmsg.source import CannotRead, Kept, Place, Pull, Reach, Source
from gpuwarden.adapters.kmsg.stream import SimulatedStream
from gpuwarden.clock import SystemClock
from gpuwarden.model.kernel_record import KernelTrust
from gpuwarden.model.snapshot import GapKind
from gpuwarden.model.views import KernelView
from tests.adapters.kmsg_feed import BOOT, NOISE, Feed, Followed, line, xid


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    made = Feed(tmp_path / "kmsg.sock")
    yield made
    made.close()


@pytest.fixture
def followed(feed: Feed, tmp_path: Path) -> Iterator[Followed]:
    with Followed(lambda sieve: SimulatedStream(feed.path, BOOT, sieve), tmp_path) as made:
        feed.accept()
        yield made


def test_a_line_that_may_name_a_fault_wakes_the_loop(feed: Feed, followed: Followed) -> None:
    waiting = select.poll()
    waiting.register(followed.port.filenos()[0], select.POLLIN)
    feed.say(line(0, NOISE), line(1, "NVRM: of no interest"))
    assert followed.has(1)
    assert waiting.poll(0) == []
    feed.say(line(2, xid()))
    assert waiting.poll(20_000)
    assert followed.look().trust is KernelTrust.SIMULATED
    assert followed.texts() == ["NVRM: of no interest", xid()]
    assert waiting.poll(0) == []


def test_forgeries_are_told_once_a_minute_and_none_is_forgotten(
    feed: Feed, followed: Followed
) -> None:
    def forge(first: int, count: int) -> None:
        for number in range(first, first + count):
            feed.say(line(number, xid(), priority=12))
            assert followed.until(lambda wanted=number + 1: followed.count("records") >= wanted)  # type: ignore[misc]

    begin = followed.now = 1_000_000.0
    feed.say(line(0, NOISE))
    forge(1, 1)
    assert followed.until(lambda: bool(followed.forgeries))
    forge(2, 5)
    assert [f.count for f in followed.forgeries] == [1]
    followed.look(begin + 61)
    assert [(f.count, f.facility) for f in followed.forgeries] == [(1, 1), (5, 1)]
    forge(7, 1)
    for second in range(62, 121):
        assert followed.look(begin + second).forgery is None
    assert followed.look(begin + 122).forgery is not None
    assert followed.records == []


def test_a_loss_is_shown_for_a_while(feed: Feed, followed: Followed) -> None:
    feed.say(line(0, NOISE), line(10, xid()))
    begin = followed.now = 2_000_000.0
    assert followed.has(1)
    assert followed.until(lambda: followed.count("lost") == 9)
    (gap,) = followed.look().gaps
    assert (gap.source, gap.kind) == ("kernel_log", GapKind.GONE)
    feed.say(line(12, xid()))
    followed.now = begin + 5
    assert followed.until(lambda: followed.count("lost") == 10)
    assert followed.look(begin + 5).gaps[0].detail.startswith("10 were overwritten")
    assert followed.look(begin + 60).gaps
    assert followed.look(begin + 66).gaps == ()


# --- what is remembered ---


def saved(folder: Path) -> str | None:
    path = folder / NAME
    return str(json.loads(path.read_text())["at"]) if path.exists() else None


def test_only_what_was_settled_is_remembered(feed: Feed, tmp_path: Path) -> None:
    with Followed(lambda sieve: SimulatedStream(feed.path, BOOT, sieve), tmp_path) as followed:
        feed.accept().say(line(0, NOISE), line(1, xid()))
        assert followed.has(1)
        followed.port.settle()
        feed.say(line(2, xid(31)))
        assert followed.has(2)
    assert saved(tmp_path) == "1"


def test_the_next_agent_goes_on_after_what_was_settled(feed: Feed, tmp_path: Path) -> None:
    def find(sieve: Sieve) -> Source:
        return SimulatedStream(feed.path, BOOT, sieve)

    with Followed(find, tmp_path) as followed:
        assert feed.accept().heard() == "seek first"
        feed.say(line(0, NOISE), line(1, xid()))
        assert followed.has(1)
        followed.port.settle()
    with Followed(find, tmp_path) as followed:
        assert feed.accept().heard() == "seek 2"
        feed.say(line(4, xid(31)))
        assert followed.has(1)
        assert followed.count("lost") == 2
        assert followed.records[0].is_backlog


@pytest.mark.parametrize(
    ("heard", "begins"), [(None, "seek 9"), (12, "seek 9"), (3, "seek 4"), (-1, "seek first")]
)
def test_the_place_is_never_beyond_what_the_journal_knows_was_heard(
    heard: int | None, begins: str, feed: Feed, tmp_path: Path
) -> None:
    """A journal that lost its end has forgotten what the last agent made of the lines."""
    status = feed.path.lstat()
    stream = f"{BOOT}:{status.st_ino}:{status.st_mtime_ns}"
    PlaceFile(tmp_path).save(Place(source="simulated", stream=stream, at="8"))
    with Followed(lambda sieve: SimulatedStream(feed.path, BOOT, sieve), tmp_path, heard):
        assert feed.accept().heard() == begins


def test_records_that_were_handed_out_are_written_down_soon(
    feed: Feed, followed: Followed, tmp_path: Path
) -> None:
    feed.say(line(0, NOISE), line(1, xid()))
    assert followed.has(1)

    def is_written() -> bool:
        followed.port.settle()
        return saved(tmp_path) == "1"

    assert followed.until(is_written)


def test_a_place_that_cannot_be_written_harms_nothing(feed: Feed, tmp_path: Path) -> None:
    with Followed(
        lambda sieve: SimulatedStream(feed.path, BOOT, sieve), tmp_path / "none"
    ) as followed:
        feed.accept().say(line(0, NOISE), line(1, xid()))
        assert followed.has(1)
        followed.port.settle()
    assert followed.port.counters()["errors", "kernel_log place"] >= 1


# --- sources that fail ---


class Scripted:
    """A source whose every answer a test decides."""

    name = "scripted"
    trust = KernelTrust.SIMULATED

    def __init__(self, opens: Callable[[], None], reads: Callable[[], Pull]) -> None:
        self._opens, self._reads = opens, reads
        self._read_end, self._write_end = os.pipe()
        os.write(self._write_end, b"x")

    def open(self, place: Place | None, *, is_backlog: bool) -> None:
        self._opens()

    def filenos(self) -> Sequence[int]:
        return (self._read_end,)

    def patience_s(self) -> float | None:
        return 0.01

    def read(self, now: float) -> Pull:
        return self._reads()

    def place(self) -> Place | None:
        return None

    def close(self) -> None:
        if self._read_end >= 0:
            os.close(self._read_end)
            os.close(self._write_end)
            self._read_end = -1


def nothing() -> None:
    return


def empty() -> Pull:
    return Pull((), 0, Reach.EMPTY)


def test_a_source_that_cannot_be_opened_says_why_and_is_tried_again(tmp_path: Path) -> None:
    tries: list[int] = []

    def opens() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise CannotRead("no rights: be root", GapKind.DENIED)

    with Followed(lambda sieve: Scripted(opens, empty), tmp_path) as followed:
        view = followed.look()
        assert view.trust is KernelTrust.NONE
        assert [(g.kind, g.detail) for g in view.gaps] == [(GapKind.DENIED, "no rights: be root")]
        assert followed.until(lambda: followed.view.trust is KernelTrust.SIMULATED)
        assert followed.view.gaps == ()
    assert len(tries) == 3


def test_a_defect_in_opening_does_not_keep_the_agent_from_starting(tmp_path: Path) -> None:
    def opens() -> None:
        raise ValueError("embedded null byte")

    with Followed(lambda sieve: Scripted(opens, empty), tmp_path) as followed:
        assert followed.look().gaps[0].detail == "ValueError: embedded null byte"


@pytest.mark.parametrize(
    ("error", "said"),
    [(CannotRead("it is ill"), "it is ill"), (ValueError("a defect"), "ValueError: a defect")],
)
def test_a_source_that_fails_is_a_gap_and_opened_again(
    tmp_path: Path, error: Exception, said: str
) -> None:
    reads: list[int] = []
    seen: list[str] = []

    def read() -> Pull:
        reads.append(1)
        if len(reads) == 1:
            raise error
        return empty()

    with Followed(lambda sieve: Scripted(nothing, read), tmp_path) as followed:

        def is_told() -> bool:
            seen.extend(gap.detail for gap in followed.view.gaps)
            return said in seen

        assert followed.until(is_told)
        assert followed.until(lambda: followed.view.trust is KernelTrust.SIMULATED)


def test_a_source_that_ends_at_once_is_not_opened_without_a_pause(tmp_path: Path) -> None:
    opens: list[int] = []
    clock = SystemClock()
    begin = clock.now()
    with Followed(
        lambda sieve: Scripted(lambda: opens.append(1), lambda: Pull((), 0, Reach.OVER)), tmp_path
    ) as followed:
        assert followed.until(lambda: len(opens) >= 4)
    # 0.1, 0.2 and 0.4 s of back-off lie between four attempts.
    assert clock.now() - begin >= 0.69
    assert followed.view.trust is KernelTrust.NONE


def test_a_flood_does_not_keep_the_thread_from_ending(tmp_path: Path) -> None:
    kept: Sequence[Kept] = ()
    with Followed(
        lambda sieve: Scripted(nothing, lambda: Pull(kept, 512, Reach.MORE)), tmp_path
    ) as followed:
        followed.look()


def test_no_kernel_log_is_none_and_no_gap() -> None:
    port = NoKernelLog()
    assert port.drain(1.0) == KernelView()
    assert port.drain(1.0).trust is KernelTrust.NONE
    port.settle()
    port.close()
    assert (port.filenos(), port.counters()) == ((), {})


def test_closing_lets_go_of_everything(feed: Feed, tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(5):
        follower = KernelLogFollower(
            lambda sieve: SimulatedStream(feed.path, BOOT, sieve),
            SystemClock(),
            PlaceFile(tmp_path),
        )
        feed.accept()
        follower.close()
    feed.hang_up()
    assert len(set(os.listdir("/proc/self/fd"))) <= len(before)
