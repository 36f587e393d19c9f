"""Simulated time: a clock that only moves when told, and what is due on it."""

import heapq
from collections.abc import Callable

EPOCH_WALL = 1_800_000_000.0
"""Wall time of simulated second 0 (January 2027)."""


class SimClock:
    """Implements ``Clock``. The wall may be set; monotonic time only goes on."""

    def __init__(self, start: float = 1_000.0) -> None:
        self._now = start
        self._wall_ahead = EPOCH_WALL
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall_ahead + self._now

    def sleep(self, seconds: float) -> None:
        raise RuntimeError("nobody sleeps on simulated time")

    def set_wall(self, by_s: float) -> None:
        """The wall clock is set forward or back."""
        self._wall_ahead += by_s

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call when so much time has gone by; calls of one moment in the order they were asked for."""
        self._serial += 1
        heapq.heappush(self._due, (self._now + max(0.0, delay_s), self._serial, call))

    def next_due(self) -> float | None:
        """When the next call is due."""
        return self._due[0][0] if self._due else None

    def advance(self, to: float) -> None:
        """Let time go on to ``to``, calling what falls due on the way, each at its own moment."""
        while self._due and self._due[0][0] <= to:
            at, _, call = heapq.heappop(self._due)
            self._now = max(self._now, at)
            call()
        self._now = max(self._now, to)
