"""adjtimex: what the kernel says of its own clock."""

from __future__ import annotations

import struct

import pytest

from gpuwarden.adapters import kernel_clock
from gpuwarden.adapters.kernel_clock import ClockState


def timex(status: int, error_us: int) -> bytes:
    """struct timex of x86-64 and arm64: modes, offset, freq, maxerror, esterror, status, ..."""
    return struct.pack("=I4xqqqqi", 0, 0, 0, error_us, 0, status).ljust(208, b"\0")


@pytest.mark.parametrize(
    ("state", "status", "error_us", "expected"),
    [
        (0, 0x2001, 1_500, ClockState(is_synchronised=True, error_s=0.0015)),
        (5, 0x0040, 16_000_000, ClockState(is_synchronised=False, error_s=16.0)),
        (0, 0x0040, 0, ClockState(is_synchronised=False, error_s=0.0)),
        (5, 0x2001, 10, ClockState(is_synchronised=False, error_s=0.00001)),
        (1, 0x2011, -1, ClockState(is_synchronised=True, error_s=None)),
    ],
    ids=["kept", "never set", "STA_UNSYNC", "TIME_ERROR", "leap second pending"],
)
def test_each_answer(state: int, status: int, error_us: int, expected: ClockState) -> None:
    assert kernel_clock.judged(state, timex(status, error_us)) == expected


def test_this_kernel_answers() -> None:
    assert kernel_clock.read().is_synchronised is not None
