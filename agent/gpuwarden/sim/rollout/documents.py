"""Documents in memory, with the rules of the aggregator's stores."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from gpuwarden.errors import Refused
from gpuwarden.ports_evaluation import Document


class MemoryDocuments:
    """Implements ``Documents``; outlives the aggregators that are played on it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], list[Document]] = {}

    def get(self, kind: str, key: str) -> Document | None:
        with self._lock:
            known = self._kept.get((kind, key))
            return known[-1] if known else None

    def every(self, kind: str) -> Sequence[Document]:
        with self._lock:
            return [page[-1] for (k, _), page in sorted(self._kept.items()) if k == kind]

    def put(
        self, kind: str, key: str, body: bytes, *, who: str, wall: float, after: int
    ) -> Document:
        with self._lock:
            page = self._kept.setdefault((kind, key), [])
            if len(page) != after:
                raise Refused(f"{kind} {key}: revision {after} was read, it is {len(page)} now")
            made = Document(
                kind=kind, key=key, revision=after + 1, wall=wall, who=who, body=bytes(body)
            )
            page.append(made)
            return made

    def history(self, kind: str, key: str, limit: int = 100) -> Sequence[Document]:
        with self._lock:
            return list(reversed(self._kept.get((kind, key), [])))[:limit]
