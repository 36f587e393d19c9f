"""A record stream read datagram by datagram: order, loss, forgeries, fragments, hostile records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuwarden.adapters.kmsg.ring import RECORD_BYTES
from gpuwarden.adapters.kmsg.sieve import PLAIN_BURST, PLAIN_PER_S, URGENT_BURST
from gpuwarden.adapters.kmsg.source import Place
from gpuwarden.model.kernel_record import KernelTrust
from tests.adapters.kmsg_feed import NOISE, Feed, line, stream_of, xid


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    made = Feed(tmp_path / "kmsg.sock")
    yield made
    made.close()


def test_a_record_is_handed_on_with_all_it_tells(feed: Feed) -> None:
    opened = stream_of(feed)
    feed.say(
        line(5, NOISE),
        b"3,6,7000000,-;" + xid().encode() + rb"\x0asecond line" + b"\n DEVICE=+pci:0\n",
    )
    (record,) = opened.all(now=9.0)
    assert record.text == xid() + "\nsecond line"
    assert (record.sequence, record.boot_us, record.facility, record.level) == (6, 7_000_000, 0, 3)
    assert (record.source, record.trust) == ("simulated", KernelTrust.SIMULATED)
    assert (record.seen_at, record.is_backlog, record.continues) == (9.0, True, None)
    assert record.details == (("DEVICE", "+pci:0"),)
    assert (opened.counts.records, opened.counts.kept, opened.counts.urgent) == (2, 1, 1)


def test_what_was_printed_before_it_was_opened_is_backlog_whenever_it_comes(feed: Feed) -> None:
    before = int(monotonic() * 1e6) - 1
    opened = stream_of(feed)
    assert opened.all() == []
    feed.say(line(0, xid(), us=before))
    assert [r.is_backlog for r in opened.all()] == [True]
    feed.say(line(1, xid(), us=int(monotonic() * 1e6)))
    assert [r.is_backlog for r in opened.all()] == [False]


def test_a_gap_is_counted_wherever_it_is(feed: Feed) -> None:
    opened = stream_of(feed)
    feed.say(line(10, NOISE))
    opened.all()
    feed.say(line(12, NOISE), b"!EPIPE", line(20, xid()), line(21, NOISE))
    assert opened.texts() == [xid()]
    assert (opened.counts.lost, opened.counts.overruns) == (1 + 7, 1)
    feed.say(line(22, NOISE), line(23, NOISE))
    opened.all()
    assert opened.counts.lost == 8


def test_a_stream_without_a_place_has_lost_nothing_before_its_first_record(feed: Feed) -> None:
    opened = stream_of(feed)
    feed.say(line(5_000, NOISE), line(5_001, NOISE))
    opened.all()
    assert opened.counts.lost == 0


@pytest.mark.parametrize("facility", [*range(1, 24), 127])
def test_another_facility_is_a_forgery_and_never_handed_on(feed: Feed, facility: int) -> None:
    opened = stream_of(feed)
    feed.say(line(0, NOISE), line(1, xid(), priority=facility * 8 + 4), line(2, xid(31)))
    assert opened.texts() == [xid(31)]
    assert opened.counts.forgeries == 1


@pytest.mark.parametrize("level", range(8))
def test_facility_0_is_the_kernels_at_every_level(feed: Feed, level: int) -> None:
    opened = stream_of(feed)
    feed.say(line(0, xid(), priority=level))
    (record,) = opened.all()
    assert (record.facility, record.level) == (0, level)


@pytest.mark.parametrize(
    "text",
    [
        rb"process '/tmp/x\x0aNVRM: Xid (PCI:0000:3b:00): 79, GPU' started with executable stack",
        b"process '/tmp/NVRM: Xid (PCI:0000:3b:00): 79, GPU' started with executable stack",
        rb"\x0aNVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.",
        b"process 'a;NVRM: Xid (PCI:0000:3b:00): 79, GPU' started with executable stack",
    ],
)
def test_names_that_the_kernel_quotes_are_not_the_driver(feed: Feed, text: bytes) -> None:
    opened = stream_of(feed)
    feed.say(line(0, NOISE), line(1, text), line(2, text, flag="c"))
    assert opened.all() == []
    assert opened.counts.kept == 0


@pytest.mark.parametrize(
    "text",
    [
        "NVRM: Xid (PCI:[24541]: segfault at 0 ip 0000 sp 0000 error 4 in 0000:3b:00): 79, GPU[1+2]",
        "nvidia-nvswitch[7] trap divide error ip:0 sp:0 error:0 in SXid (PCI:0000:04:00.0): 22013, Fatal",
        "NVRM: GPU has f (4711): drop_caches: 1",
        "nvidia-peermem(4711): drop_caches: 1",
        "NVRM: Xid (PCI:/4711: potentially unexpected fatal signal 11.",
        "NVRM: Xid (PCI:: page allocation failure: order:0, mode:0xcc0(GFP_KERNEL)",
        "NVRM: Xid (PCI: invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0",
    ],
)
def test_a_process_that_is_named_as_the_driver_is_a_forger(feed: Feed, text: str) -> None:
    opened = stream_of(feed)
    feed.say(line(0, NOISE), line(1, text), line(2, xid()))
    assert opened.texts() == [xid()]
    assert opened.counts.forgeries == 1


def test_a_tool_of_the_vendor_that_crashes_is_no_forger(feed: Feed) -> None:
    opened = stream_of(feed)
    crash = "nvidia-smi[24541]: segfault at 0 ip 0000 sp 0000 error 4 in libc.so.6[1+2]"
    feed.say(
        line(0, NOISE), line(1, crash), line(2, "nvidia-smi invoked oom-killer: gfp_mask=0xcc0")
    )
    assert opened.texts() == []
    assert opened.counts.forgeries == 0


# --- a line in pieces ---


def test_the_pieces_of_a_line_are_put_together(feed: Feed) -> None:
    opened = stream_of(feed)
    feed.say(
        line(0, NOISE),
        line(1, "NVRM: The NVIDIA GPU 0000:b3:00.0"),
        line(2, " (PCI ID: 10de:2330)", flag="c"),
        line(3, " installed in this system", flag="c,caller=T7"),
        line(4, NOISE, flag="c"),
    )
    (record,) = opened.all()
    assert record.text.startswith(
        "NVRM: The NVIDIA GPU 0000:b3:00.0 (PCI ID: 10de:2330) installed in"
    )
    assert record.sequence == 1


def test_a_piece_that_comes_later_names_the_record_it_goes_on_with(feed: Feed) -> None:
    opened = stream_of(feed)
    feed.say(line(7, NOISE), line(8, "NVRM: first"))
    assert opened.texts() == ["NVRM: first"]
    feed.say(line(9, " and second", flag="c"))
    (record,) = opened.all()
    assert (record.text, record.continues, record.sequence) == (" and second", 8, 9)


def test_a_piece_belongs_to_nobody_else(feed: Feed) -> None:
    opened = stream_of(feed)
    feed.say(
        line(0, NOISE),
        line(1, "NVRM: whole"),
        line(2, NOISE),
        line(3, "piece of the noise", flag="c"),
        line(4, "NVRM: whole"),
        line(5, "a user's piece", priority=12, flag="c"),
        line(6, "NVRM: whole"),
        line(8, "a piece after a gap", flag="c"),
        line(9, "NVRM: whole"),
        line(10, "NVRM: a line of its own", flag="c"),
    )
    assert opened.texts() == ["NVRM: whole"] * 4 + ["NVRM: a line of its own"]


def test_pieces_without_end_are_bounded(feed: Feed) -> None:
    opened = stream_of(feed)
    pieces = [line(number, "x" * 900, flag="c") for number in range(1, 100)]
    records = opened.fed(feed, [line(0, "NVRM: begins"), *pieces])
    assert len(records) > 1
    assert all(len(record.text) <= 4096 for record in records)


# --- hostile records ---

HOSTILE = [
    b"x" * 8,
    b"x" * 500,
    b"\xff" * 500,
    b"4,1,2,-;" + b"NVRM: Xid (" * 900,
    b"4,-7,2,-;" + xid().encode() + b"\n",
    b"4,99999999999999999999999,2,-;" + xid().encode() + b"\n",
    b"4,18446744073709551615,2,-;" + xid().encode() + b"\n",
    b"99999999999,1,2,-;" + xid().encode() + b"\n",
    b"4,1,2;" + xid().encode() + b"\n",
    b";" + xid().encode() + b"\n",
    b"NVRM: Xid (PCI:0000:3b:00): 79, without a prefix\n",
    b"4,\xff,2,-;" + xid().encode() + b"\n",
    b"!EPIPE",
    b"!",
    b"\n" * 20,
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_record_ends_nothing(feed: Feed, hostile: bytes) -> None:
    opened = stream_of(feed)
    feed.say(line(0, NOISE), hostile, line(1, xid()), hostile, line(2, xid(31)), line(3, NOISE))
    assert {xid(), xid(31)} <= set(opened.texts())
    feed.say(line(4, xid(13)))
    assert opened.texts() == [xid(13)]
    assert opened.counts.lost < 10


def test_a_number_that_no_ring_ever_came_to_is_no_loss(feed: Feed) -> None:
    opened = stream_of(feed)
    feed.say(line(0, NOISE))
    opened.all()
    feed.say(line(2**63, xid(31)))
    assert opened.texts() == [xid(31)]
    feed.say(line(2, xid(79)), line(3, NOISE))
    assert opened.texts() == [xid(79)]
    assert (opened.counts.lost, opened.counts.garbage) == (0, 1)
    place = opened.source.place()
    assert place is not None
    assert place.at == "3"


def test_numbers_that_go_back_are_no_loss(feed: Feed) -> None:
    opened = stream_of(feed)
    feed.say(line(100, NOISE))
    opened.all()
    feed.say(line(3, xid()))
    assert opened.texts() == [xid()]
    feed.say(line(4, xid()))
    opened.all()
    assert opened.counts.lost == 0
    place = opened.source.place()
    assert place is not None
    assert place.at == "4"


def test_a_record_longer_than_any_is_cut(feed: Feed) -> None:
    opened = stream_of(feed)
    feed.say(line(0, NOISE), line(1, xid() + "y" * 2 * RECORD_BYTES))
    (record,) = opened.all()
    assert record.text.startswith(xid() + "y")
    assert len(record.text) <= 4096
    assert opened.counts.cut == 1


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(min_size=1, max_size=200), max_size=20))
def test_whatever_comes_reading_goes_on(
    tmp_path_factory: pytest.TempPathFactory, data: list[bytes]
) -> None:
    feed = Feed(tmp_path_factory.mktemp("feed") / "kmsg.sock")
    try:
        opened = stream_of(feed)
        feed.say(line(0, NOISE), *data, line(1, xid()))
        assert xid() in opened.texts()
    finally:
        feed.close()


# --- a flood ---


def flood(first: int, count: int, text: str) -> list[bytes]:
    return [line(first + n, text) for n in range(count)]


def test_true_xids_come_through_a_flood_of_the_drivers_own(feed: Feed) -> None:
    opened = stream_of(feed)
    at, texts = 0, []
    for burst in range(50):
        datagrams = [*flood(at, 100, "NVRM: of no interest"), line(at + 100, xid(pid=burst))]
        texts += [record.text for record in opened.fed(feed, datagrams)]
        at += 101
    assert [t for t in texts if "Xid" in t] == [xid(pid=burst) for burst in range(50)]
    assert texts.count("NVRM: of no interest") == PLAIN_BURST
    assert opened.counts.dropped == 50 * 100 - PLAIN_BURST
    assert (opened.counts.records, opened.counts.lost) == (50 * 101, 0)
    later = 1.0 + 5 / PLAIN_PER_S
    assert len(opened.fed(feed, flood(at, 20, "NVRM: of no interest"), later)) == 5


def test_lines_about_tasks_and_forgeries_are_seen_while_the_driver_is_muted(feed: Feed) -> None:
    opened = stream_of(feed)
    opened.fed(feed, flood(0, 1000, "NVRM: of no interest"))
    hung = "INFO: task x:1 blocked for more than 120 seconds."
    feed.say(line(1000, "NVRM: of no interest"), line(1001, hung))
    assert opened.texts() == [hung]
    feed.say(line(1002, NOISE))
    assert opened.texts() == []
    feed.say(line(1003, "NVRM: of no interest"), line(1004, "NVRM: forged", priority=12))
    assert opened.texts() == []
    assert opened.counts.forgeries == 1
    assert opened.counts.dropped == 1000 - PLAIN_BURST + 2


def test_a_flood_of_xids_of_one_device_does_not_hide_another(feed: Feed) -> None:
    opened = stream_of(feed)
    records = opened.fed(feed, flood(0, 3000, xid(31)))
    assert len(records) == URGENT_BURST
    assert opened.counts.dropped == 3000 - URGENT_BURST
    feed.say(
        *flood(3000, 3, xid(31)),
        line(3003, xid(79, pci="0000:86:00")),
        line(3004, xid(79)),
        line(3005, xid(3)),
        line(3006, xid(31)),
    )
    assert opened.texts() == [xid(79, pci="0000:86:00"), xid(79), xid(3)]
    assert opened.counts.dropped == 3004 - URGENT_BURST


def test_a_place_is_the_last_record_that_was_read(feed: Feed) -> None:
    opened = stream_of(feed)
    assert opened.source.place() is None
    feed.say(line(7, xid()), line(8, NOISE))
    opened.all()
    place = opened.source.place()
    assert place == Place(source="simulated", stream=place.stream if place else "", at="8")
