"""Every write to a bystander's cgroup files, by whomever: a freeze of a millisecond leaves a mark."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_IN_MODIFY = 0x00000002
_IN_NONBLOCK = 0o4000
_IN_CLOEXEC = 0o2000000
_EVENT = struct.Struct("iIII")  # wd, mask, cookie, length of the name that follows
_BUFFER_BYTES = 65536
# The kernel itself announces news in these; nobody wrote to them.
_NEWS = (".events", ".events.local", ".pressure", ".stat", "cgroup.events", "cgroup.stat")


class Touches:
    """An inotify watch on cgroup folders. ``Unavailable`` hosts answer ``is_watching`` False."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        self._owner: dict[int, str] = {}
        self._places: dict[int, Path] = {}
        self._marks: dict[str, list[str]] = {}

    @property
    def is_watching(self) -> bool:
        """Whether at least one folder is under watch."""
        return bool(self._owner)

    def watch(self, owner: str, folders: Iterable[Path]) -> None:
        """Count writes in these folders against ``owner`` from now on."""
        for folder in folders:
            number = self._libc.inotify_add_watch(self._fd, os.fsencode(folder), _IN_MODIFY)
            if number >= 0:
                self._owner[number] = owner
                self._places[number] = folder

    def marks(self, owner: str) -> tuple[str, ...]:
        """Files of this owner that somebody wrote to, once each."""
        self._read()
        return tuple(dict.fromkeys(self._marks.get(owner, ())))

    def close(self) -> None:
        """Stop watching."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._owner.clear()

    def _read(self) -> None:
        while self._fd >= 0:
            data = b""
            with contextlib.suppress(BlockingIOError):
                data = os.read(self._fd, _BUFFER_BYTES)
            if not data:
                return
            at = 0
            while at < len(data):
                number, _, _, length = _EVENT.unpack_from(data, at)
                name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0").decode()
                at += _EVENT.size + length
                if number in self._owner and not name.endswith(_NEWS):
                    mark = f"{self._places[number] / name} was written"
                    self._marks.setdefault(self._owner[number], []).append(mark)
