"""Halves of the label join in a store, in SQL that both databases speak: who leads next finds the predictions of those
labels that come later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

IDS_A_QUERY = 200
KEEP_S = 30 * 86_400.0
"""A label that comes later than so finds nothing."""
_PUT = (
    "INSERT INTO prediction VALUES (?,?,?,?) "
    "ON CONFLICT (service, id) DO UPDATE SET body=excluded.body, wall=excluded.wall"
)
_PRUNE = (
    "DELETE FROM prediction WHERE wall < ? OR wall < "
    "(SELECT wall FROM prediction ORDER BY wall DESC LIMIT 1 OFFSET ?)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPrediction:
    """What is known of one prediction so far, as ``label_book`` writes it."""

    service: str
    id: str
    body: bytes


class PredictionRows:
    """That part of ``Store``, for a store that says how a value is marked."""

    _mark: str
    _db: Any
    _rows: Callable[..., Any]

    def fence(self, epoch: int) -> None:
        raise NotImplementedError

    def put_predictions(
        self, kept: Sequence[KeptPrediction], wall: float, epoch: int | None = None
    ) -> None:
        """Within a transaction: each takes the place of what was known before. ``epoch``: of the leader who heard it;
        ``Refused`` where it is over."""
        if epoch is not None:
            self.fence(epoch)
        query = _PUT.replace("?", self._mark)
        for each in sorted(kept, key=lambda k: (k.service, k.id)):
            self._db.execute(query, (each.service, each.id, each.body, wall))

    def predictions(self, service: str, ids: Sequence[str]) -> list[KeptPrediction]:
        """Those of these that are kept; from any thread."""
        found: list[KeptPrediction] = []
        for place in range(0, len(ids), IDS_A_QUERY):
            some = tuple(ids[place : place + IDS_A_QUERY])
            marks = ",".join([self._mark] * len(some))
            query = f"SELECT service, id, body FROM prediction WHERE service={self._mark} AND id IN ({marks})"
            rows = self._rows(query, (service, *some))
            found += [KeptPrediction(service=s, id=i, body=bytes(body)) for s, i, body in rows]
        return found

    def prune_predictions(self, most: int, now_wall: float) -> None:
        """Let go of what is too old, and of the oldest beyond so many."""
        self._db.execute(_PRUNE.replace("?", self._mark), (now_wall - KEEP_S, most))
