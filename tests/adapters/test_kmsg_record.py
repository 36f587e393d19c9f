"""Records of /dev/kmsg: their prefix, escapes and dictionary, and whatever is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.adapters.kmsg.record import (
    TEXT_MAX_BYTES,
    details_of,
    parse,
    sequence_of,
    unescape,
)

XID = b"NVRM: Xid (PCI:0000:3b:00): 79, pid=4711, name=python, GPU has fallen off the bus."


def test_a_record_with_all_its_fields() -> None:
    record = parse(
        b"28,339,5140900,-,caller=T1,more=x;" + XID + b"\n SUBSYSTEM=pci\n DEVICE=+pci:0\n"
    )
    assert record is not None
    assert (record.facility, record.level) == (3, 4)
    assert (record.sequence, record.boot_us) == (339, 5140900)
    assert record.text == XID
    assert not record.is_fragment
    assert details_of(record.rest) == (("SUBSYSTEM", "pci"), ("DEVICE", "+pci:0"))


def test_a_text_may_hold_what_ends_a_prefix() -> None:
    record = parse(b"4,1,2,c;a;b,c;\n")
    assert record is not None
    assert record.text == b"a;b,c;"
    assert record.is_fragment


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\n",
        b";",
        XID,
        b"-4,1,2,-;text\n",
        b"4,-1,2,-;text\n",
        b"4,1,-2,-;text\n",
        b"4,1,2,-\n",
        b"4,1,2\n;text",
        b"4,x,2,-;text\n",
        b"4,99999999999999999999,2,-;text\n",
        b"4,999999999999999999999999999999,2,-;text\n",
        b"99999999999999999999,1,2,-;text\n",
        b"\xff\xff,1,2,-;text\n",
        b"!EPIPE",
        "٤,1,2,-;arabic digits\n".encode(),
    ],
)
def test_what_is_no_record(record: bytes) -> None:
    assert parse(record) is None
    assert sequence_of(record) is None


def test_a_record_without_an_end() -> None:
    record = parse(b"4,7,2,-;" + b"x" * 8_000)
    assert record is not None
    assert len(unescape(record.text)) == TEXT_MAX_BYTES
    assert sequence_of(b"4,7,2,-;") == 7


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        (rb"plain", "plain"),
        (rb"a\x5cb", "a\\b"),
        (rb"three\x0alines\x0aof it", "three\nlines\nof it"),
        (rb"e\xc3\xa9", "e\u00e9"),
        (rb"\xff\xfe", "\ufffd\ufffd"),
        (b"\xff\xfe raw", "\ufffd\ufffd raw"),
        (rb"\x5cx0a is no new line", "\\x0a is no new line"),
        (rb"\x1b[2J\x00", "\x1b[2J\x00"),
        (rb"\x", "\\x"),
        (rb"\x4", "\\x4"),
        (rb"\xZZ \x4G \X41", "\\xZZ \\x4G \\X41"),
    ],
)
def test_escapes_are_undone_once(printed: bytes, text: str) -> None:
    assert unescape(printed) == text


def kernel_escaped(text: bytes) -> bytes:
    """As the kernel's msg_add_ext_text does."""
    return b"".join(
        b"\\x%02x" % c if c < 32 or c >= 127 or c == ord("\\") else bytes((c,)) for c in text
    )


@given(st.binary(max_size=800))
def test_any_text_comes_back_as_it_was_printed(text: bytes) -> None:
    record = parse(b"4,1,2,-;" + kernel_escaped(text) + b"\n")
    assert record is not None
    assert unescape(record.text) == text.decode("utf-8", "replace")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_none(data: bytes) -> None:
    record = parse(data)
    if record is not None:
        assert record.sequence == sequence_of(data)
        unescape(record.text)
        details_of(record.rest)


@pytest.mark.parametrize(
    "rest", [b"no blank=1\n", b" no equals\n", b" =no name\n", b"\n\n", b"  \n"]
)
def test_what_is_no_dictionary(rest: bytes) -> None:
    assert details_of(rest) == ()


def test_a_dictionary_is_bounded() -> None:
    rest = b"".join(b" KEY%d=%s\n" % (n, b"v" * 1000) for n in range(1000))
    details = details_of(rest)
    assert len(details) == 16
    assert all(len(value) == 256 for _, value in details)
