"""Reads that keep the interpreter's lock do what ``os.read`` does, and are taken where threads compete."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuwarden.adapters.kmsg import ring
from gpuwarden.adapters.kmsg.held import HeldReads
from gpuwarden.adapters.kmsg.source import Reach
from gpuwarden.adapters.kmsg.stream import SimulatedStream
from tests.adapters.kmsg_feed import NOISE, Feed, line, stream_of, xid


@pytest.fixture(params=["os", "held"])
def read(request: pytest.FixtureRequest) -> Callable[[int, int], bytes]:
    return os.read if request.param == "os" else HeldReads(100).read


def test_bytes_end_and_nothing_now(read: Callable[[int, int], bytes]) -> None:
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.write(write_end, b"a\x00b" + b"x" * 200)
    assert read(read_end, 3) == b"a\x00b"
    assert read(read_end, 100) == b"x" * 100
    assert read(read_end, 100) == b"x" * 100
    with pytest.raises(BlockingIOError):
        read(read_end, 100)
    os.close(write_end)
    assert read(read_end, 100) == b""
    os.close(read_end)


def test_errors_have_their_own_types(read: Callable[[int, int], bytes]) -> None:
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    with pytest.raises(OSError, match="Bad file descriptor"):
        read(write_end, 10)
    os.close(read_end)
    os.close(write_end)


def test_its_buffer_is_never_overrun() -> None:
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.write(write_end, b"x" * 1000)
    assert len(HeldReads(64).read(read_end, 1000)) == 64
    os.close(read_end)
    os.close(write_end)


class Counted(HeldReads):
    """How many reads were held."""

    def __init__(self) -> None:
        super().__init__(ring.RECORD_BYTES)
        self.count = 0

    def read(self, fd: int, size: int) -> bytes:
        self.count += 1
        return super().read(fd, size)


@pytest.mark.parametrize(("after_s", "is_held"), [(-1.0, True), (1e9, False)])
def test_a_batch_that_is_late_is_read_on_with_held_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_s: float, is_held: bool
) -> None:
    """Late: other threads of the agent compute. What is read is the same, to its end and after an end."""
    monkeypatch.setattr(ring, "HELD_AFTER_S", after_s)
    feed = Feed(tmp_path / "kmsg.sock")
    try:
        opened = stream_of(feed)
        source = opened.source
        assert isinstance(source, SimulatedStream)
        source._held = counted = Counted()
        feed.say(line(0, NOISE))
        opened.all()
        feed.say(*(line(n, xid(pid=n)) for n in range(1, 8)), b"!EPIPE", line(9, xid(pid=9)))
        assert opened.texts() == [xid(pid=n) for n in (*range(1, 8), 9)]
        assert (opened.counts.lost, opened.counts.overruns) == (1, 1)
        assert (counted.count > 0) == is_held
        feed.hang_up()
        assert opened.pull().reach is Reach.OVER
    finally:
        feed.close()
