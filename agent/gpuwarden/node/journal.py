"""The journal: what was known, decided, intended and done, on disk before anything harmful.

Append-only segments ``journal-<number>.jsonl``. One record a line: CRC-32 of the JSON in eight hex
digits, a space, the JSON, a newline. A line that does not check is skipped and counted as a gap; a
torn last line is never appended to, because every start and every failed write opens a new segment.
A write that could not be synced is lost: the segment is closed and never synced again (a retried
fsync reports success for pages the kernel has already dropped).
"""

import contextlib
import json
import os
import re
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from gpuwarden.errors import Unavailable
from gpuwarden.model.action import Outcome
from gpuwarden.model.audit import Audited
from gpuwarden.model.decision import Decision, Incident
from gpuwarden.model.memory import Memory
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.node.lines import Lines, checked

SCHEMA = 1
SEGMENT_BYTES = 16 * 2**20
_NAME = re.compile(r"journal-([0-9]{8})\.jsonl\Z")  # journal-00000042.jsonl


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line. ``kind`` says which of the other fields are there."""

    kind: Literal["start", "config", "tick", "outcomes", "incidents", "memory", "audit", "stop"]
    schema: int = SCHEMA
    config: str | None = None
    memory: Memory | None = None
    """Of a tick: the memory before it. Of ``memory``: a checkpoint."""
    snapshot: Snapshot | None = None
    decision: Decision | None = None
    outcomes: tuple[Outcome, ...] = ()
    incidents: tuple[Incident, ...] = ()
    audit: Audited | None = None


LINES = Lines(Record)
encode, decode = LINES.encode, LINES.decode


def is_newer(line: bytes) -> bool:
    """Whether a whole line says that it follows a schema this program does not know."""
    body = checked(line)
    try:
        said = json.loads(body) if body is not None else None
    except (ValueError, RecursionError):
        return False
    schema = said.get("schema") if isinstance(said, dict) else None
    return isinstance(schema, int) and schema > SCHEMA


@dataclass(slots=True)
class Reading:
    """What reading a journal met."""

    records: int = 0
    gaps: int = 0
    newer_schema: bool = False


def segments(folder: Path) -> list[Path]:
    """Segments, oldest first."""
    if not folder.is_dir():
        return []
    found = [(int(m[1]), p) for p in folder.iterdir() if (m := _NAME.match(p.name))]
    return [p for _, p in sorted(found)]


def read(folder: Path, reading: Reading | None = None) -> Iterator[Record]:
    """Every record that checks, oldest first; ``folder`` may also be one segment."""
    reading = reading if reading is not None else Reading()
    for path in [folder] if folder.is_file() else segments(folder):
        in_gap = False
        for line in _lines(path, reading):
            record = decode(line)
            if (record is None and is_newer(line)) or (record and record.schema > SCHEMA):
                reading.newer_schema = True
                continue
            if record is None:
                reading.gaps += 0 if in_gap else 1
                in_gap = True
                continue
            in_gap = False
            reading.records += 1
            yield record


def _lines(path: Path, reading: Reading) -> Iterator[bytes]:
    """Lines of a segment; one that cannot be read (to its end), or is no file of its own, is a gap."""
    try:
        # Not through a link, and not waiting for the writer of a FIFO.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError("not a regular file")
            yield from file
    except OSError:
        reading.gaps += 1


class Disk(Protocol):
    """The file calls the journal makes; tests put a failing disk here."""

    def open(self, path: Path) -> int: ...
    def write(self, fd: int, data: bytes) -> None: ...
    def sync(self, fd: int) -> None: ...
    def close(self, fd: int) -> None: ...
    def sync_folder(self, folder: Path) -> None: ...


class RealDisk:
    """The file system."""

    def open(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path, flags, 0o600)

    def write(self, fd: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def sync(self, fd: int) -> None:
        os.fdatasync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def sync_folder(self, folder: Path) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class FileJournal:
    """Writes one folder of segments. One process: the state directory is locked by ``wiring``. The loop
    writes, and whoever carries out a command of a person."""

    def __init__(self, folder: Path, max_bytes: int, disk: Disk | None = None) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._disk = disk or RealDisk()
        self._fd: int | None = None
        self._size = 0
        self._config = ""
        self._memory = Memory()
        self._lock = threading.Lock()
        self.failures = 0

    def begin(self, config_json: str, memory: Memory) -> None:
        """Open a new segment that stands by itself: configuration and memory first."""
        self._config = config_json
        self._memory = memory
        with self._lock:
            self._open()

    def reconfigure(self, config_json: str) -> None:
        """Write a new configuration: replay needs the one each decision was made under."""
        self._config = config_json
        self._append(Record(kind="config", config=config_json))

    def intend(self, before: Memory, snapshot: Snapshot, decision: Decision) -> None:
        """On disk when this returns; ``Unavailable`` when it is not."""
        self._memory = decision.memory
        self._append(Record(kind="tick", memory=before, snapshot=snapshot, decision=decision))

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        """Write outcomes down."""
        self._memory = self._memory.after(tuple(outcomes))  # a new segment begins with it
        self._append(Record(kind="outcomes", outcomes=tuple(outcomes)))

    def keep(self, incidents: Sequence[Incident]) -> None:
        """Write incidents down as they now read."""
        self._append(Record(kind="incidents", incidents=tuple(incidents)))

    def remember(self, memory: Memory) -> None:
        """A checkpoint of memory outside a tick (after outcomes, at a clean stop)."""
        self._memory = memory
        self._append(Record(kind="memory", memory=memory))

    def audit(self, entry: Audited) -> None:
        """Write a command down; from any thread."""
        self._append(Record(kind="audit", audit=entry))

    def close(self) -> None:
        """Let go of the segment."""
        if self._fd is not None:
            self._disk.close(self._fd)
            self._fd = None

    def _append(self, record: Record) -> None:
        data = encode(record)
        with self._lock:
            if self._fd is None or self._size >= SEGMENT_BYTES:
                self._open()
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self._fd is None:
            raise Unavailable("the journal has no open segment")
        try:
            self._disk.write(self._fd, data)
            self._disk.sync(self._fd)
        except OSError as error:
            self.failures += 1
            fd, self._fd = self._fd, None
            try:
                self._disk.close(fd)
            except OSError:
                self.failures += 1
            raise Unavailable(f"the journal cannot be written: {error.strerror}") from error
        self._size += len(data)

    def _open(self) -> None:
        self.close()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            known = segments(self._folder)
            number = int(known[-1].name[8:16]) + 1 if known else 1
            path = self._folder / f"journal-{number:08d}.jsonl"
            self._fd = self._disk.open(path)
            self._size = 0
            self._disk.sync_folder(self._folder)
        except OSError as error:
            self.failures += 1
            raise Unavailable(f"the journal cannot be opened: {error.strerror}") from error
        try:
            self._write(
                encode(Record(kind="start", config=self._config))
                + encode(Record(kind="memory", memory=self._memory))
            )
        except Unavailable:
            # A full disk is tried again every second: not a new empty segment each time.
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self._trim()

    def _trim(self) -> None:
        """Remove the oldest segments above the cap; the newest two always stay."""
        known = segments(self._folder)
        sizes = {path: path.stat().st_size for path in known}
        total = sum(sizes.values())
        for path in known[:-2]:
            if total <= self._max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= sizes[path]
