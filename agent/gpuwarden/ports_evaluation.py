"""What judging services needs of the store: documents that survive, each with its history."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gpuwarden.model.evaluation import Verdict, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The newest of one document. ``revision`` counts from 1."""

    kind: str
    """Such as ``experiment``, ``rollout``, ``shares``, ``version``."""
    key: str
    revision: int
    wall: float
    who: str
    body: bytes
    """At most 256 KiB; a message of ``wire/v1``."""


class Documents(Protocol):
    """Implemented by the aggregator's stores. What ``put`` has returned from is on disk.

    Several aggregators on one database see the same documents; of two writers that read the same revision
    one is refused.
    """

    def get(self, kind: str, key: str) -> Document | None: ...

    def every(self, kind: str) -> Sequence[Document]:
        """All of a kind, by key."""
        ...

    def put(
        self, kind: str, key: str, body: bytes, *, who: str, wall: float, after: int
    ) -> Document:
        """Write the next revision. ``after``: the revision that was read, 0 where there was none; ``Refused``
        when another came between."""
        ...

    def history(self, kind: str, key: str, limit: int = 100) -> Sequence[Document]:
        """Newest first, the present one with it. Never changed, pruned by age only beyond 1,000 a document."""
        ...


class WindowDesk(Protocol):
    """Takes what is seen of services on a node: implemented by ``adapters.window_desk``. Any thread; never blocks
    for long, never raises."""

    def page(self, service: str, window: Window, verdict: Verdict | None) -> None:
        """What a service's page has told since the look before, and what its objective says; both of them in
        monotonic seconds."""
        ...

    def unread(self, service: str, why: str) -> None:
        """Its page could not be read."""
        ...


class WindowSource(Protocol):
    """Windows and verdicts on their way to the aggregator: implemented by ``adapters.window_spool``. Any thread."""

    def take(self, after: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """The next windows in order, as messages, each with its number."""
        ...

    def acknowledge(self, upto: int) -> None: ...

    def verdicts(self, after: int) -> tuple[int, Sequence[bytes]]:
        """All that stand, where one has changed since the number that the last call returned (0: since ever)."""
        ...


class ReviewSource(Protocol):
    """Predictions for people on their way to the aggregator: implemented by ``adapters.review_spool``. Any thread.
    ``batch`` and ``told`` are messages of ``wire/v1``."""

    def begin(self) -> None:
        """A new stream: nothing was sent on it."""
        ...

    def fill(self, batch: Any, max_bytes: int, now: float) -> int:
        """Put what fits into a message; how many bytes."""
        ...

    def acknowledge(self, upto: int) -> None: ...

    def heed(self, told: Iterable[Any], now: float) -> None:
        """More is asked for, for a while."""
        ...
