"""Documents of the aggregator's store: read from any thread, written on the committer's."""

from collections.abc import Callable, Sequence

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.store import Store
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.ports_evaluation import Document

PUT_S = 5.0
HISTORY_MAX = 1000


class StoreDocuments:
    """Implements ``Documents``. It blocks while it writes: from the event loop, ``asyncio.to_thread``."""

    def __init__(
        self, store: Store, committer: Committer, epoch: Callable[[], int | None] | None = None
    ) -> None:
        """``epoch``: for what only the leader may write, the epoch that this aggregator leads in (None: it does
        not lead); left out: anybody may."""
        self._store = store
        self._committer = committer
        self._epoch = epoch

    def get(self, kind: str, key: str) -> Document | None:
        return self._store.document(kind, key)

    def every(self, kind: str) -> Sequence[Document]:
        return self._store.documents(kind)

    def put(
        self, kind: str, key: str, body: bytes, *, who: str, wall: float, after: int
    ) -> Document:
        """Also ``Unavailable``: then it may or may not have been kept, and is to be read again."""
        epoch = None
        if self._epoch is not None:
            epoch = self._epoch()
            if epoch is None:
                raise Refused(f"{kind} {key}: another aggregator leads, and it alone writes this")
        written = Document(
            kind=kind, key=key, revision=after + 1, wall=wall, who=who, body=bytes(body)
        )
        future = self._committer.do(lambda store: store.put_document(written, epoch))
        try:
            return future.result(PUT_S)
        except TimeoutError as error:
            future.cancel()
            raise Unavailable(f"{kind} {key}: the store is slow: nothing is known of it") from error

    def trim(self, kind: str, key: str, *, before: int | None) -> None:
        """Revisions below ``before`` go (None: all): for what is written often, and of which the newest counts."""
        future = self._committer.do(lambda store: store.trim_document(kind, key, before))
        try:
            future.result(PUT_S)
        except TimeoutError as error:
            future.cancel()
            raise Unavailable(f"{kind} {key}: the store is slow") from error

    def history(self, kind: str, key: str, limit: int = 100) -> Sequence[Document]:
        return self._store.document_history(kind, key, max(1, min(limit, HISTORY_MAX)))
