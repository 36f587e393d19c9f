"""Whether anything keeps the wall clock right, by the kernel's own word (adjtimex, which only reads here)."""

import ctypes
import struct
from dataclasses import dataclass

_TIMEX_BYTES = 256
"""struct timex of the 64-bit ABI has 208."""
_MAX_ERROR = struct.Struct("=q")
_MAX_ERROR_AT = 24
_STATUS = struct.Struct("=i")
_STATUS_AT = 40
_STA_UNSYNC = 0x40
_TIME_ERROR = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockState:
    """None: the kernel does not say."""

    is_synchronised: bool | None = None
    error_s: float | None = None


def read() -> ClockState:
    """What the kernel says now."""
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        state = ctypes.CDLL(None).adjtimex(timex)  # modes 0: nothing is changed
    except (OSError, AttributeError):
        return ClockState()
    return judged(state, timex.raw) if state >= 0 else ClockState()


def judged(state: int, timex: bytes) -> ClockState:
    """An answer of adjtimex: its return value, and the structure it filled."""
    (status,) = _STATUS.unpack_from(timex, _STATUS_AT)
    (error_us,) = _MAX_ERROR.unpack_from(timex, _MAX_ERROR_AT)
    return ClockState(
        is_synchronised=state != _TIME_ERROR and not status & _STA_UNSYNC,
        error_s=error_us / 1e6 if error_us >= 0 else None,
    )
