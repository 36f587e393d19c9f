"""The child's door to libnvidia-ml: handles, marks, and calls on buffers made once.

Plain ctypes and no pynvml: the hot calls need none of it, it costs 4.5 MiB and 25 ms at each start,
and several packages ship a module of that name. Every call leaves its mark in shared memory first,
so that the parent knows what hung, where and since when. Nothing here raises for a return code.
"""

from __future__ import annotations

import ctypes
import mmap
import time

from gpuwarden.adapters.probe import layout
from gpuwarden.adapters.probe.symbols import NUMBERS

LIBRARY = "libnvidia-ml.so.1"
_CODE_MASK = 0xFFFFFFFF


class Marks:
    """One thread's line in shared memory: the call in progress, and how far it has come."""

    def __init__(self, shared: mmap.mmap, thread: int) -> None:
        self._shared = shared
        self._mark_at = thread * layout.MARK.size
        self._progress_at = layout.PROGRESS_AT + thread * layout.PROGRESS.size
        self.passes = 0
        self.dropped = 0
        self.calls = 0

    def enter(self, ordinal: int, number: int) -> None:
        """A call begins; ``ordinal`` -1: on no device."""
        self.calls += 1
        layout.MARK.pack_into(self._shared, self._mark_at, time.monotonic(), ordinal, number)

    def leave(self) -> None:
        """No call is in progress."""
        layout.MARK.pack_into(self._shared, self._mark_at, 0.0, -1, 0)

    def finish(self, at: float) -> None:
        """A pass over the devices ended; everything it saw has been sent or will be sent again."""
        self.passes += 1
        layout.PROGRESS.pack_into(
            self._shared, self._progress_at, at, self.passes, self.dropped, self.calls
        )


class Library:
    """libnvidia-ml, loaded; ``missing`` holds the symbols it does not have."""

    def __init__(self, path: str | None) -> None:
        """Raises OSError when there is no such library."""
        self._dll = ctypes.CDLL(path or LIBRARY)
        self._functions: dict[str, ctypes._NamedFuncPointer | None] = {}

    def function(self, symbol: str) -> ctypes._NamedFuncPointer | None:
        """The symbol, or None where this driver's library lacks it (looked up once)."""
        if symbol not in self._functions:
            try:
                function = self._dll[symbol]
            except AttributeError:
                function = None
            self._functions[symbol] = function
        return self._functions[symbol]

    def call(self, marks: Marks, ordinal: int, symbol: str, *args: object) -> int:
        """Return code of one call; FUNCTION_NOT_FOUND where the symbol is not there."""
        function = self.function(symbol)
        if function is None:
            return layout.FUNCTION_NOT_FOUND
        marks.enter(ordinal, NUMBERS[symbol])
        code = function(*args) & _CODE_MASK
        marks.leave()
        return int(code)

    def text(
        self, marks: Marks, ordinal: int, symbol: str, size: int, handle: ctypes.c_void_p | None
    ) -> tuple[int, bytes]:
        """A string the driver writes into a buffer; bytes up to the first NUL, whatever they are."""
        buffer = ctypes.create_string_buffer(size + 1)  # the last NUL is ours, whatever it writes
        args = (buffer, ctypes.c_uint(size))
        if handle is None:
            code = self.call(marks, ordinal, symbol, *args)
        else:
            code = self.call(marks, ordinal, symbol, handle, *args)
        return code, buffer.value if code == layout.SUCCESS else b""

    def number(
        self, marks: Marks, ordinal: int, symbol: str, handle: ctypes.c_void_p | None
    ) -> tuple[int, int]:
        """An unsigned int the driver writes through a pointer."""
        value = ctypes.c_uint(0)
        args = (ctypes.byref(value),)
        if handle is None:
            code = self.call(marks, ordinal, symbol, *args)
        else:
            code = self.call(marks, ordinal, symbol, handle, *args)
        return code, value.value


class Handle:
    """One device of the inventory, as the child knows it. ``pointer`` None: it could not be opened."""

    def __init__(self, *, code: int, index: int, parent: int, pointer: int | None) -> None:
        self.code = code
        self.index = index
        self.parent = parent
        self.flags = 0
        self.minor = layout.NO_MINOR
        self.uuid = b""
        self.name = b""
        self.pci = b""
        self.pointer = ctypes.c_void_p(pointer)

    @property
    def is_open(self) -> bool:
        return self.code == layout.SUCCESS

    def record(self) -> bytes:
        """Its line of the inventory frame."""
        return layout.RECORD.pack(
            self.code,
            self.index,
            self.parent,
            self.flags,
            self.minor,
            self.uuid,
            self.name,
            self.pci,
        )
