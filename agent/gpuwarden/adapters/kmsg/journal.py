"""The kernel's lines in systemd's journal, for hosts where the agent may not read /dev/kmsg: not trusted.

``journalctl`` runs beside the agent and follows; it is ended by its pid. Facility 0 is the kernel's here,
too: of what user space writes to /dev/kmsg the journal keeps the facility, and cuts the word before the first
colon off as the name of a program.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from gpuwarden.adapters.kmsg.export import ExportParser, Garbled
from gpuwarden.adapters.kmsg.record import TEXT_MAX_BYTES
from gpuwarden.adapters.kmsg.sieve import Sieve, is_of_a_process, kind_of, pretends
from gpuwarden.adapters.kmsg.source import CannotRead, Kept, Place, Pull, Reach
from gpuwarden.adapters.tool import SAFE_PATH
from gpuwarden.clock import Clock
from gpuwarden.model.kernel_record import KernelRecord, KernelTrust

PROGRAM = "journalctl"
FIELDS = "MESSAGE,PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,_SOURCE_MONOTONIC_TIMESTAMP"
FIRST_S = 10.0
"""A journal that has this boot's kernel lines shows the first long before."""
END_S = 1.0
CHUNK_BYTES = 65_536
_SAID_BYTES = 400
_CURSOR_MAX_CHARS = 512


def find_program(path: str = SAFE_PATH) -> str | None:
    """Where journalctl is, ``None`` when it is not installed."""
    return shutil.which(PROGRAM, path=path)


class Journal:
    """Begins with this boot's first entry, or after the cursor an earlier agent came to."""

    name = "journal"
    trust = KernelTrust.UNTRUSTED

    def __init__(self, program: str, boot_id: str, clock: Clock, sieve: Sieve) -> None:
        self._program = program
        self._boot_id = boot_id
        self._clock = clock
        self._sieve = sieve
        self._process: subprocess.Popen[bytes] | None = None
        self._parser = ExportParser()
        self._cursor: str | None = None
        self._said = b""
        """The end of what it wrote to its standard error."""
        self._first_by: float | None = None
        self._had_cursor = False
        self._backlog_before = 0.0
        """What the kernel stamped before is older than the agent."""

    def open(self, place: Place | None, *, is_backlog: bool) -> None:
        now = self._clock.now()
        self._backlog_before = now if is_backlog else 0.0
        command = [self._program, "--dmesg", "--follow", "--no-tail", "--no-pager", "--quiet"]
        command += ["--output=export", f"--output-fields={FIELDS}"]
        cursor = _cursor_of(place, self._boot_id)
        if cursor is not None:
            self._had_cursor = True
            self._cursor = cursor
            command.append(f"--after-cursor={cursor}")
        else:
            self._first_by = now + FIRST_S
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": SAFE_PATH, "LC_ALL": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise CannotRead(f"{self._program}: {error.strerror}") from error
        for fd in self._pipes():
            os.set_blocking(fd, False)
        self._sieve.counts.opens += 1

    def filenos(self) -> Sequence[int]:
        return self._pipes()[:1]

    def _pipes(self) -> Sequence[int]:
        streams = (self._process.stdout, self._process.stderr) if self._process else ()
        return [stream.fileno() for stream in streams if stream is not None]

    def patience_s(self) -> float | None:
        return None if self._first_by is None else max(0.0, self._first_by - self._clock.now())

    def place(self) -> Place | None:
        if self._cursor is None:
            return None
        return Place(source=self.name, stream=self._boot_id, at=self._cursor)

    def read(self, now: float) -> Pull:
        out, err = self._pipes()
        self._said = (self._said + (_part(err) or b""))[-_SAID_BYTES:]
        part = _part(out)
        if part is None:
            if self._first_by is not None and now >= self._first_by:
                raise CannotRead(self._why("it shows no kernel line of this boot"))
            return Pull((), 0, Reach.EMPTY)
        if not part:
            if self._had_cursor:
                return Pull((), 0, Reach.ASTRAY)
            raise CannotRead(self._why("it has ended"))
        kept: list[Kept] = []
        try:
            count = sum(self._take(entry, now, kept) for entry in self._parser.feed(part))
        except Garbled as error:
            self._sieve.counts.garbage += 1
            raise CannotRead(f"{self._program}: {error}") from error
        self._sieve.counts.bytes += len(part)
        self._sieve.counts.records += count
        if count:
            self._first_by, self._had_cursor = None, False
        return Pull(kept, count, Reach.MORE)

    def close(self) -> None:
        """TERM, then KILL, to this process alone; it is reaped."""
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
                return

    def _why(self, what: str) -> str:
        said = " ".join(self._said.decode("utf-8", "replace").split())
        return f"{self._program}: {said or what}"

    def _take(self, entry: Mapping[str, bytes], now: float, kept: list[Kept]) -> int:
        """Hand an entry on, or do not; 1 when it is one."""
        cursor = entry.get("__CURSOR", b"").decode("ascii", "replace")
        if not cursor or len(cursor) > _CURSOR_MAX_CHARS:
            self._sieve.counts.garbage += 1
            return 0
        self._cursor = cursor
        text = entry.get("MESSAGE", b"")
        facility = _number(entry.get("SYSLOG_FACILITY"))
        if facility != 0:
            whole = entry.get("SYSLOG_IDENTIFIER", b"") + b": " + text
            if pretends(b";" + whole):
                self._sieve.accuse(whole, facility)
            return 1
        kind = kind_of(text)
        if kind is None:
            return 1
        if is_of_a_process(text):
            if pretends(b";" + text):
                self._sieve.accuse(text, 0)
            return 1
        key, urgent = kind
        boot_us = _number(entry.get("_SOURCE_MONOTONIC_TIMESTAMP"))
        if self._sieve.admits(key, now, is_urgent=urgent):
            self._sieve.counts.cut += len(text) > TEXT_MAX_BYTES
            record = KernelRecord(
                text=text[:TEXT_MAX_BYTES].decode("utf-8", "replace"),
                source=self.name,
                trust=self.trust,
                seen_at=now,
                boot_us=boot_us,
                facility=facility,
                level=_number(entry.get("PRIORITY")),
                is_backlog=boot_us is not None and boot_us / 1e6 < self._backlog_before,
            )
            self._sieve.keep(kept, Kept(key, record, cursor, urgent))
        return 1


def _cursor_of(place: Place | None, boot_id: str) -> str | None:
    if place is None or (place.source, place.stream) != (Journal.name, boot_id):
        return None
    cursor = place.at
    is_sound = cursor.isascii() and cursor.isprintable() and 0 < len(cursor) <= _CURSOR_MAX_CHARS
    return cursor if is_sound else None


def _part(fd: int) -> bytes | None:
    """What a pipe holds; ``None`` when it is nothing now, empty when it has ended."""
    try:
        return os.read(fd, CHUNK_BYTES)
    except BlockingIOError:
        return None


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) <= 18 else None
