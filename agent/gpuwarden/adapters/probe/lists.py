"""Process lists: three per device (compute, graphics, MPS), into buffers made once a thread."""

from __future__ import annotations

import ctypes

from gpuwarden.adapters.probe import layout
from gpuwarden.adapters.probe.library import Handle, Library, Marks

_KINDS = ("Compute", "Graphics", "MPSCompute")
_START_ROWS = 256
_TRIES = 3
"""The list may grow between two calls; after this many the device is listed on the next occasion."""


class Lister:
    """Reads the lists of one thread. ``seen`` remembers which kinds had rows, by ordinal."""

    def __init__(self, library: Library, marks: Marks) -> None:
        self._library = library
        self._marks = marks
        # Early 535 drivers return 32-byte rows from the _v3 symbols; the tell-tale is that they have
        # one symbol of that generation without the other (XuehaiPan/nvitop#88 found it).
        is_535 = (
            library.function("nvmlDeviceGetConfComputeMemSizeInfo") is not None
            and library.function("nvmlDeviceGetRunningProcessDetailList") is None
        )
        self._stride = (layout.ROW_535 if is_535 else layout.ROW).size
        self._rows = _START_ROWS
        self._buffer = ctypes.create_string_buffer(self._rows * self._stride)
        self._count = ctypes.c_uint(0)
        self._count_at = ctypes.byref(self._count)
        self._seen: dict[tuple[int, str], bool] = {}

    def read(self, handle: Handle, ordinal: int, memory: bytes, *, is_full: bool) -> bytes:
        """Payload of a LIST frame: the memory record of this pass, the codes, the rows.

        Not ``is_full``: the graphics and MPS lists are left out where the last full look found them
        empty; a list costs some 4.5 ms of the driver's lock on hardware.
        """
        head: list[int] = []
        rows: list[bytes] = []
        for kind in _KINDS:
            if not (is_full or kind == "Compute" or self._seen.get((ordinal, kind), True)):
                head += (layout.LIST_SKIPPED, 0)
                continue
            code, count = self._list(handle, ordinal, kind)
            if code == layout.SUCCESS:
                self._seen[ordinal, kind] = count > 0
                rows.append(self._buffer.raw[: min(count, layout.ROWS_MAX) * self._stride])
            head += (code, count if code == layout.SUCCESS else 0)
        return memory + layout.LIST_HEAD.pack(*head, self._stride, 0) + b"".join(rows)

    def _list(self, handle: Handle, ordinal: int, kind: str) -> tuple[int, int]:
        code = layout.INSUFFICIENT_SIZE
        for _ in range(_TRIES):
            self._count.value = self._rows
            code = self._call(handle, ordinal, kind)
            if code != layout.INSUFFICIENT_SIZE:
                break
            wanted = self._count.value
            if not self._rows < wanted <= layout.ROWS_MAX * 16:
                break
            self._rows = wanted + wanted // 4 + 16
            self._buffer = ctypes.create_string_buffer(self._rows * self._stride)
        return code, min(self._count.value, self._rows)

    def _call(self, handle: Handle, ordinal: int, kind: str) -> int:
        code = layout.FUNCTION_NOT_FOUND
        for version in ("_v3", "_v2"):
            symbol = f"nvmlDeviceGet{kind}RunningProcesses{version}"
            if self._library.function(symbol) is None:
                continue
            return self._library.call(
                self._marks, ordinal, symbol, handle.pointer, self._count_at, self._buffer
            )
        return code
