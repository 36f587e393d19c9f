"""The one thread that writes: what came within a moment is committed together, and told when it is durable."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

from gpuwarden.aggregator.store import Entry, Store
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Unavailable
from gpuwarden.log import get_log

Result = TypeVar("Result")
GROUP_MAX = 500
"""Entries that are enough to begin with (reliability research 3.1: grouped, FULL costs no more than NORMAL)."""
ROWS_MAX = 125
"""Entries of one transaction: so long a deed waits at most, a permit above all (some 2 ms)."""
SLOW_S = 1.0
CALM_S = 1.0
"""What holds no event may wait so long: samples are acknowledged rarely, and of many of a node one row is written."""


class Mark(NamedTuple):
    """How far a stream's messages have come: told back when they are committed."""

    stream: int
    node: str
    events_upto: int
    samples_upto: int
    has_events: bool


Committed = Callable[[list[tuple[Entry, Mark]]], None]
Failed = Callable[[list[tuple[Entry, Mark]], str], None]


class Committer:
    """Start it, ``offer`` entries and ``do`` deeds from any thread; ``on_committed`` is called on its own."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        linger_s: float,
        queue_max: int,
        on_committed: Committed,
        on_failed: Failed,
    ) -> None:
        self._store = store
        self._clock = clock
        self._linger_s = linger_s
        self._queue_max = queue_max
        self._group = max(1, min(GROUP_MAX, queue_max // 2))
        """So many that wait are enough."""
        self._on_committed = on_committed
        self._on_failed = on_failed
        self._entries: deque[tuple[Entry, Mark]] = deque()
        self._deeds: deque[tuple[Callable[[Store], object], Future[object]]] = deque()
        self._urgent = 0
        """How many of the entries bring events."""
        self._wake = threading.Condition()
        self._is_stopping = False
        self._broken: set[int] = set()
        """Streams of which something was not kept: nothing later of them may be, or it would be taken for
        all before it."""
        self._thread = threading.Thread(target=self._run, name="gpuwarden-commit", daemon=True)
        self.commits = 0
        self.failures = 0
        self.slow = 0
        self.last_s = 0.0

    def start(self) -> None:
        self._thread.start()

    def offer(self, entry: Entry, mark: Mark) -> bool:
        """Have it committed; False while too many wait: then the stream has to wait, or to end where something
        before was not kept."""
        with self._wake:
            is_full = len(self._entries) >= self._queue_max
            if is_full or self._is_stopping or mark.stream in self._broken:
                return False
            self._entries.append((entry, mark))
            self._urgent += mark.has_events
            is_first_urgent = mark.has_events and self._urgent == 1
            if len(self._entries) in (1, self._group) or is_first_urgent:
                self._wake.notify()
            return True

    def forget(self, stream: int) -> None:
        """It has ended: nothing more of it is offered."""
        with self._wake:
            self._broken.discard(stream)

    @property
    def waiting(self) -> int:
        return len(self._entries)

    def do(self, deed: Callable[[Store], Result]) -> "Future[Result]":
        """Have something done in a transaction, with no linger; its result when that is durable."""
        future: Future[Result] = Future()
        with self._wake:
            if self._is_stopping or len(self._deeds) >= self._queue_max:
                future.set_exception(Unavailable("the store is busy or being closed"))
                return future
            self._deeds.append((deed, future))  # type: ignore[arg-type]  # each future with its own deed
            self._wake.notify()
        return future

    def stop(self, within_s: float = 10.0) -> None:
        """Commit what waits, then end."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        self._thread.join(within_s)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._entries or self._deeds or self._is_stopping)
                if self._entries:
                    self._linger()
                many = min(GROUP_MAX, len(self._entries))
                entries = [self._entries.popleft() for _ in range(many)]
                self._urgent -= sum(mark.has_events for _, mark in entries)
                if self._is_stopping and not entries and not self._deeds:
                    return
            self._do_waiting()
            while entries:
                entries = self._commit(entries)
                self._do_waiting()

    def _linger(self) -> None:
        """With the lock: wait for more to commit with what is there, not long where it brings events."""
        self._wake.wait_for(lambda: self._urgent or self._is_due(), CALM_S)
        if self._urgent:
            self._wake.wait_for(self._is_due, self._linger_s)

    def _is_due(self) -> bool:
        return bool(self._deeds) or self._is_stopping or len(self._entries) >= self._group

    def _do_waiting(self) -> None:
        """The deeds that wait now."""
        if not self._deeds:
            return
        with self._wake:
            waiting, self._deeds = self._deeds, deque()
        # What nobody waits for any more is not begun; what is begun cannot be given up.
        deeds = [each for each in waiting if each[1].set_running_or_notify_cancel()]
        if not self._do_together(deeds):
            for deed, future in deeds:
                self._do(deed, future)

    def _do_together(self, deeds: "list[tuple[Callable[[Store], object], Future[object]]]") -> bool:
        """Several in one transaction (many nodes come back at once); False when they have to be done one by
        one, for one of them failed and nothing of any is kept."""
        if len(deeds) < 2:
            return False
        try:
            with self._store.transaction():
                results = [deed(self._store) for deed, _ in deeds]
        except Exception:  # noqa: BLE001  the boundary: alone, each meets its own error
            return False
        self.commits += 1
        for (_, future), result in zip(deeds, results, strict=True):
            future.set_result(result)
        return True

    def _do(self, deed: Callable[[Store], object], future: "Future[object]") -> None:
        try:
            with self._store.transaction():
                result = deed(self._store)
        except GpuwardenError as error:
            self.failures += 1
            future.set_exception(error)
        except Exception as error:  # noqa: BLE001  the boundary: one bad deed ends one call
            self.failures += 1
            get_log().error("deed_failed", reason=repr(error))
            future.set_exception(Unavailable(f"internal error: {type(error).__name__}"))
        else:
            self.commits += 1
            future.set_result(result)

    def _commit(self, waiting: list[tuple[Entry, Mark]]) -> list[tuple[Entry, Mark]]:
        """The first of these in one transaction. Those that are left: without what comes after something that could
        not be kept."""
        begun = self._clock.now()
        entries, left = waiting[:ROWS_MAX], waiting[ROWS_MAX:]
        try:
            with self._store.transaction():
                self._store.put([entry for entry, _ in entries])
        except Exception as error:  # noqa: BLE001  the boundary: nothing is acknowledged, streams end
            self.failures += 1
            broken = {mark.stream for _, mark in entries}
            entries += [each for each in left if each[1].stream in broken]
            entries += self._break(broken)
            get_log().error("commit_failed", reason=str(error), entries=len(entries))
            self._on_failed(entries, str(error))
            return [each for each in left if each[1].stream not in broken]
        self.last_s = self._clock.now() - begun
        self.commits += 1
        self.slow += self.last_s > SLOW_S
        self._on_committed(entries)
        return left

    def _break(self, streams: set[int]) -> list[tuple[Entry, Mark]]:
        """Nothing more of these is committed; what of them waits."""
        with self._wake:
            self._broken |= streams
            waiting = list(self._entries)
            self._entries = deque(each for each in waiting if each[1].stream not in streams)
            self._urgent = sum(mark.has_events for _, mark in self._entries)
            return [each for each in waiting if each[1].stream in streams]
