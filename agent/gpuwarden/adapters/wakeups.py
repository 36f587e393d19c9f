"""What ends the loop's wait: descriptors of the ports, a signal, or the time that was due."""

import os
import selectors
import signal
from collections.abc import Callable, Sequence
from types import FrameType

Filenos = Callable[[], Sequence[int]]


class Wakeups:
    """Waits on every source's descriptors; sources may change theirs at any time.

    Signals: HUP asks for a reload, TERM and INT for the end. Main thread only.
    """

    def __init__(self, sources: Sequence[Filenos]) -> None:
        self._sources = tuple(sources)
        self._selector = selectors.DefaultSelector()
        self._known: frozenset[int] = frozenset()
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._read, selectors.EVENT_READ)
        self.wants_reload = False
        self.wants_stop = False

    def catch_signals(self) -> None:
        """Take over HUP, TERM and INT."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if signum == signal.SIGHUP:
            self.wants_reload = True
        else:
            self.wants_stop = True

    def wait(self, timeout_s: float) -> bool:
        """Wait at most ``timeout_s`` seconds; whether something other than time ended it."""
        self._follow()
        try:
            ready = self._selector.select(max(0.0, timeout_s))
        except InterruptedError:
            return True
        for key, _ in ready:
            if key.fd == self._read:
                self._drain()
        return bool(ready)

    def _drain(self) -> None:
        try:
            while os.read(self._read, 512):
                pass
        except BlockingIOError:
            return

    def _follow(self) -> None:
        """Register what is new, let go of what is not there any more."""
        wanted = frozenset(fd for source in self._sources for fd in source())
        if wanted == self._known:
            return
        for fd in self._known - wanted:
            self._selector.unregister(fd)
        for fd in wanted - self._known:
            self._selector.register(fd, selectors.EVENT_READ)
        self._known = wanted

    def close(self) -> None:
        """Let go of the descriptors."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        os.close(self._read)
        os.close(self._write)
