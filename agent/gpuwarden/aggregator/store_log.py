"""The leader's book of on-call in the store: whoever leads next goes on from it.

What is about to be sent is in it before it is sent, and is fenced: who does not lead any more can write nothing,
and so sends nothing. A message whose sender died is sent again by the next leader, under the same id and key.
"""

from collections.abc import Callable

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.store import Store
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.log import get_log
from gpuwarden.model.oncall import Book
from gpuwarden.node.sent_log import SentRecord, applied, changes, decode, encode

SAVE_S = 5.0


class StoreLog:
    """Implements ``notifier.BookLog`` for one epoch."""

    def __init__(
        self, store: Store, committer: Committer, epoch: int, is_ours: Callable[[], bool]
    ) -> None:
        """``is_ours``: whether this epoch is still ours, as far as is known here."""
        self._store = store
        self._committer = committer
        self._epoch = epoch
        self._is_ours = is_ours
        self._names: set[str] = set()
        self._is_fenced = False
        self.gaps = 0
        self.failures = 0

    @property
    def is_over(self) -> bool:
        return self._is_fenced or not self._is_ours()

    def read(self) -> Book:
        """What the leaders before have left; ``Unavailable`` when the store does not answer."""
        lines, book = self._store.oncall_lines(), Book()
        for line in lines.values():
            record = decode(line)
            if record is None:
                self.gaps += 1
            else:
                book = applied(book, record)
        self._names = set(lines)
        return book

    def save(self, before: Book, after: Book) -> None:
        lines = {
            name: encode(record)
            for record in changes(before, after)
            if (name := _name(record)) is not None
        }
        gone = sorted(self._names - _names(after))
        if not lines and not gone:
            return
        epoch = self._epoch
        future = self._committer.do(lambda store: store.keep_oncall(epoch, lines, gone))
        try:
            future.result(SAVE_S)
        except Refused as error:
            self._is_fenced = True
            get_log().warning("oncall_fenced", epoch=epoch, reason=str(error))
            raise Unavailable(f"another aggregator tells people now: {error}") from error
        except (Unavailable, TimeoutError) as error:
            future.cancel()
            self.failures += 1
            raise Unavailable(
                f"the store does not take the sent-log: {str(error) or 'slow'}"
            ) from error
        self._names = (self._names | set(lines)) - set(gone)

    def close(self) -> None:
        return


def _name(record: SentRecord) -> str | None:
    """Under which a line stands, so that a newer one replaces it; None: it says only what is gone."""
    if record.entry is not None:
        return f"entry {record.entry.incident}"
    if record.silence is not None:
        return f"silence {record.silence.id}"
    if record.sink is not None:
        return f"sink {record.sink.name}"
    if record.flap is not None:
        return f"flap {record.flap[0]}"
    return None if record.gone else "head"


def _names(book: Book) -> set[str]:
    return {
        *(f"entry {name}" for name in book.entries),
        *(f"silence {name}" for name in book.silences),
        *(f"sink {name}" for name in book.sinks),
        *(f"flap {name}" for name in book.flaps),
        "head",
    }
