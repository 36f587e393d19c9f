"""What the connection to the aggregator needs of the node, and of the disk."""

from collections.abc import Sequence
from typing import Protocol

from gpuwarden.model.fleet import Ask, Denial, Greeting, Order, Permit
from gpuwarden.model.policy import PolicyReport
from gpuwarden.model.status import View


class FleetDesk(Protocol):
    """The node's side of the fleet: implemented by ``node.fleet_desk``. Any thread."""

    def greeting(self, log_id: str, epoch: int) -> Greeting: ...

    def look(self, view: View) -> None:
        """The newest picture: what is wanted follows from it."""
        ...

    def asks(self) -> Sequence[Ask]: ...

    def linked(self, is_up: bool) -> None:
        """Whether the aggregator is heard."""
        ...

    def receive(
        self, permits: Sequence[Permit], denials: Sequence[Denial], *, is_required: bool
    ) -> None: ...

    def order(self, order: Order) -> None:
        """Have it obeyed; what became of it is among ``answered`` later."""
        ...

    def answered(self) -> Sequence[tuple[str, bool, str, str]]:
        """Since the last call: order, whether it was obeyed, what was said, the incident (may be empty)."""
        ...


class PageEar(Protocol):
    """Hears what becomes of pages that were handed over: implemented by ``node.page_desk``. Any thread."""

    def linked(self, is_up: bool) -> None: ...

    def heed(self, takes: bool, taken: Sequence[str], told: Sequence[str]) -> None: ...


class PolicyDesk(Protocol):
    """The fleet's policy on this node: implemented by ``adapters.policy_keeper``. Any thread."""

    def offer(self, bundle: bytes) -> None:
        """Have one looked at; never blocks."""
        ...

    def look(self) -> None:
        """Now and then: has what is in force run out?"""
        ...

    def report(self) -> PolicyReport: ...


class Spool(Protocol):
    """Events on disk until they are acknowledged: implemented by ``adapters.uplink_spool``. Any thread."""

    log_id: str
    dropped: int
    """How many were not kept, since the log began."""

    def append(self, event: bytes) -> None:
        """Keep one, numbered after the last; never blocks for long, never raises: what is lost is counted."""
        ...

    def flush(self) -> None:
        """Try again what could not be kept at once."""
        ...

    def take(self, after: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]: ...

    def drop(self, sequence: int) -> bool:
        """Let go of one event that is never taken; whether it was still here."""
        ...

    def acknowledge(self, upto: int) -> None: ...

    def is_new_order(self, order: str) -> bool:
        """Whether it was never seen before; from now on it was. On disk when this returns."""
        ...

    def epoch(self) -> int: ...

    def see_epoch(self, epoch: int) -> None: ...
