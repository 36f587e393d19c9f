"""A file of kernel lines (a syslog, a recording): followed through rotation and truncation, never trusted."""

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from gpuwarden.adapters.kmsg.device import cannot_open
from gpuwarden.adapters.kmsg.record import TEXT_MAX_BYTES
from gpuwarden.adapters.kmsg.sieve import Sieve, kind_anywhere, mentions
from gpuwarden.adapters.kmsg.source import CannotRead, Kept, Place, Pull, Reach
from gpuwarden.model.kernel_record import KernelRecord, KernelTrust

CHUNK_BYTES = 65_536
LINE_MAX_BYTES = 16_384
LOOK_EVERY_S = 0.25
"""A file tells nobody that it has grown."""
MISSING_S = 5.0
_PLACE = re.compile(r"([0-9]{1,20}):([0-9]{1,20}):([0-9]{1,18})")  # 64769:131842:52107


class TextFile:
    """Lines as they stand, with whatever a logger put before them. Without a place it begins at the end:
    nobody knows how old the lines of a file are. A file that was rotated away is read to its end first.
    """

    name = "file"
    trust = KernelTrust.UNTRUSTED

    def __init__(self, path: Path, sieve: Sieve) -> None:
        self._path = path
        self._sieve = sieve
        self._fd = -1
        self._identity = (0, 0)
        self._offset = 0
        """Of the first byte after the lines that were read whole."""
        self._pending = b""
        self._is_cut = False
        """The line that is being read was too long; the rest of it is left out."""
        self._is_backlog = False
        self._missing_since: float | None = None

    def open(self, place: Place | None, *, is_backlog: bool) -> None:
        self._is_backlog = is_backlog
        size = self._reopen()
        known = _known(place, str(self._path))
        if known is None:
            self._offset = size
        elif known[:2] == self._identity:
            self._offset = known[2]
        self._is_cut = self._offset > 0 and os.pread(self._fd, 1, self._offset - 1) != b"\n"
        os.lseek(self._fd, self._offset, os.SEEK_SET)

    def filenos(self) -> Sequence[int]:
        return ()

    def patience_s(self) -> float | None:
        return LOOK_EVERY_S

    def place(self) -> Place | None:
        return Place(source=self.name, stream=str(self._path), at=self._at(self._offset))

    def read(self, now: float) -> Pull:
        kept: list[Kept] = []
        try:
            chunk = os.read(self._fd, CHUNK_BYTES)
            if not chunk:
                reach = Reach.MORE if self._has_moved(now) else Reach.EMPTY
                self._is_backlog &= reach is Reach.MORE
                return Pull(kept, 0, reach)
        except OSError as error:
            raise CannotRead(f"{self._path}: {error.strerror}") from error
        return Pull(kept, self._take(chunk, now, kept), Reach.MORE)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _reopen(self) -> int:
        """From its beginning, as it is now; its size."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise cannot_open(self._path, error) from error
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise CannotRead(f"{self._path}: not a regular file")
        self.close()
        self._fd = fd
        self._identity = (status.st_dev, status.st_ino)
        self._offset, self._pending, self._is_cut = 0, b"", False
        self._sieve.counts.opens += 1
        return status.st_size

    def _has_moved(self, now: float) -> bool:
        """Whether there is another file at the path, or less of this one: then that is read from now on."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            if self._missing_since is None:
                self._missing_since = now  # between two steps of a rotation
            if now - self._missing_since > MISSING_S:
                raise
            return False
        self._missing_since = None
        if (status.st_dev, status.st_ino) != self._identity or status.st_size < self._offset:
            self._reopen()
            return True
        return False

    def _take(self, chunk: bytes, now: float, kept: list[Kept]) -> int:
        """Hand on the lines that are whole; how many there were."""
        counts = self._sieve.counts
        counts.bytes += len(chunk)
        data = self._pending + chunk
        if self._is_cut:
            end = data.find(b"\n") + 1
            self._offset += end or len(data)
            data, self._is_cut = data[end:] if end else b"", end == 0
        end = data.rfind(b"\n") + 1
        if len(data) - end > LINE_MAX_BYTES:
            self._is_cut, end = True, len(data)
        whole, self._pending = data[:end], data[end:]
        at, self._offset = self._offset, self._offset + end
        lines = whole.splitlines(keepends=True) if mentions(whole) else ()
        for line in lines:
            at += len(line)
            self._sift(line.rstrip(), at, now, kept)
        count = len(lines) or whole.count(b"\n")
        counts.records += count
        return count

    def _sift(self, line: bytes, at: int, now: float, kept: list[Kept]) -> None:
        kind = kind_anywhere(line)
        if kind is None:
            return
        key, urgent = kind
        if not self._sieve.admits(key, now, is_urgent=urgent):
            return
        self._sieve.counts.cut += len(line) > TEXT_MAX_BYTES
        record = KernelRecord(
            text=line[:TEXT_MAX_BYTES].decode("utf-8", "replace"),
            source=self.name,
            trust=self.trust,
            seen_at=now,
            is_backlog=self._is_backlog,
        )
        self._sieve.keep(kept, Kept(key, record, self._at(at), urgent))

    def _at(self, offset: int) -> str:
        return ":".join(map(str, (*self._identity, offset)))


def _known(place: Place | None, stream: str) -> tuple[int, int, int] | None:
    """Device, inode and offset of a place in this file."""
    if place is None or (place.source, place.stream) != (TextFile.name, stream):
        return None
    match = _PLACE.fullmatch(place.at)
    return (int(match[1]), int(match[2]), int(match[3])) if match is not None else None
