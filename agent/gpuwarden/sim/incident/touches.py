"""Every write to a bystander's cgroup files, by whomever: a freeze of a millisecond leaves a mark."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

_IN_MODIFY = 0x00000002
_IN_NONBLOCK = 0o4000
_IN_CLOEXEC = 0o2000000
_EVENT = struct.Struct("iIII")  # wd, mask, cookie, length of the name that follows
_BUFFER_BYTES = 65536
# The kernel itself announces news in these; nobody wrote to them.
_NEWS = (".events", ".events.local", ".pressure", ".stat", "cgroup.events", "cgroup.stat")


class Inotify:
    """Writes in folders, as the kernel reports them; where it cannot, there are none."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)

    def add(self, folder: Path) -> int | None:
        """Watch a folder; its number in events, or ``None`` when it cannot be watched."""
        number = self._libc.inotify_add_watch(self._fd, os.fsencode(folder), _IN_MODIFY)
        return None if number < 0 else int(number)

    def wait(self, timeout_s: float) -> None:
        """Until there is an event or the time is over."""
        select.select([self._fd] if self._fd >= 0 else [], [], [], timeout_s)

    def events(self) -> Iterator[tuple[int, str]]:
        """Folder number and file name of each write since the last call."""
        while self._fd >= 0:
            data = b""
            with contextlib.suppress(BlockingIOError):
                data = os.read(self._fd, _BUFFER_BYTES)
            if not data:
                return
            at = 0
            while at < len(data):
                number, _, _, length = _EVENT.unpack_from(data, at)
                name = data[at + _EVENT.size : at + _EVENT.size + length]
                at += _EVENT.size + length
                yield number, os.fsdecode(name.rstrip(b"\0"))

    def close(self) -> None:
        """Stop watching."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Touches:
    """Who wrote to whose cgroup files is not known, but that somebody did is."""

    def __init__(self) -> None:
        self._inotify = Inotify()
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
            number = self._inotify.add(folder)
            if number is not None:
                self._owner[number] = owner
                self._places[number] = folder

    def marks(self, owner: str) -> tuple[str, ...]:
        """Files of this owner that somebody wrote to, once each."""
        for number, name in self._inotify.events():
            if number in self._owner and not name.endswith(_NEWS):
                mark = f"{self._places[number] / name} was written"
                self._marks.setdefault(self._owner[number], []).append(mark)
        return tuple(dict.fromkeys(self._marks.get(owner, ())))

    def close(self) -> None:
        """Stop watching."""
        self._inotify.close()
        self._owner.clear()
