"""A descriptor that becomes readable at a time: wakes the loop when nothing else would."""

import contextlib
import ctypes
import os

_CLOCK_MONOTONIC = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class Timer:
    """A timerfd on the monotonic clock (os.timerfd_create came with Python 3.13)."""

    class _Spec(ctypes.Structure):
        _fields_ = tuple(
            (name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns")
        )
        first_s: int
        first_ns: int

    def __init__(self) -> None:
        """Raises OSError when the kernel gives none."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = Timer._Spec()

    def fileno(self) -> int:
        return int(self._fd)

    def arm(self, in_s: float) -> None:
        """Become readable in so many seconds, and not before; replaces what was armed."""
        ns = max(1, int(in_s * 1e9))
        self._spec.first_s, self._spec.first_ns = divmod(ns, 1_000_000_000)
        self._libc.timerfd_settime(self._fd, 0, ctypes.byref(self._spec), None)

    def clear(self) -> None:
        """Not readable until it expires again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)

    def close(self) -> None:
        os.close(self._fd)
