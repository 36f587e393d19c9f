"""A stream of records, one a read(2), with the semantics of /dev/kmsg: numbers that go up by one, and an
overrun (EPIPE) where records were overwritten before they were read.

``Ring._go_on`` and ``Ring._look`` are the only code of the agent that runs for every line of a flood. They
look for words in the bytes of a whole batch, and at single records only where there are some; what was lost
is seen once a batch, when the number of its last record is compared with how many were read.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

from gpuwarden.adapters.kmsg.held import HeldReads
from gpuwarden.adapters.kmsg.record import (
    TEXT_MAX_BYTES,
    Raw,
    details_of,
    parse,
    sequence_of,
    unescape,
)
from gpuwarden.adapters.kmsg.sieve import (
    STARTS,
    XID,
    Sieve,
    is_of_a_process,
    is_urgent,
    kind_of,
    mentions,
    pretends,
)
from gpuwarden.adapters.kmsg.source import CannotRead, Kept, Place, Pull, Reach
from gpuwarden.model.kernel_record import KernelRecord, KernelTrust

RECORD_BYTES = 8192
"""The longest record of the kernel; a shorter buffer makes read(2) fail with EINVAL."""
SLICE = 512
"""Records a read at most: whoever follows can then do something else."""
STEP = 8
HELD_AFTER_S = 0.001
"""A read of a whole slice takes half of that, unless other threads of the agent compute."""
_SHORTEST = len(b"0,0,0,-;")
_COMMA = ord(",")
"""After a priority of one digit, which is a record of facility 0."""
NOISE = b";NVRM: "
_LOST_MAX = 2**40
"""More than any ring ever printed: a number so far ahead is none."""


class Ring:
    """What the device and the simulated stream share; subclasses open it and know where it begins.

    Only facility 0 is the kernel's: a line of another one is never handed on, and is counted as a forgery
    when it looks like the driver's. Nor is a kernel line handed on that has the driver's words anywhere but
    at its beginning, for the kernel quotes names of files and devices that others chose; or at its beginning
    as the name that a process gave itself.
    """

    name: str
    trust: KernelTrust

    def __init__(self, sieve: Sieve) -> None:
        self._sieve = sieve
        self._fd = -1
        self._stream = ""
        self._wanted: int | None = None
        """The number to go on at; ``None``: the stream's first record."""
        self._next: int | None = None
        """The number that the next record has when none is lost; ``None`` before the first."""
        self._unnumbered = 0
        """Records read since ``_next`` was right."""
        self._is_backlog = False
        self._backlog_before_us: float | None = None
        """By a stream's own clock; ``None``: what is there until its end is reached."""
        self._held = HeldReads(RECORD_BYTES)
        self._spent = b""
        """What an Xid line holds whose kind has no allowance left in this batch."""
        self._head: Kept | None = None
        """The record handed on just now: the next one may go on with its line."""

    def _begin(self, fd: int, stream: str, place: Place | None, *, is_backlog: bool) -> int | None:
        """A stream was opened; the number to go on at, or ``None`` for its first record."""
        self._fd, self._stream, self._is_backlog = fd, stream, is_backlog
        if place is not None and (place.source, place.stream) == (self.name, stream):
            if place.at.isascii() and place.at.isdigit() and len(place.at) <= 20:
                self._wanted = int(place.at) + 1
            else:
                self._sieve.counts.garbage += 1
        self._sieve.counts.opens += 1
        return self._wanted

    def _taken(self, count: int) -> None:
        """So many were read."""

    def _special(self, raw: bytes) -> None:
        """Something shorter than any record was read."""
        self._sieve.counts.garbage += 1

    def filenos(self) -> Sequence[int]:
        return (self._fd,) if self._fd >= 0 else ()

    def patience_s(self) -> float | None:
        return None

    def place(self) -> Place | None:
        if self._next is None:
            return None
        return Place(source=self.name, stream=self._stream, at=str(self._next - 1))

    def read(self, now: float) -> Pull:
        kept: list[Kept] = []
        try:
            if self._next is None:
                count, reach = self._start(now, kept)
            else:
                count, reach = self._go_on(now, kept)
        except ConnectionError:
            count, reach = 0, Reach.OVER
        except OSError as error:
            raise CannotRead(f"{self.name}: {error.strerror}") from error
        if reach is Reach.EMPTY and self._backlog_before_us is None:
            self._is_backlog = False
        return Pull(kept, count, reach)

    def _go_on(self, now: float, kept: list[Kept]) -> tuple[int, Reach]:
        read, fd = os.read, self._fd
        batch: list[bytes] = []
        append, reach = batch.append, Reach.MORE
        late = monotonic() + HELD_AFTER_S
        try:
            for _ in range(SLICE // STEP):
                if monotonic() > late:
                    read = self._held.read
                for _ in range(STEP):
                    append(read(fd, RECORD_BYTES))
        except BlockingIOError:
            reach = Reach.EMPTY
        except BrokenPipeError:
            self._sieve.counts.overruns += 1
        if batch and min(map(len, batch)) < _SHORTEST:
            if not all(batch):
                reach = Reach.OVER
            for raw in batch:
                if 0 < len(raw) < _SHORTEST:
                    self._special(raw)
            batch = [raw for raw in batch if len(raw) >= _SHORTEST]
        if batch:
            self._look(batch, now, kept)
            self._number(batch[-1], len(batch))
        return len(batch), reach

    def _look(self, batch: Sequence[bytes], now: float, kept: list[Kept]) -> None:
        """Find the records that matter. Byte strings are searched with ``find``: ``in`` takes twice as
        long."""
        blob = b"".join(batch)
        self._sieve.counts.bytes += len(blob)
        if self._head is None and (not mentions(blob) or self._is_noise(batch, blob, now)):
            return
        if blob.find(b",c;") >= 0 or blob.find(b",c,") >= 0:
            for raw in batch:
                self._take(raw, now, kept)
            return
        ours = [r for r in batch if r[1] == _COMMA and r.startswith(STARTS, r.find(b";") + 1)]
        self._spent = b""
        for raw in ours:
            if self._spent and raw.find(self._spent) >= 0:
                self._sieve.counts.dropped += 1
                self._head = None
            else:
                self._offer(raw, now, kept)
        if len(ours) < len(batch):
            forged = [r for r in batch if r[1] != _COMMA and pretends(r)]
            if forged:
                self._accuse(forged[0], len(forged))
        if not ours or ours[-1] is not batch[-1]:
            self._head = None

    def _is_noise(self, batch: Sequence[bytes], blob: bytes, now: float) -> bool:
        """Whether a batch holds nothing but lines of the driver that are not urgent, when those have no
        allowance left; they are then counted as dropped."""
        if not self._sieve.is_muted(now) or is_urgent(blob):
            return False
        if blob.count(NOISE) != len(batch) or [raw for raw in batch if raw[1] != _COMMA]:
            return False
        self._sieve.counts.dropped += len(batch)
        return True

    def _start(self, now: float, kept: list[Kept]) -> tuple[int, Reach]:
        """Find the first record to hand on."""
        below = last = None
        for count in range(SLICE):
            try:
                raw = os.read(self._fd, RECORD_BYTES)
            except BlockingIOError:
                return count, self._nothing_wanted(last)
            except BrokenPipeError:
                self._sieve.counts.overruns += 1
                continue
            if not raw:
                return count, Reach.OVER
            number = sequence_of(raw) if len(raw) >= _SHORTEST else None
            if number is None:
                self._special(raw)
                continue
            last, below = number, self._wanted
            if below is None or number >= below:
                self._sieve.counts.lost += 0 if below is None else number - below
                self._next, self._unnumbered = number, 0
                self._look((raw,), now, kept)
                self._number(raw, 1)
                return count + 1, Reach.MORE
        return SLICE, Reach.MORE

    def _nothing_wanted(self, last: int | None) -> Reach:
        """The end was reached and no record was the one to go on at."""
        if last is None or self._wanted is None:
            return Reach.EMPTY
        if last + 1 == self._wanted:
            self._next, self._unnumbered = self._wanted, 0
            return Reach.EMPTY
        return self._astray()

    def _astray(self) -> Reach:
        """This stream never came as far as the place that was given."""
        self._sieve.counts.garbage += 1
        return Reach.ASTRAY

    def _number(self, last: bytes, count: int) -> None:
        """Compare the number of the last record with how many were read."""
        counts = self._sieve.counts
        counts.records += count
        self._taken(count)
        self._unnumbered += count
        number = sequence_of(last)
        if number is None or self._next is None:
            counts.garbage += 1
            return
        lost = number + 1 - self._next - self._unnumbered
        if not 0 <= lost < _LOST_MAX:
            counts.garbage += 1
        else:
            counts.lost += lost
        if lost < _LOST_MAX:
            self._next, self._unnumbered = number + 1, 0

    def _take(self, raw: bytes, now: float, kept: list[Kept]) -> None:
        """One record of a batch in which lines are told in pieces."""
        head = self._head
        if raw[1] != _COMMA:
            self._head = None
            if pretends(raw):
                self._accuse(raw)
        elif not self._offer(raw, now, kept) and head is not None:
            record = parse(raw)
            if record is not None and record.is_fragment:
                self._join(record, head, now, kept)

    def _offer(self, raw: bytes, now: float, kept: list[Kept]) -> bool:
        """Hand a record of the kernel on when it is one that matters and its kind has an allowance left;
        whether it matters."""
        self._head = None
        kind = kind_of(raw, raw.find(b";") + 1)
        if kind is None:
            return False
        key, urgent = kind
        if self._sieve.admits(key, now, is_urgent=urgent):
            record = parse(raw)
            if record is None or record.facility:
                self._sieve.counts.garbage += 1
                return True
            if is_of_a_process(record.text):
                if pretends(raw):
                    self._sieve.accuse(record.text, 0)
                return True
            self._head = Kept(key, self._made(record, now), str(record.sequence), urgent)
            self._sieve.keep(kept, self._head)
        elif key.startswith(XID):
            self._spent = key + b","
        return True

    def _accuse(self, raw: bytes, count: int = 1) -> None:
        """So many records pretend to be the driver's; this is the first of them."""
        record = parse(raw)
        if record is None:
            self._sieve.counts.garbage += count
        else:
            self._sieve.accuse(record.text, record.facility, count)

    def _join(self, record: Raw, head: Kept, now: float, kept: list[Kept]) -> None:
        """The rest of a line that was handed on in this very read, or before it."""
        if int(head.at) + 1 != record.sequence:
            return
        if kept and kept[-1] is head:
            text = (head.record.text + unescape(record.text))[:TEXT_MAX_BYTES]
            made = replace(head.record, text=text)
            self._head = kept[-1] = head._replace(record=made, at=str(record.sequence))
        elif self._sieve.admits(head.key, now, is_urgent=head.is_urgent):
            made = replace(self._made(record, now), continues=head.record.sequence)
            self._head = head._replace(record=made, at=str(record.sequence))
            self._sieve.keep(kept, self._head)

    def _made(self, record: Raw, now: float) -> KernelRecord:
        self._sieve.counts.cut += len(record.text) > TEXT_MAX_BYTES
        return KernelRecord(
            text=unescape(record.text),
            source=self.name,
            trust=self.trust,
            seen_at=now,
            sequence=record.sequence,
            boot_us=record.boot_us,
            facility=record.facility,
            level=record.level,
            is_backlog=self._is_backlog and self._is_old(record.boot_us),
            details=details_of(record.rest) if record.rest else (),
        )

    def _is_old(self, boot_us: int) -> bool:
        return self._backlog_before_us is None or boot_us < self._backlog_before_us
