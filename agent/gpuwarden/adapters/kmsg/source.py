"""What a source of kernel lines is to the one that follows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from gpuwarden.errors import Unavailable
from gpuwarden.model.kernel_record import KernelRecord, KernelTrust
from gpuwarden.model.snapshot import GapKind


class CannotRead(Unavailable):
    """A source that cannot be read now; ``kind`` says why in one word, the text says what to do."""

    def __init__(self, text: str, kind: GapKind = GapKind.UNAVAILABLE) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far a stream was read. ``stream`` names it: another one is read from its beginning."""

    source: str
    stream: str
    at: str
    """The number of the last record, an offset or a cursor."""


class Kept(NamedTuple):
    """A record that passed the sieve. ``at``: where reading goes on after it."""

    key: bytes
    record: KernelRecord
    at: str
    is_urgent: bool


class Reach(Enum):
    """What a read came to."""

    MORE = "more"
    """It stopped at its own bound."""
    EMPTY = "empty"
    """There is nothing more now."""
    OVER = "over"
    """The source has ended: open it again."""
    ASTRAY = "astray"
    """The place it was opened at is not there: open it again, without one."""


class Pull(NamedTuple):
    """One bounded read. ``number``: records read, kept or not."""

    kept: Sequence[Kept]
    number: int
    reach: Reach


class Source(Protocol):
    """One kernel log. Everything is called on one thread but ``close`` after it has ended."""

    name: str
    trust: KernelTrust

    def open(self, place: Place | None, *, is_backlog: bool) -> None:
        """Begin after ``place``, or where this kind of source begins; raises ``CannotRead``. Once only.
        ``is_backlog``: what is there already is older than the agent."""
        ...

    def filenos(self) -> Sequence[int]:
        """Descriptors that are readable when there is something to read."""
        ...

    def patience_s(self) -> float | None:
        """How long to wait for them at most; ``None``: they tell everything."""
        ...

    def read(self, now: float) -> Pull:
        """What is there, up to a bound; never waits. ``CannotRead`` when it cannot be read."""
        ...

    def place(self) -> Place | None:
        """Where reading goes on; ``None`` before anything is known."""
        ...

    def close(self) -> None:
        """Let go of everything; also of what was never opened."""
        ...
