"""The real /dev/kmsg: reading, resume by boot and number, loss, and the refusal of forgeries.

Nobody can write facility 0 there, so every line of these tests is a forgery; the numbers prove the reading.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.adapters.kmsg.device import KmsgDevice
from gpuwarden.adapters.kmsg.placefile import NAME, PlaceFile
from gpuwarden.adapters.kmsg.ring import SLICE
from gpuwarden.adapters.kmsg.sieve import Counts, Sieve
from gpuwarden.adapters.kmsg.source import CannotRead, Place, Reach, Source
from gpuwarden.model.snapshot import GapKind
from tests.adapters.kmsg_feed import BOOT, Followed, Opened, xid
from tests.sim.sight import until

KMSG = Path("/dev/kmsg")
SIZE_OF_RING = 10  # SYSLOG_ACTION_SIZE_BUFFER of syslog(2)
PR_SET_NAME = 15
BURST = 10
"""Lines that one open file takes before printk_devkmsg=ratelimit holds them back."""

real = pytest.mark.kmsg


def print_lines(*texts: bytes | str) -> None:
    """As any program may that can open the device; level debug, so that no console shows them."""
    for begin in range(0, len(texts), BURST):
        fd = os.open(KMSG, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for text in texts[begin : begin + BURST]:
                os.write(fd, b"<7>" + (text.encode() if isinstance(text, str) else text) + b"\n")
        finally:
            os.close(fd)


@pytest.fixture
def devices() -> Iterator[list[Opened]]:
    opened: list[Opened] = []
    yield opened
    for each in opened:
        each.source.close()


def device(devices: list[Opened], place: Place | None = None) -> Opened:
    opened = Opened(lambda sieve: KmsgDevice(KMSG, BOOT, sieve), place)
    devices.append(opened)
    return opened


def read_up(opened: Opened) -> int:
    """Read what is there; the number of the last record."""
    opened.all()
    place = opened.source.place()
    assert place is not None
    return int(place.at)


def at(number: int, boot: str = BOOT) -> Place:
    return Place(source="kmsg", stream=boot, at=str(number))


@real
def test_every_record_is_read_once_and_in_bounded_reads(devices: list[Opened]) -> None:
    print_lines(*["gpuwarden-test: a line to read"] * (SLICE + 100))
    opened = device(devices)
    assert opened.pull().number == 1
    assert opened.pull().number == SLICE
    last = read_up(opened)
    print_lines("gpuwarden-test: one", "gpuwarden-test: two")
    before = opened.counts.records
    assert read_up(opened) - last == opened.counts.records - before >= 2
    assert (opened.counts.garbage, opened.counts.overruns) == (0, 0)


@real
@pytest.mark.parametrize("facility", [0, 1, 3, 16, 23])
def test_a_forged_line_is_counted_and_never_handed_on(devices: list[Opened], facility: int) -> None:
    """The kernel makes facility 0 of user space facility 1."""
    opened = device(devices, at(read_up(device(devices))))
    fd = os.open(KMSG, os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, b"<%d>%s\n" % (facility * 8 + 2, xid().encode()))
    os.close(fd)
    assert opened.all() == []
    assert opened.counts.forgeries >= 1
    assert opened.counts.kept == 0


@real
@pytest.mark.parametrize(
    "text",
    [
        b"x\n" + xid().encode(),
        b"\xff\xfe" + xid().encode(),
        b"\\x0a" + xid().encode(),
        xid().encode() + b"y" * 900,
        b"kernel: " + xid().encode(),
        b"NVRM: GPU at 0000:01:00.0 has fallen off the bus.",
        b"nvidia-nvswitch1: SXid (PCI:0000:84:00.0): 12028, Fatal, Link 36",
        b"nvidia-peermem nv_get_p2p_free_callback:127 ERROR detected invalid context",
    ],
)
def test_forgeries_with_every_prefix_and_new_line(devices: list[Opened], text: bytes) -> None:
    """Case 18 of the reliability research."""
    opened = device(devices, at(read_up(device(devices))))
    print_lines(text[:950], "gpuwarden-test: ends the record before it")
    assert opened.all() == []
    assert opened.counts.forgeries >= 1


@real
def test_a_process_cannot_name_itself_into_the_kernels_facility(devices: list[Opened]) -> None:
    """The kernel's line about a crash is of facility 0 and begins with the name of the process."""
    exception_trace = Path("/proc/sys/debug/exception-trace")
    if not exception_trace.exists() or exception_trace.read_text().strip() != "1":
        pytest.skip("this kernel says nothing of crashes")
    opened = device(devices, at(read_up(device(devices))))
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in (signal.SIGSEGV, signal.SIGBUS):
            signal.signal(number, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(PR_SET_NAME, b"NVRM: Xid (PCI:", 0, 0, 0)
        os.setuid(65534)
        ctypes.string_at(0)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] & 0x7F == signal.SIGSEGV
    assert until(lambda: opened.all() == [] and opened.counts.forgeries >= 1)
    assert opened.counts.kept == 0


