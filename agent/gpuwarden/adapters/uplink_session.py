"""What one stream to the aggregator has sent, and what of it was acknowledged."""

import contextlib
from typing import Any

from gpuwarden.model.policy import PolicyReport


class Session:
    """One stream's account. Guarded by the uplink's lock."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sent = 0
        self.upto = 0
        self.window = 1
        self.is_acked = False
        self.is_over = False
        self.batched_at = 0.0
        self.samples_sent = 0
        self.windows_sent = 0
        self.verdicts_told = 0
        self.asked: frozenset[str] = frozenset()
        self.asked_at = float("-inf")
        self.told: PolicyReport | None = None
        """What the aggregator knows of this node's policy."""
        self.call: Any = None

    def acked(self, upto: int, window: int) -> None:
        if not self.is_acked:
            self.sent = upto
        self.is_acked = True
        self.upto, self.window = max(self.upto, upto), max(1, window)

    def room(self) -> int:
        """How many events may be sent before more are acknowledged."""
        return self.window - (self.sent - self.upto)

    def end(self) -> None:
        self.is_over = True
        if self.call is not None:
            with contextlib.suppress(Exception):
                self.call.cancel()
