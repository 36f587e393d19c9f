"""The only place that knows what time it is, and the only one that waits."""

import time
from typing import Protocol


class Clock(Protocol):
    """Time as a port: tests pass a clock of their own."""

    def now(self) -> float:
        """Monotonic seconds since an arbitrary start; never goes back."""
        ...

    def wall(self) -> float:
        """Unix seconds; may jump either way."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; for workers and command-line tools, never in the loop."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: TID251  the one place that may
