"""A node's spool in memory: a thousand files on one disk would measure that disk and not the fleet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

EVENTS_MAX = 10_000


class HeapSpool:
    """Implements ``ports_fleet.Spool``; tells how long each event waited for its acknowledgement."""

    def __init__(self, log_id: str, now: Callable[[], float]) -> None:
        """``now``: real seconds, which waits are told in."""
        self.log_id = log_id
        self.dropped = 0
        self._now = now
        self._events: deque[tuple[int, bytes, float]] = deque()
        self._sequence = 0
        self._epoch = 0
        self._orders: set[str] = set()
        self.waits_s: list[float] = []

    def append(self, event: bytes) -> None:
        if len(self._events) >= EVENTS_MAX:
            self._events.popleft()
            self.dropped += 1
        self._sequence += 1
        self._events.append((self._sequence, event, self._now()))

    def flush(self) -> None:
        return

    def take(self, after: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        size = 0
        for sequence, payload, _ in self._events:
            if sequence <= after:
                continue
            size += len(payload)
            if len(found) >= count or (found and size > max_bytes):
                break
            found.append((sequence, payload))
        return found

    def acknowledge(self, upto: int) -> None:
        while self._events and self._events[0][0] <= upto:
            self.waits_s.append(self._now() - self._events.popleft()[2])

    def drop(self, sequence: int) -> bool:
        kept = deque(each for each in self._events if each[0] != sequence)
        was_here, self._events = len(kept) < len(self._events), kept
        return was_here

    @property
    def appended(self) -> int:
        return self._sequence

    @property
    def waiting(self) -> int:
        return len(self._events)

    def is_new_order(self, order: str) -> bool:
        if order in self._orders:
            return False
        self._orders.add(order)
        return True

    def epoch(self) -> int:
        return self._epoch

    def see_epoch(self, epoch: int) -> None:
        self._epoch = epoch
