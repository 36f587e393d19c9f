"""The agent's reader on the simulated driver's own stream: loss, resume, two readers, restarts, owners."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpuwarden.adapters.kmsg.reader import Reader
from gpuwarden.adapters.kmsg.sieve import PLAIN_BURST, Counts, Sieve
from gpuwarden.adapters.kmsg.source import CannotRead, Place, Reach, Source
from gpuwarden.adapters.kmsg.stream import SimulatedStream
from gpuwarden.model.kernel_record import KernelTrust
from gpuwarden.model.snapshot import GapKind
from gpuwarden.sim.driver.build import Built
from gpuwarden.sim.host import SimHost, SimOptions
from tests.adapters.kmsg_feed import BOOT, NOISE, Followed, Opened, xid
from tests.sim.sight import until

LOADED = "nvidia-nvlink: Nvlink Core is being initialized, major device number 511"


ReaderOf = Callable[..., Opened]


@pytest.fixture
def reader_of(host: SimHost) -> Iterator[ReaderOf]:
    """Makes readers, which end with the test."""
    made: list[Opened] = []

    def make(place: Place | None = None) -> Opened:
        path = host.folder / "kmsg.sock"
        made.append(Opened(lambda sieve: SimulatedStream(path, BOOT, sieve), place))
        return made[-1]

    yield make
    for opened in made:
        opened.source.close()


def printed(host: SimHost, text: str, count: int = 1, facility: int = 0) -> None:
    host.control("kernel_line", text=text, count=count, facility=facility)


@pytest.fixture
def opened(reader_of: ReaderOf) -> Opened:
    """A reader that has read the driver's first two lines."""
    made = reader_of()
    first, second = awaited(made, 2)
    assert first == LOADED
    assert second.startswith("NVRM: loading NVIDIA UNIX x86_64 Kernel Module")
    return made


def awaited(opened: Opened, count: int, last: str = "") -> list[str]:
    """The next records, as soon as so many of them, and this one, are there."""
    texts: list[str] = []

    def all_there() -> bool:
        texts.extend(opened.texts())
        return len(texts) >= count and (not last or last in texts)

    assert until(all_there), texts
    return texts


def test_an_xid_is_a_record_that_may_be_judged(host: SimHost, opened: Opened) -> None:
    host.control("xid", device=1, xid=79)
    (text,) = awaited(opened, 1)
    assert "): 79, " in text
    printed(host, "NVRM: back\\slash \u00e9\nand a line")
    assert awaited(opened, 1) == ["NVRM: back\\slash \u00e9\nand a line"]


@pytest.mark.parametrize("facility", [1, 3, 16, 23])
def test_another_facility_is_forged(host: SimHost, opened: Opened, facility: int) -> None:
    """Case 18 of the reliability research."""
    printed(host, xid(), facility=facility)
    printed(host, xid(31))
    assert awaited(opened, 1) == [xid(31)]
    assert opened.counts.forgeries == 1


def test_loss_is_counted_and_what_the_ring_kept_is_seen(
    host: SimHost, opened: Opened, reader_of: ReaderOf
) -> None:
    """Case 17: an Xid that was overwritten is part of the count, one that was not is handed on."""
    opened.all()
    before = opened.counts.records
    stalled = reader_of()
    printed(host, xid(13))
    printed(host, NOISE, 10_000)
    printed(host, xid(31))
    printed(host, NOISE, 100)
    printed(host, xid(79))
    texts = awaited(opened, 2, last=xid(79))
    assert [t for t in texts if t != xid(13)] == [xid(31), xid(79)]
    assert until(lambda: not opened.texts() and _accounted(opened) - before == 10_103)
    assert opened.counts.lost > 0
    assert opened.counts.overruns >= 1
    late = awaited(stalled, 3, last=xid(79))
    assert xid(31) in late
    assert stalled.counts.lost > 0


def _accounted(opened: Opened) -> int:
    return opened.counts.records + opened.counts.lost


def test_a_flood_of_the_driver_hides_no_xid(host: SimHost, tmp_path: Path) -> None:
    """50 true Xids in 25,000 lines, with the thread that the agent has."""
    folder = host.folder

    def find(sieve: Sieve) -> Source:
        return SimulatedStream(folder / "kmsg.sock", BOOT, sieve)

    with Followed(find, tmp_path) as followed:
        for number in range(50):
            printed(host, "NVRM: of no interest", 500)
            printed(host, xid(pid=5_000 + number))
        assert followed.until(
            lambda: followed.count("records") + followed.count("lost") == 2 + 50 * 501
        )
        followed.look()
        seen = [t for t in followed.texts() if "Xid" in t]
        assert len(seen) + followed.count("lost") >= 50
        if not followed.count("lost"):
            assert seen == [xid(pid=5_000 + number) for number in range(50)]
        plain = [t for t in followed.texts() if t == "NVRM: of no interest"]
        assert PLAIN_BURST // 2 < len(plain) < 2_000


