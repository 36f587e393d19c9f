"""When to try again: after a first wait, doubling from 1 s to 60 s, and from the start after a good run."""

NEXT_S, MOST_S = 1.0, 60.0
GOOD_RUN_S = 10.0


class Backoff:
    """One thing that is tried again and again."""

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self._wait_s = first_s
        self.due = 0.0
        self._began = 0.0

    def begin(self, now: float) -> None:
        """A try starts now."""
        self._began = now

    def fail(self, now: float) -> None:
        """It failed now: the next is due after the wait; a try that had held for long resets it."""
        if now - self._began > GOOD_RUN_S:
            self._wait_s = self._first_s
        self.due = now + self._wait_s
        self._wait_s = min(max(self._wait_s * 2, NEXT_S), MOST_S)

    def is_due(self, now: float) -> bool:
        return now >= self.due
