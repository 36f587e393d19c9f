"""The seams of on-call: pages, ways to reach people, and what people say. Errors as in ``ports``."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from gpuwarden.config_oncall import OncallConfig
from gpuwarden.model.audit import Caller
from gpuwarden.model.decision import Incident
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Book, Delivery, Matcher, Notice, Page, Receipt, Silence


class Pager(Protocol):
    """On-call: takes pages, tells people, and tells what became of it."""

    def send(self, page: Page) -> None:
        """Returns once the page is safe on disk; the same page again is none. ``Unavailable``: it is not
        safe; ``Unsupported``: nobody is set to be told. Blocks for a disk at most."""
        ...

    def follow(
        self,
        incidents: Sequence[Incident],
        subjects: Mapping[IncidentId, str],
        *,
        is_all: bool = False,
    ) -> None:
        """Incidents as they now read, with what each is about where that is known; ``is_all``: no other
        is open. Never blocks."""
        ...

    def delivered(self) -> Sequence[Delivery]:
        """What became of messages since the last call; after a start, of those before it too."""
        ...


class Sink(Protocol):
    """One way to reach people."""

    def deliver(self, notice: Notice) -> Receipt:
        """Hand one message over; blocks up to its deadline. ``Unavailable``: not this time (it says
        after how long to try again, where it was told); ``Refused``: the receiver will not have it,
        and why; ``Unsupported``: it can never be sent from here. No text of any of them holds a secret.
        """
        ...


class Oncall(Protocol):
    """What people say to on-call. ``Refused`` says what is wrong with it; ``Unavailable``: not on disk."""

    def ack(self, wanted: str, caller: Caller, comment: str) -> Sequence[IncidentId]:
        """Somebody has an incident in hand (its id, the beginning of it, a storm, ``last``, ``all``)."""
        ...

    def silence(self, matcher: Matcher, caller: Caller, reason: str, for_s: float) -> Silence:
        """Nobody is woken by these for so long."""
        ...

    def expire(self, wanted: str, caller: Caller) -> Silence:
        """A silence ends now."""
        ...

    def silences(self) -> Sequence[Silence]:
        """Those that hold now."""
        ...

    def test(self, sink: str, caller: Caller) -> Receipt:
        """Send a message that says that messages arrive; raises what the sink raises."""
        ...


class Heartbeat(Protocol):
    """A dead man's switch: somebody outside who acts when it is told nothing for long."""

    def beat(self) -> None:
        """Blocks up to its deadline; errors as those of a sink."""
        ...


class BookLog(Protocol):
    """Where the book outlasts whoever uses it: implemented by ``sent_log``, and in the aggregator's store by
    ``store_log``."""

    failures: int

    @property
    def is_over(self) -> bool:
        """Whether somebody else tells people now: then nothing may be sent from here."""
        ...

    def read(self) -> Book: ...

    def save(self, before: Book, after: Book) -> None:
        """On disk when this returns; ``Unavailable`` when it is not."""
        ...

    def close(self) -> None: ...


class PageRelay(Protocol):
    """Who may tell people in this host's place: implemented by ``node.page_desk``."""

    node: str
    """What this host is called there: part of the key under which either of both tells of an incident."""

    def advance(self, cfg: OncallConfig, book: Book, wall: float) -> Book:
        """What is handed over, and what is taken back, as of now."""
        ...

    def is_waiting(self, book: Book) -> bool:
        """Whether a deadline runs."""
        ...
