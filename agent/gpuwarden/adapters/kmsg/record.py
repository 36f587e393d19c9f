"""One record of /dev/kmsg as data (Documentation/ABI/testing/dev-kmsg of the kernel)."""

import re
from typing import NamedTuple

TEXT_MAX_BYTES = 4096
"""Of a text that is handed on; the kernel's own records hold about 1 KiB."""
_DETAILS_MAX = 16
_SEQUENCE_MAX = 2**64

# 6,339,5140900,-;NET: Registered PF_INET6 protocol family
# 4,1186,93412345678,c,caller=T4711;the rest of a line
_PREFIX = re.compile(rb"([0-9]{1,9}),([0-9]{1,20}),([0-9]{1,20}),([^,;\n]{0,8})[^;\n]{0,200};")
# a\x5cb
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


class Raw(NamedTuple):
    """A record whose prefix is right. ``text`` and ``rest`` are as they were read."""

    facility: int
    level: int
    sequence: int
    boot_us: int
    is_fragment: bool
    text: bytes
    rest: bytes
    """The lines after the first: its dictionary."""


def parse(record: bytes) -> Raw | None:
    """``None`` for what is no record."""
    match = _PREFIX.match(record)
    if match is None:
        return None
    priority, sequence, boot_us = int(match[1]), int(match[2]), int(match[3])
    if sequence >= _SEQUENCE_MAX:
        return None
    end = record.find(b"\n", match.end())
    end = len(record) if end < 0 else end
    return Raw(
        facility=priority >> 3,
        level=priority & 7,
        sequence=sequence,
        boot_us=boot_us,
        is_fragment=match[4] == b"c",
        text=record[match.end() : end],
        rest=record[end + 1 :],
    )


def sequence_of(record: bytes) -> int | None:
    """The number of a record, ``None`` for what is none."""
    match = _PREFIX.match(record)
    number = int(match[2]) if match is not None else _SEQUENCE_MAX
    return number if number < _SEQUENCE_MAX else None


def unescape(text: bytes) -> str:
    r"""The text that was printed: ``\x0a`` is a new line again. Bytes that are no UTF-8 are replaced."""
    text = text[:TEXT_MAX_BYTES]
    if b"\\" in text:
        text = _ESCAPED.sub(lambda m: bytes((int(m[1], 16),)), text)
    return text.decode("utf-8", "replace")


def details_of(rest: bytes) -> tuple[tuple[str, str], ...]:
    """The ``KEY=value`` lines that follow a text, each after a blank; what is none is left out."""
    pairs = []
    for line in rest.split(b"\n", _DETAILS_MAX)[:_DETAILS_MAX]:
        key, equals, value = line[1:].partition(b"=")
        if line[:1] == b" " and equals and key:
            pairs.append((unescape(key[:64]), unescape(value[:256])))
    return tuple(pairs)
