"""What was read and not drained yet: bounded, whatever a flood or a late loop does."""

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

from gpuwarden.adapters import kernel_lines
from gpuwarden.adapters.kmsg.sieve import Counts
from gpuwarden.adapters.kmsg.source import Kept, Place
from gpuwarden.model.kernel_record import KernelForgery, KernelRecord, KernelTrust
from gpuwarden.model.snapshot import Gap

SHARED_MAX = 2048
"""Records that wait, of whatever kind; a record is half a kilobyte."""
EACH_MAX = 8
"""So many of each kind wait even then: a line of a new kind is never pushed out by others."""
ALL_MAX = 8192
TAKE_MAX = 256
"""Records a tick: the journal writes down all of them when it writes the tick."""


def understood(record: KernelRecord) -> KernelRecord:
    """With what its text says. A source that others can write to may put anything before the message."""
    is_whole = record.trust is not KernelTrust.UNTRUSTED
    line = kernel_lines.read_message(record.text) if is_whole else kernel_lines.read(record.text)
    return record if line is None else replace(record, line=line)


class Inbox:
    """Put by the reading thread, taken by the loop's."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.sight: tuple[KernelTrust, Gap | None] = (KernelTrust.NONE, None)
        """What is read now, and why nothing is."""
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Kept, Place]] = deque()
        self._kinds: Counter[bytes] = Counter()
        self._read: Place | None = None
        self._accused: KernelForgery | None = None

    def sees(self, trust: KernelTrust, blind: Gap | None = None) -> None:
        self.sight = (trust, blind)

    def put(self, kept: Sequence[Kept], place: Place | None, accused: KernelForgery | None) -> bool:
        """Add what a read has brought, and where it came to; whether the loop should be woken."""
        is_urgent = False
        with self._lock:
            self._read = place
            if accused is not None:
                self._accuse(accused)
            if place is None:
                return False
            for each in kept:
                size = len(self._waiting)
                if size >= ALL_MAX or (size >= SHARED_MAX and self._kinds[each.key] >= EACH_MAX):
                    self.counts.dropped += 1
                    continue
                self._kinds[each.key] += 1
                self._waiting.append((each, place))
                is_urgent |= each.is_urgent
        return is_urgent

    def take(self) -> tuple[tuple[KernelRecord, ...], Place | None, bool]:
        """The oldest, up to a tick's bound, understood; how far that is; whether more are waiting."""
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(TAKE_MAX, len(self._waiting)))]
            for kept, _ in taken:
                self._kinds[kept.key] -= 1
            has_more, place = bool(self._waiting), self._read
            if not has_more:
                self._kinds.clear()
        if has_more:
            last, place_then = taken[-1]
            place = replace(place_then, at=last.at)
        return tuple(understood(kept.record) for kept, _ in taken), place, has_more

    def accused(self) -> KernelForgery | None:
        """Forgeries since the last call."""
        with self._lock:
            accused, self._accused = self._accused, None
            return accused

    def _accuse(self, new: KernelForgery) -> None:
        old = self._accused
        self._accused = new if old is None else replace(old, count=old.count + new.count)
