"""The thread that reads: opens a source, follows it, opens it again with a back-off when it ends."""

import os
import select
import threading
from collections.abc import Callable

from gpuwarden.adapters.kmsg.inbox import Inbox
from gpuwarden.adapters.kmsg.sieve import Sieve
from gpuwarden.adapters.kmsg.source import CannotRead, Place, Reach, Source
from gpuwarden.clock import Clock
from gpuwarden.model.kernel_record import KernelTrust
from gpuwarden.model.snapshot import Gap

NAME = "kernel_log"
RETRY_MIN_S, RETRY_MAX_S = 0.1, 30.0
GATHER_FROM, GATHER_S = 4, 0.003
"""A read that brought so many records is followed by a pause: in a flood, each record would wake the thread.
In 3 ms of the worst flood reported (250,000 lines in 6 s) 125 records come; a ring holds a thousand, and the
thread may also be kept waiting for a processor."""
JOIN_S = 5.0

Find = Callable[[Sieve], Source]
"""Chooses the source, anew for every attempt to open one; raises ``CannotRead``."""


class Reader:
    """Fills the inbox until ``close``. ``place``: where an earlier agent came to."""

    def __init__(self, find: Find, clock: Clock, inbox: Inbox, place: Place | None) -> None:
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Readable when a line came that may name a fault."""
        self.sieve = Sieve(counts=inbox.counts)
        self._find = find
        self._clock = clock
        self._inbox = inbox
        self._place = place
        self._retry_s = RETRY_MIN_S
        self._has_read = False
        """What is there when a source is opened is old only while nothing was ever read."""
        self._is_over = False
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._source = self._opened()  # before the thread: the first tick knows what there is
        self._thread = threading.Thread(target=self._run, name="kernel-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; returns when it has ended."""
        self._is_over = True
        os.eventfd_write(self._stop, 1)
        self._thread.join(JOIN_S)
        if not self._thread.is_alive():
            os.close(self._stop)
            os.close(self.wake)

    def _run(self) -> None:
        while not self._is_over:
            if self._source is None:
                self._rest(self._retry_s)
                self._retry_s = min(RETRY_MAX_S, self._retry_s * 2)
                self._source = self._opened()
                continue
            try:
                why = CannotRead(self._follow(self._source))
            except Exception as error:  # noqa: BLE001  a defect of a source must not end the watch in silence
                why = _told(error)
            self._go_blind(why)
            self._close()
        self._close()

    def _opened(self) -> Source | None:
        """An open source, or ``None`` and the reason in the inbox."""
        source = None
        try:
            source = self._find(self.sieve)
            source.open(self._place, is_backlog=not self._has_read)
        except Exception as error:  # noqa: BLE001  nor keep the agent from starting
            if source is not None:
                source.close()
            self._go_blind(_told(error))
            return None
        self._place = source.place() or self._place
        self._inbox.put((), self._place, None)
        self._inbox.sees(source.trust)
        return source

    def _follow(self, source: Source) -> str:
        """Read until it ends; how it ended."""
        poller = select.poll()
        for fd in (self._stop, *source.filenos()):
            poller.register(fd, select.POLLIN)
        while not self._is_over:
            pull = source.read(self._clock.now())
            if pull.number:
                self._has_read = True
                self._retry_s = RETRY_MIN_S
                self._place = source.place() or self._place
                if self._inbox.put(pull.kept, self._place, self.sieve.accused()):
                    os.eventfd_write(self.wake, 1)
            if pull.reach is Reach.ASTRAY:
                self._place, self._has_read = None, False
                return "the place where the last agent stopped is not there any more"
            if pull.reach is Reach.OVER:
                return f"{source.name}: the stream has ended"
            if pull.reach is Reach.EMPTY:
                if pull.number >= GATHER_FROM:
                    self._rest(GATHER_S)
                patience_s = source.patience_s()
                poller.poll(None if patience_s is None else patience_s * 1000)
        return "the agent ends"

    def _go_blind(self, error: CannotRead) -> None:
        self._inbox.sees(
            KernelTrust.NONE,
            Gap(source=NAME, subject="kernel log", kind=error.kind, detail=str(error)[:300]),
        )

    def _close(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None

    def _rest(self, seconds: float) -> None:
        """Wait, unless the end comes."""
        poller = select.poll()
        poller.register(self._stop, select.POLLIN)
        poller.poll(seconds * 1000)


def _told(error: Exception) -> CannotRead:
    """A reason in words."""
    return (
        error if isinstance(error, CannotRead) else CannotRead(f"{type(error).__name__}: {error}")
    )
