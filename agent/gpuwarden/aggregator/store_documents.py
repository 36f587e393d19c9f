"""Documents in a store, in SQL that both databases speak; a row is never changed, the newest revision counts."""

from collections.abc import Callable, Sequence
from typing import Any

from gpuwarden.errors import Refused
from gpuwarden.ports_evaluation import Document

BODY_MAX_BYTES = 256 * 1024
NAME_MAX_CHARS = 256
REVISIONS_KEPT = 1000
"""Of each document, however old; older ones go with what is pruned by age."""

_COLUMNS = "kind, key, revision, wall, who, body"
_NEWEST = (
    f"SELECT {_COLUMNS} FROM document d WHERE kind=? AND revision = "
    "(SELECT max(revision) FROM document o WHERE o.kind=d.kind AND o.key=d.key) "
)
_PRUNE = (
    "DELETE FROM document WHERE wall < ? AND revision <= (SELECT max(revision) FROM document o "
    f"WHERE o.kind=document.kind AND o.key=document.key) - {REVISIONS_KEPT}"
)


class DocumentRows:
    """That part of ``Store``, for a store that says how a value is marked."""

    _mark: str
    _db: Any
    _rows: Callable[..., Any]

    def fence(self, epoch: int) -> None:
        raise NotImplementedError

    def put_document(self, written: Document, epoch: int | None = None) -> Document:
        """Within a transaction: ``written.revision`` is kept, unless another came between (``Refused``), or
        ``epoch`` is given and over (``Refused``)."""
        _check(written)
        if epoch is not None:
            self.fence(epoch)
        row = self._execute(
            "SELECT max(revision) FROM document WHERE kind=? AND key=?", (written.kind, written.key)
        ).fetchone()
        newest = row[0] or 0
        if newest == written.revision - 1:
            w = written
            done = self._execute(
                "INSERT INTO document VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING",
                (w.kind, w.key, w.revision, w.wall, w.who, w.body),
            )
            if done.rowcount == 1:
                return written
            newest = written.revision
        raise Refused(
            f"{written.kind} {written.key}: revision {newest} is the newest, and what was written follows "
            f"{written.revision - 1}: read it again"
        )

    def document(self, kind: str, key: str) -> Document | None:
        found = self._found(_NEWEST + "AND key=?", (kind, key))
        return found[0] if found else None

    def documents(self, kind: str) -> list[Document]:
        """The newest of each, by key."""
        return sorted(self._found(_NEWEST, (kind,)), key=lambda each: each.key)

    def document_history(self, kind: str, key: str, limit: int) -> list[Document]:
        query = (
            f"SELECT {_COLUMNS} FROM document WHERE kind=? AND key=? ORDER BY revision DESC LIMIT ?"
        )
        return self._found(query, (kind, key, limit))

    def trim_document(self, kind: str, key: str, before: int | None) -> None:
        """Within a transaction: revisions below ``before`` go (None: all), of what has no past worth keeping."""
        if before is None:
            self._execute("DELETE FROM document WHERE kind=? AND key=?", (kind, key))
            return
        query = "DELETE FROM document WHERE kind=? AND key=? AND revision < ?"
        self._execute(query, (kind, key, before))

    def prune_documents(self, before_wall: float) -> None:
        self._execute(_PRUNE, (before_wall,))

    def _execute(self, query: str, values: Sequence[Any]) -> Any:
        return self._db.execute(query.replace("?", self._mark), values)

    def _found(self, query: str, values: Sequence[Any]) -> list[Document]:
        return [
            Document(kind=kind, key=key, revision=revision, wall=wall, who=who, body=bytes(body))
            for kind, key, revision, wall, who, body in self._rows(
                query.replace("?", self._mark), values
            )
        ]


def _check(written: Document) -> None:
    """``Refused`` unless it is one that can be kept."""
    for what, text in (("kind", written.kind), ("key", written.key), ("who", written.who)):
        if not text or len(text) > NAME_MAX_CHARS or "\0" in text:
            raise Refused(f"{what}: expected 1 to {NAME_MAX_CHARS} characters, none of them NUL")
    if len(written.body) > BODY_MAX_BYTES:
        raise Refused(
            f"{written.kind} {written.key}: {len(written.body)} bytes, at most {BODY_MAX_BYTES}"
        )
