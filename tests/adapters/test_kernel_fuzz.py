"""A million spoiled kernel lines, and text made to keep a pattern busy: no crash, and an end."""

from __future__ import annotations

import json
import random

import pytest

from gpuwarden.adapters import kernel_lines
from gpuwarden.adapters.kernel_json import as_json
from gpuwarden.policy.fault.line_verdict import verdict
from gpuwarden.policy.fault.steps import first_steps, topic_of
from tests.kernel_log_data import labelled

LINES = [row["line"].encode() for row in labelled()]
BITS = sorted(
    {
        *(
            b"NVRM: |Xid|(PCI:|pid=|name=|, |'<unknown>'|<unknown>|: |GPU-I:|Link |Fatal|0x|\\x0a|".split(
                b"|"
            )
        ),
        *(
            b"[| ]|;|{|}|(|)|\x00|\xff|\xc3|\n|\r|\t|\\|-1|99999999999999999999|nvidia-nvswitch".split(
                b"|"
            )
        ),
    }
)


def spoil(dice: random.Random, line: bytes) -> bytes:
    """A line with a few of its bytes dropped, changed, doubled, or swapped for a piece of another."""
    for _ in range(dice.randint(1, 4)):
        at = dice.randint(0, len(line))
        to = min(len(line), at + dice.choice((0, 1, 1, 2, 8, 40)))
        what = dice.randrange(6)
        if what == 0:
            line = line[:at] + line[to:]
        elif what == 1:
            line = line[:at] + bytes([dice.randrange(256)]) + line[to:]
        elif what == 2:
            line = line[:at] + dice.choice(BITS) + line[at:]
        elif what == 3:
            line = line[:at] + line[at:to] * dice.choice((2, 3, 50)) + line[to:]
        elif what == 4:
            other = dice.choice(LINES)
            line = line[:at] + other[dice.randint(0, len(other)) :]
        else:
            line = line[:at]
    return line


def stand(raw: bytes) -> bool:
    """All that is done with a line, from bytes to the page; whether it said something."""
    kernel_lines.may_matter(raw)
    line = kernel_lines.read_bytes(raw)
    if line is None:
        return False
    json.loads(json.dumps(as_json(line), allow_nan=False))
    for recovery in (None, 0, 1, 99):
        verdict(line, recovery)
    return len(first_steps(topic_of(line), line.pci)) == 3


def rain(seed: int, count: int) -> None:
    dice = random.Random(seed)
    told = 0
    for _ in range(count):
        told += stand(spoil(dice, dice.choice(LINES)))
    assert (
        count * 0.2 < told < count
    )  # it is the readers that were tried, and some lines were spoiled


def test_twenty_thousand_spoiled_lines() -> None:
    rain(1, 20_000)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(2, 12))
def test_a_million_spoiled_lines(seed: int) -> None:
    rain(seed, 100_000)


REPEATED = [
    b" ",
    b",",
    b"a",
    b"0",
    b"x, ",
    b"(",
    b"[",
    b"\\x0a",
    b"\n",
    b"0x0 ",
    b"A_",
    b"Ch 0 ",
    b". ",
    b"-",
]
BEGINNINGS = [
    b"",
    b"NVRM: ",
    b"NVRM: Xid (PCI:0000:65:00): 43, ",
    b"NVRM: Xid (PCI:0000:65:00): 43, pid=",
    b"NVRM: Xid (PCI:0000:65:00): 43, name=",
    b"NVRM: Xid (PCI:0000:65:00): 31, MMU Fault: ENGINE ",
    b"NVRM: Xid (PCI:0000:65:00): 94, Contained: ",
    b"NVRM: Xid (PCI:0000:65:00): 145, RLW_REMAP Nonfatal ",
    b"NVRM: Xid (PCI:0000:65:00): 154, GPU recovery action changed from 0x0 (",
    b"NVRM: Xid (PCI:0000:65:00): 74, NVLink: fatal error detected on link 1(",
    b"NVRM: API mismatch: the client has the version 1",
    b"NVRM: nvAssertFailedNoLog: Assertion failed: ",
    b"nvidia-nvswitch0: SXid (PCI:0000:c3:00.0): 20034, Data {",
    b"INFO: task ",
    b"Jul 09 10:42:47 ",
    b"4,1,2,",
    b"4,1,2,-;",
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_no_pattern_is_kept_busy(beginning: bytes) -> None:
    """Time that grows faster than the line would not end within this test's deadline."""
    for piece in REPEATED:
        for end in (b"", b"NVRM: Xid (PCI:0000:65:00): 79", b" @ x.c:1", b"\xff"):
            stand(beginning + piece * (4 * kernel_lines.MAX_CHARS) + end)
            stand(beginning + piece * (kernel_lines.MAX_CHARS // (2 * len(piece))) + end)
