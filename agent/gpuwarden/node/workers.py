"""Threads for calls that may block: one a lane, made when first needed, with a bounded queue."""

import os
import queue
import threading
from collections.abc import Callable, Sequence

from gpuwarden.model.action import Action, Outcome

QUEUE = 16
PAGE_LANE = "page"
PAGE_QUEUE = 512
"""Pages are only put on disk there, and many things may go wrong at once: none is to be lost."""
MAX_LANES = 40


class ThreadWorkers:
    """Lanes of daemon threads. Deadlines are the adapters' own; a lane that hangs stops only
    itself.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, queue.Queue[Callable[[], Outcome] | None]] = {}
        self._done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.dropped = 0

    def submit(self, lane: str, action: Action, call: Callable[[], Outcome]) -> bool:
        """Queue a call; False when its lane is full (counted in ``dropped``)."""
        line = self._lanes.get(lane)
        if line is None:
            if len(self._lanes) >= MAX_LANES:
                self.dropped += 1
                return False
            line = self._lanes[lane] = queue.Queue(
                maxsize=PAGE_QUEUE if lane == PAGE_LANE else QUEUE
            )
            threading.Thread(
                target=self._work, args=(line,), name=f"worker {lane}"[:40], daemon=True
            ).start()
        try:
            line.put_nowait(call)
        except queue.Full:
            self.dropped += 1
            return False
        return True

    def _work(self, line: "queue.Queue[Callable[[], Outcome] | None]") -> None:
        while (call := line.get()) is not None:
            self._done.put(call())
            os.eventfd_write(self._wake, 1)

    def finished(self) -> Sequence[Outcome]:
        """Outcomes since the last call."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return ()
        found = []
        while True:
            try:
                found.append(self._done.get_nowait())
            except queue.Empty:
                return found

    def filenos(self) -> Sequence[int]:
        """Readable when an outcome waits."""
        return (self._wake,)

    def close(self) -> None:
        """Ask every lane to end after what it is doing; nobody waits for it."""
        for line in self._lanes.values():
            try:
                line.put_nowait(None)
            except queue.Full:
                self.dropped += 1
