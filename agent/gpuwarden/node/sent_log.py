"""The book of on-call on disk: what was spooled, what was sent, what people said. Outlasts restarts.

Append-only segments ``sent-<number>.jsonl`` in the journal's framing: the newest line about a thing counts. A
segment begins with the whole book, so older ones go once it is synced; a line that does not check is
skipped and counted. What was written is synced before anybody is told that it is safe.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from gpuwarden.errors import Unavailable
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Book, Entry, Flap, Silence, SinkBook
from gpuwarden.node.journal import Disk, RealDisk
from gpuwarden.node.lines import Lines

SCHEMA = 1
SEGMENT_BYTES = 4 * 2**20
LINE_MAX_BYTES = 2**20
_NAME = re.compile(r"sent-([0-9]{8})\.jsonl\Z")  # sent-00000042.jsonl

Key = TypeVar("Key", bound=str)
Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRecord:
    """One line: a thing as it now is, or the names of what is gone."""

    schema: int = SCHEMA
    entry: Entry | None = None
    silence: Silence | None = None
    sink: SinkBook | None = None
    flap: tuple[str, Flap] | None = None
    gone: tuple[str, ...] = ()
    """``entry inc-1``, ``silence sil-1``, ``flap ...``."""
    serial: int | None = None
    dropped: int | None = None
    dropped_wall: float = 0.0


LINES = Lines(SentRecord)
encode = LINES.encode


def decode(line: bytes) -> SentRecord | None:
    """The record of a line; ``None`` when it does not check, or is of a schema nobody here knows."""
    record = LINES.decode(line)
    return record if record is not None and record.schema <= SCHEMA else None


def applied(book: Book, record: SentRecord) -> Book:
    """The book with one line more."""
    entries, silences = dict(book.entries), dict(book.silences)
    sinks, flaps = dict(book.sinks), dict(book.flaps)
    if record.entry is not None:
        entries[record.entry.incident] = record.entry
    if record.silence is not None:
        silences[record.silence.id] = record.silence
    if record.sink is not None:
        sinks[record.sink.name] = record.sink
    if record.flap is not None:
        flaps[record.flap[0]] = record.flap[1]
    for gone in record.gone:
        kind, _, key = gone.partition(" ")
        if kind == "entry":
            entries.pop(IncidentId(key), None)
        elif kind == "silence":
            silences.pop(key, None)
        elif kind == "flap":
            flaps.pop(key, None)
    return replace(
        book,
        entries=entries,
        silences=silences,
        sinks=sinks,
        flaps=flaps,
        serial=book.serial if record.serial is None else record.serial,
        dropped=book.dropped if record.dropped is None else record.dropped,
        dropped_wall=max(book.dropped_wall, record.dropped_wall),
    )


def changes(before: Book, after: Book) -> list[SentRecord]:
    """The lines that lead from one book to the other."""
    records = [SentRecord(entry=e) for e in _changed(before.entries, after.entries)]
    records += [SentRecord(silence=s) for s in _changed(before.silences, after.silences)]
    records += [
        SentRecord(sink=s)
        for name, s in after.sinks.items()
        if (old := before.sinks.get(name)) is not s and (old is None or _kept(old) != _kept(s))
    ]
    records += [
        SentRecord(flap=(key, f)) for key, f in after.flaps.items() if before.flaps.get(key) != f
    ]
    gone = [f"entry {k}" for k in before.entries.keys() - after.entries.keys()]
    gone += [f"silence {k}" for k in before.silences.keys() - after.silences.keys()]
    gone += [f"flap {k}" for k in before.flaps.keys() - after.flaps.keys()]
    if gone:
        records.append(SentRecord(gone=tuple(sorted(gone))))
    if (before.serial, before.dropped) != (after.serial, after.dropped):
        records.append(_head(after))
    return records


def _head(book: Book) -> SentRecord:
    return SentRecord(serial=book.serial, dropped=book.dropped, dropped_wall=book.dropped_wall)


def _changed(before: Mapping[Key, Thing], after: Mapping[Key, Thing]) -> Iterator[Thing]:
    for key, value in after.items():
        old = before.get(key)
        if old is not value and old != value:
            yield value


def _kept(sink: SinkBook) -> SinkBook:
    """When it was last well is not worth a line of its own."""
    return replace(sink, ok_wall=None, detail="")


class SentLog:
    """One folder of segments; one writer, under the lock of who uses it."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self._folder = folder
        self._disk = disk or RealDisk()
        self._fd: int | None = None
        self._size = 0
        self.gaps = 0
        self.failures = 0
        self.is_over = False

    def read(self) -> Book:
        """What is on disk, as far as it checks; an empty book where there is nothing."""
        book = Book()
        for path in self._segments():
            try:
                with path.open("rb") as file:
                    while line := file.readline(LINE_MAX_BYTES):
                        record = decode(line)
                        if record is None:
                            self.gaps += 1
                        else:
                            book = applied(book, record)
            except OSError:
                self.gaps += 1
        return book

    def save(self, before: Book, after: Book) -> None:
        """On disk when this returns; ``Unavailable`` when it is not. Then the next one writes it all."""
        if self._fd is None or self._size >= SEGMENT_BYTES:
            self._begin(after)
            return
        records = changes(before, after)
        if records:
            self._write(b"".join(encode(record) for record in records))

    def close(self) -> None:
        """Let go of the segment."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            self._disk.close(fd)

    def _segments(self) -> list[Path]:
        try:
            found = [(int(m[1]), p) for p in self._folder.iterdir() if (m := _NAME.match(p.name))]
        except OSError:
            return []
        return [p for _, p in sorted(found)]

    def _begin(self, book: Book) -> None:
        """A new segment that stands by itself; the older ones are not needed then."""
        try:
            self.close()
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            known = self._segments()
            number = int(known[-1].name[5:13]) + 1 if known else 1
            path = self._folder / f"sent-{number:08d}.jsonl"
            self._fd = self._disk.open(path)
            self._size = 0
            self._disk.sync_folder(self._folder)
        except OSError as error:
            self.failures += 1
            raise Unavailable(f"the sent-log cannot be opened: {error.strerror}") from error
        try:
            self._write(b"".join(encode(r) for r in (_head(book), *changes(Book(), book))))
        except Unavailable:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        for old in known:
            with contextlib.suppress(OSError):
                old.unlink()

    def _write(self, data: bytes) -> None:
        if self._fd is None:
            raise Unavailable("the sent-log has no open segment")
        try:
            self._disk.write(self._fd, data)
            self._disk.sync(self._fd)
        except OSError as error:
            self.failures += 1
            with contextlib.suppress(OSError):
                self.close()
            self._fd = None
            raise Unavailable(f"the sent-log cannot be written: {error.strerror}") from error
        self._size += len(data)
