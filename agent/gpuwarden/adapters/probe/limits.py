"""Memory limits of a cgroup, on request: the one thing the probe ever sets, undone by its asker."""

from __future__ import annotations

import ctypes
import os

from gpuwarden.adapters.probe import layout
from gpuwarden.adapters.probe.library import Handle, Library, Marks


class _Limits(ctypes.Structure):
    """nvmlSetMemoryLimits_v1_t, and nvmlGetMemoryLimits_v1_t with one field more."""

    _fields_ = (
        ("namespace", ctypes.c_char_p),
        ("soft", ctypes.c_ulonglong),
        ("hard", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )
    namespace: bytes
    soft: int
    hard: int
    used: int


class Requests:
    """Answers one request at a time on a socket of its own; every answer carries the driver's code."""

    def __init__(self, fd: int, library: Library, handles: list[Handle]) -> None:
        self.fd = fd
        self._library = library
        self._handles = handles

    def serve(self, marks: Marks) -> bool:
        """Answer what has been asked; False when the asker hung up."""
        try:
            message = os.read(self.fd, layout.MESSAGE_MAX)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if not message:
            return False
        number, operation, ordinal, length, soft, hard = layout.REQUEST.unpack_from(message)
        path = message[layout.REQUEST.size : layout.REQUEST.size + length]
        code, limits = self._do(marks, operation, ordinal, path, soft, hard)
        answer = layout.ANSWER.pack(number, code, limits.soft, limits.hard, limits.used)
        try:
            os.write(self.fd, answer)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return True  # nobody waits any more: its deadline has passed
        return True

    def _do(
        self, marks: Marks, operation: int, ordinal: int, path: bytes, soft: int, hard: int
    ) -> tuple[int, _Limits]:
        limits = _Limits(namespace=path, soft=soft, hard=hard, used=layout.NOT_AVAILABLE)
        if ordinal >= len(self._handles) or not self._handles[ordinal].is_open:
            return layout.NOT_FOUND, limits
        verb = {layout.SET_LIMITS: "Set", layout.GET_LIMITS: "Get"}.get(operation)
        if verb is None:
            return layout.INVALID_ARGUMENT, limits
        pointer = self._handles[ordinal].pointer
        symbol = f"nvmlDevice{verb}MemoryLimits_v1"
        return self._library.call(marks, ordinal, symbol, pointer, ctypes.byref(limits)), limits
