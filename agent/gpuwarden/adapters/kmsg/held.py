"""read(2) without letting go of the interpreter's lock.

``os.read`` lets go of it for every record. While another thread computes, it may come back only after the switch
interval of 5 ms, in which a flood brings 200 records. These reads do not block, so nobody waits for them
longer than for a few bytecodes. They cost half a microsecond more, so they are taken only when it matters.
"""

import ctypes
import os
from collections.abc import Callable

_LIBC = ctypes.PyDLL(None, use_errno=True)
_READ: Callable[[int, int, int], int] = _LIBC.read
_READ.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)  # type: ignore[attr-defined]
_READ.restype = ctypes.c_ssize_t  # type: ignore[attr-defined]


class HeldReads:
    """One buffer, for descriptors that do not block."""

    def __init__(self, record_bytes: int) -> None:
        self._buffer = ctypes.create_string_buffer(record_bytes)
        self._address = ctypes.addressof(self._buffer)

    def read(self, fd: int, size: int) -> bytes:
        """As ``os.read``, with the same exceptions; ``size`` is at most that of the buffer."""
        got = _READ(fd, self._address, min(size, len(self._buffer)))
        if got < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return ctypes.string_at(self._address, got)
