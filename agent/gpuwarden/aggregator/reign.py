"""On-call of the aggregator that leads, for as long as it does: made anew with each epoch of ours, on the store's book."""

import threading
from collections.abc import Callable, Mapping, Sequence

from gpuwarden.clock import Clock
from gpuwarden.errors import Unavailable
from gpuwarden.model.decision import Incident
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Book, Delivery, Page
from gpuwarden.node.notifier import Notifier, Outfit
from gpuwarden.ports_oncall import BookLog


class Reign:
    """Implements ``ports_oncall.Pager``: ``Unavailable`` while another leads. ``begin`` and ``end`` are the
    fleet's thread's."""

    def __init__(
        self, outfit: Outfit, open_log: Callable[[int], BookLog], clock: Clock, host: str
    ) -> None:
        """``host``: what the whole fleet is called in messages, the same at every aggregator."""
        self._outfit = outfit
        self._open_log = open_log
        self._clock = clock
        self._host = host
        self._notifier: Notifier | None = None

    @property
    def notifier(self) -> Notifier | None:
        """None: another tells people."""
        return self._notifier

    @property
    def has_sinks(self) -> bool:
        return bool(self._outfit.sinks)

    def adopt(self, outfit: Outfit) -> None:
        """New settings and sinks, now and under every epoch of ours to come."""
        self._outfit = outfit
        if (notifier := self._notifier) is not None:
            notifier.adopt(outfit)

    def begin(self, epoch: int) -> Book:
        """Go on where the leader before has stopped; ``Unavailable``: that cannot be read."""
        self.end()
        notifier = Notifier(self._outfit, self._open_log(epoch), self._clock, self._host)
        notifier.start()
        self._notifier = notifier
        return notifier.book

    def end(self) -> None:
        """Nothing more is sent; what is under way is not waited for."""
        notifier, self._notifier = self._notifier, None
        if notifier is not None:
            threading.Thread(target=notifier.close, name="oncall-end", daemon=True).start()

    def close(self) -> None:
        """The aggregator stops: what is being sent is, or soon given up."""
        notifier, self._notifier = self._notifier, None
        if notifier is not None:
            notifier.close()

    def send(self, page: Page) -> None:
        self._now().send(page)

    def follow(
        self,
        incidents: Sequence[Incident],
        subjects: Mapping[IncidentId, str],
        *,
        is_all: bool = False,
    ) -> None:
        if self._notifier is not None:
            self._notifier.follow(incidents, subjects, is_all=is_all)

    def delivered(self) -> Sequence[Delivery]:
        return () if self._notifier is None else self._notifier.delivered()

    def _now(self) -> Notifier:
        if self._notifier is None:
            raise Unavailable("another aggregator tells people")
        return self._notifier