@real
def test_the_next_agent_reads_on_and_not_again(devices: list[Opened]) -> None:
    last = read_up(device(devices))
    token = f"NVRM: Xid, forged by {uuid.uuid4()}"
    print_lines(token, "gpuwarden-test: more", "gpuwarden-test: and more")
    again = device(devices, at(last))
    assert read_up(again) - last == again.counts.records + again.counts.lost >= 3
    assert again.counts.forgeries >= 1
    once_more = device(devices, at(read_up(again)))
    assert once_more.all() == []
    assert once_more.counts.forgeries == 0


@real
def test_a_new_boot_begins_with_the_first_record(devices: list[Opened]) -> None:
    whole = device(devices)
    last = read_up(whole)
    other = device(devices, at(last, boot="another-boot"))
    read_up(other)
    assert other.counts.records >= whole.counts.records - 100
    assert other.counts.lost == 0


@real
@pytest.mark.parametrize("said", ["999999999999", "18446744073709551615"])
def test_a_place_this_boot_never_came_to_is_left(devices: list[Opened], said: str) -> None:
    opened = device(devices, Place(source="kmsg", stream=BOOT, at=said))
    pulls = [opened.pull()]
    while pulls[-1].reach is Reach.MORE:
        pulls.append(opened.pull())
    assert pulls[-1].reach is Reach.ASTRAY


@real
@pytest.mark.parametrize("said", ["", "-1", "x", "1e3", "9" * 40, "\u0664"])
def test_a_place_that_is_none_is_left_out(devices: list[Opened], said: str) -> None:
    opened = device(devices, Place(source="kmsg", stream=BOOT, at=said))
    assert read_up(opened) > 0
    assert opened.counts.garbage == 1


def ring_lines() -> list[str]:
    """More than the ring holds."""
    size = ctypes.CDLL(None).klogctl(SIZE_OF_RING, None, 0)
    if not 0 < size <= 2**20:
        pytest.skip(f"the kernel's ring holds {size} bytes: too many to overwrite in a test")
    return ["gpuwarden-test: overwrites the kernel's ring " + "z" * 400] * (size // 400)


@real
def test_what_was_overwritten_before_it_was_read_is_counted(devices: list[Opened]) -> None:
    lines = ring_lines()
    opened = device(devices)
    last = read_up(opened)
    before = opened.counts.records
    print_lines(*lines)
    now = read_up(opened)
    assert opened.counts.overruns >= 1
    assert opened.counts.lost > 0
    assert now - last == opened.counts.records - before + opened.counts.lost >= len(lines)


@real
def test_what_was_overwritten_while_no_agent_ran_is_counted(devices: list[Opened]) -> None:
    last = read_up(device(devices))
    print_lines(*ring_lines())
    again = device(devices, at(last))
    assert read_up(again) - last == again.counts.records + again.counts.lost
    assert again.counts.lost > 0


@real
def test_what_is_there_at_the_first_read_is_backlog_and_what_comes_later_is_not(
    devices: list[Opened],
) -> None:
    opened = device(devices)
    source = opened.source
    assert isinstance(source, KmsgDevice)
    assert source._is_backlog
    opened.all()
    assert not source._is_backlog


@real
def test_a_place_beyond_is_given_up_by_the_follower(tmp_path: Path) -> None:
    PlaceFile(tmp_path).save(at(999_999_999_999))

    def find(sieve: Sieve) -> Source:
        return KmsgDevice(KMSG, BOOT, sieve)

    with Followed(find, tmp_path) as followed:
        assert followed.until(lambda: followed.count("records") > 0)
        assert followed.count("garbage") == 1
        followed.look()
        followed.port.settle()
    assert "999999999999" not in (tmp_path / NAME).read_text()


# --- what is not the device ---


def opening(path: Path) -> CannotRead:
    opened = KmsgDevice(path, BOOT, Sieve(Counts()))
    with pytest.raises(CannotRead) as caught:
        opened.open(None, is_backlog=True)
    opened.close()
    return caught.value


def test_what_is_not_there(tmp_path: Path) -> None:
    error = opening(tmp_path / "none")
    assert error.kind is GapKind.GONE
    assert "No such file" in str(error)


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, Path.mkdir])
def test_what_is_no_character_device(tmp_path: Path, make: object) -> None:
    path = tmp_path / "kmsg"
    make(path)  # type: ignore[operator]
    assert "character device 1:11" in str(opening(path))


def test_another_character_device() -> None:
    assert "character device 1:11" in str(opening(Path("/dev/null")))