def test_two_readers_see_the_same(host: SimHost, opened: Opened, reader_of: ReaderOf) -> None:
    other = reader_of()
    for number in range(20):
        printed(host, xid(pid=number))
    expected = [xid(pid=number) for number in range(20)]
    assert awaited(opened, 20) == expected
    assert awaited(other, 22)[2:] == expected


def test_the_next_agent_reads_on_in_the_same_stream(
    host: SimHost, opened: Opened, reader_of: ReaderOf
) -> None:
    place = opened.source.place()
    printed(host, xid(31))
    printed(host, xid(79))
    again = reader_of(place)
    assert awaited(again, 2) == [xid(31), xid(79)]
    once_more = reader_of(again.source.place())
    printed(host, xid(13))
    assert awaited(once_more, 1) == [xid(13)]
    assert (again.counts.lost, once_more.counts.lost) == (0, 0)


def test_what_was_overwritten_while_no_agent_ran_is_counted(
    host: SimHost, opened: Opened, reader_of: ReaderOf
) -> None:
    place = opened.source.place()
    printed(host, NOISE, 5_000)
    printed(host, xid())
    again = reader_of(place)
    assert awaited(again, 1) == [xid()]
    assert again.counts.lost > 1_000
    assert again.counts.records + again.counts.lost == 5_001


def test_a_place_the_stream_never_came_to_is_left(
    host: SimHost, opened: Opened, reader_of: ReaderOf
) -> None:
    place = opened.source.place()
    assert place is not None
    astray = reader_of(Place(source=place.source, stream=place.stream, at="999999"))
    assert astray.all() == []
    printed(host, xid())
    assert until(lambda: astray.pull().reach is Reach.ASTRAY)


def test_a_driver_that_starts_again_is_read_from_its_beginning(
    built: Built, tmp_path: Path
) -> None:
    folder, state = tmp_path / "sim", tmp_path / "state"
    state.mkdir()

    def find(sieve: Sieve) -> Source:
        return SimulatedStream(folder / "kmsg.sock", BOOT, sieve)

    with Followed(find, state) as followed:
        assert followed.look().trust is KernelTrust.NONE
        assert [g.kind for g in followed.view.gaps] == [GapKind.GONE]
        for number in (31, 79):
            begin = len(followed.records)
            with SimHost(SimOptions(devices=1), folder=folder, built=built) as host:
                assert followed.until(lambda: followed.view.trust is KernelTrust.SIMULATED)
                assert followed.has(begin + 2)
                printed(host, xid(number))
                assert followed.has(begin + 3)
            texts = followed.texts()[begin:]
            assert texts[0] == LOADED
            assert texts[2] == xid(number)
            assert followed.until(lambda: followed.view.trust is KernelTrust.NONE)
            assert "has ended" in followed.view.gaps[0].detail or followed.view.gaps
        assert followed.count("lost") == 0
        assert followed.count("opens") == 2


# --- whom to believe ---


def opening(path: Path) -> CannotRead:
    source = SimulatedStream(path, BOOT, Sieve(Counts()))
    with pytest.raises(CannotRead) as caught:
        source.open(None, is_backlog=True)
    source.close()
    return caught.value


def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    assert opening(tmp_path / "none").kind is GapKind.GONE


def test_a_socket_nobody_listens_on(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as bound:
        bound.bind(str(tmp_path / "kmsg.sock"))
    assert "refused" in str(opening(tmp_path / "kmsg.sock")).lower()


def test_what_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "kmsg.sock").touch()
    assert "not a socket" in str(opening(tmp_path / "kmsg.sock"))


def test_a_link_to_a_socket_is_no_socket(host: SimHost, tmp_path: Path) -> None:
    """Who may put a link there is another question than whose the socket is."""
    (tmp_path / "kmsg.sock").symlink_to(host.folder / "kmsg.sock")
    assert "not a socket" in str(opening(tmp_path / "kmsg.sock"))


@pytest.mark.root
def test_a_socket_of_another_owner(tmp_path: Path) -> None:
    path = tmp_path / "kmsg.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen(1)
        os.chown(path, 65534, 65534)
        error = opening(path)
    assert error.kind is GapKind.DENIED
    assert "the socket belongs to uid 65534" in str(error)


@pytest.mark.root
def test_another_listener_on_our_own_socket(tmp_path: Path) -> None:
    """The socket's file is ours, and yet somebody else answers: credentials are those of listen(2)."""
    path = tmp_path / "kmsg.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        os.seteuid(65534)
        try:
            listener.listen(1)
        finally:
            os.seteuid(0)
        error = opening(path)
    assert error.kind is GapKind.DENIED
    assert "its other end belongs to uid 65534" in str(error)


def test_the_reading_thread_ends_with_its_port(host: SimHost, tmp_path: Path) -> None:
    folder = host.folder
    with Followed(lambda s: SimulatedStream(folder / "kmsg.sock", BOOT, s), tmp_path) as followed:
        reader = followed.port._reader
        assert isinstance(reader, Reader)
    assert not reader._thread.is_alive()
