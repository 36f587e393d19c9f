"""Predictions that wait for people, and what people said of them, in SQL that both databases speak.

Within a bound of bytes: over it, first goes what is decided, the oldest first; then of the service and segment with the
most bytes what ranks lowest. A flood in one segment costs that segment and not the rare ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

WAITING, DECIDED = "waiting", "decided"
SUM_EVERY = 100
"""Messages; other aggregators add to the same table."""
_PUT = "INSERT INTO review VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"
_COLUMNS = "service, id, segment, weight, wall, size, state, gold, body"
_TOTAL = "SELECT coalesce(sum(size), 0) FROM review"
_LARGEST = (
    "SELECT service, segment FROM review WHERE state='waiting' GROUP BY service, segment "
    "ORDER BY sum(size) DESC, service, segment LIMIT 1"
)
_LOWEST = (
    "SELECT service, id, size FROM review WHERE state='waiting' AND service=? AND segment=? "
    "ORDER BY weight, id LIMIT 64"
)
_OLDEST = (
    "SELECT service, id, size FROM review WHERE state='decided' ORDER BY wall, service, id LIMIT 64"
)
_PAGE = (
    f"SELECT {_COLUMNS} FROM review WHERE service=? AND state='waiting' "
    "AND (weight < ? OR (weight = ? AND id > ?)) {segment} ORDER BY weight DESC, id LIMIT ?"
)
_LABEL = "INSERT INTO review_label VALUES (?,?,?,?,?) ON CONFLICT DO NOTHING"
_DECIDE = "UPDATE review SET state='decided', gold=? WHERE service=? AND id=? AND state='waiting'"
_GOLD = "UPDATE review SET gold=? WHERE service=? AND id=? AND state='decided'"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReview:
    """One prediction. ``body`` is a line of JSON (``evaluate.quality.review``)."""

    service: str
    id: str
    segment: str
    weight: float
    wall: float
    body: bytes
    state: str = WAITING
    gold: str = ""
    """What at least two people said of it, and nobody otherwise; empty: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLabel:
    """One person's word on one prediction."""

    service: str
    id: str
    reviewer: str
    label: str
    wall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What people made of one prediction: it waits for nobody any more."""

    service: str
    id: str
    gold: str = ""


class ReviewRows:
    """That part of ``Store``, for a store that says how a value is marked."""

    _mark: str
    _db: Any
    _rows: Callable[..., Any]
    _review_bytes = 0
    _review_puts = SUM_EVERY

    def put_reviews(self, reviews: Sequence[KeptReview], bytes_max: int) -> int:
        """Within a transaction: one that is there stays as it is. How many were given up for want of room."""
        for r in sorted(reviews, key=lambda r: (r.service, r.id)):
            values = (r.service, r.id, r.segment, r.weight, r.wall, len(r.body), r.state, r.gold)
            self._change_reviews(_PUT, *values, r.body)
        if not self._is_sum_due(sum(len(r.body) for r in reviews), bytes_max):
            return 0
        total, dropped = int(self._change_reviews(_TOTAL).fetchone()[0]), 0
        self._review_puts = 0
        while total > bytes_max:
            rows = self._change_reviews(_OLDEST).fetchall()
            is_lost = not rows
            if is_lost:
                service, segment = self._change_reviews(_LARGEST).fetchone()
                rows = self._change_reviews(_LOWEST, service, segment).fetchall()
            for service, name, size in rows:
                if total <= bytes_max:
                    break
                self._forget(service, name)
                total -= size
                dropped += is_lost
        self._review_bytes = total
        return dropped

    def _is_sum_due(self, fresh: int, bytes_max: int) -> bool:
        """The sum of all is not asked for with every message: what is added is known here, and others' at times."""
        self._review_bytes += fresh
        self._review_puts += 1
        return self._review_bytes > bytes_max or self._review_puts >= SUM_EVERY

    def _forget(self, service: str, name: str) -> None:
        self._change_reviews("DELETE FROM review WHERE service=? AND id=?", service, name)
        self._change_reviews("DELETE FROM review_label WHERE service=? AND id=?", service, name)

    def review_page(
        self, service: str, segment: str | None, after: tuple[float, str], limit: int
    ) -> list[KeptReview]:
        """Those that wait, the highest rank first, after one of this rank and id."""
        weight, name = after
        query = _PAGE.format(segment="" if segment is None else "AND segment=?")
        more = () if segment is None else (segment,)
        return self._reviews(query, service, weight, weight, name, *more, limit)

    def reviews_named(self, service: str, ids: Sequence[str]) -> list[KeptReview]:
        """Those of these ids that are known, whatever became of them."""
        found = []
        for each in ids:
            query = f"SELECT {_COLUMNS} FROM review WHERE service=? AND id=?"
            found += self._reviews(query, service, each)
        return found

    def review_labels(self, service: str, ids: Sequence[str]) -> list[KeptLabel]:
        """What people have said of these, the first word first."""
        query = (
            "SELECT service, id, reviewer, label, wall FROM review_label WHERE service=? AND id=? "
            "ORDER BY wall, reviewer"
        )
        return [
            KeptLabel(service=whose, id=name, reviewer=reviewer, label=label, wall=wall)
            for each in ids
            for whose, name, reviewer, label, wall in self._review_rows(query, service, each)
        ]

    def keep_reviews(
        self, labels: Sequence[KeptLabel], decisions: Sequence[Decision]
    ) -> set[tuple[str, str]]:
        """Within a transaction: the first word of a person stands. Those that were decided by this very call, each
        once, whoever else decides at the same time."""
        for each in labels:
            self._change_reviews(
                _LABEL, each.service, each.id, each.reviewer, each.label, each.wall
            )
        fresh = set()
        for made in decisions:
            if self._change_reviews(_DECIDE, made.gold, made.service, made.id).rowcount == 1:
                fresh.add((made.service, made.id))
            else:
                self._change_reviews(_GOLD, made.gold, made.service, made.id)
        return fresh

    def review_sizes(self, service: str) -> tuple[int, int]:
        """How many of a service wait, in how many bytes."""
        query = "SELECT count(*), coalesce(sum(size), 0) FROM review WHERE service=? AND state='waiting'"
        count, size = self._review_rows(query, service)[0]
        return int(count), int(size)

    def prune_reviews(self, before_wall: float) -> None:
        """Let go of what was predicted before, and of what was said of it."""
        self._change_reviews("DELETE FROM review WHERE wall < ?", before_wall)
        self._change_reviews(
            "DELETE FROM review_label WHERE NOT EXISTS (SELECT 1 FROM review r "
            "WHERE r.service=review_label.service AND r.id=review_label.id)"
        )

    def _reviews(self, query: str, *values: object) -> list[KeptReview]:
        return [
            KeptReview(
                service=service,
                id=name,
                segment=segment,
                weight=weight,
                wall=wall,
                body=bytes(body),
                state=state,
                gold=gold,
            )
            for service, name, segment, weight, wall, _, state, gold, body in self._review_rows(
                query, *values
            )
        ]

    def _change_reviews(self, query: str, *values: object) -> Any:
        return self._db.execute(query.replace("?", self._mark), values)

    def _review_rows(self, query: str, *values: object) -> Any:
        return self._rows(query.replace("?", self._mark), values)
