"""Merged windows of services in a store, in SQL that both databases speak.

A fine row is what one aggregator has of one cohort and span from the nodes it holds, and is written again while
more comes; a coarse one (``holder`` empty) is the whole fleet's, written once by whoever leads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

WINDOW_BODY_MAX_BYTES = 4 * 2**20
_PUT = (
    "INSERT INTO service_window VALUES (?,?,?,?,?,?,{now}) "
    "ON CONFLICT (holder, cohort, begin_wall, length_s) DO UPDATE SET "
    "revision=excluded.revision, body=excluded.body, touched=excluded.touched "
    "WHERE service_window.revision < excluded.revision"
)
_COLUMNS = "holder, cohort, begin_wall, length_s, revision, body, touched"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptWindow:
    """One row; ``cohort`` and ``body`` are messages of ``wire/v1``."""

    holder: str
    """Which life of which aggregator; empty: the whole fleet's."""
    cohort: bytes
    begin_wall: float
    length_s: float
    revision: int
    body: bytes
    touched: float = 0.0
    """By the store's clock; not what was put."""


class WindowRows:
    """That part of ``Store``, for a store that says how a value is marked and what its clock says."""

    _mark: str
    _now: str
    _db: Any
    _rows: Callable[..., Any]

    def fence(self, epoch: int) -> None:
        raise NotImplementedError

    def put_windows(self, windows: Sequence[KeptWindow], epoch: int | None = None) -> None:
        """Within a transaction: each takes the place of an earlier revision. ``epoch``: of the leader whose rows
        these are; ``Refused`` where it is over."""
        if epoch is not None:
            self.fence(epoch)
        query = self._marked(_PUT.format(now=self._now))
        for w in sorted(windows, key=lambda w: (w.holder, w.cohort, w.begin_wall, w.length_s)):
            values = (w.holder, w.cohort, w.begin_wall, w.length_s, w.revision, w.body)
            self._db.execute(query, values)

    def windows(
        self, *, touched_after: float, begin_after: float, not_holder: str, limit: int
    ) -> list[KeptWindow]:
        """Those of all others, the least lately written first: to be read on from the last one's ``touched``. More
        than ``limit`` where many were written at the same moment: those come together."""
        query = f"SELECT {_COLUMNS} FROM service_window WHERE begin_wall >= ? AND holder <> ? AND touched "
        values = (begin_after, not_holder)
        found = self._windows_of(
            f"{query} > ? ORDER BY touched LIMIT ?", *values, touched_after, limit
        )
        if len(found) < limit:
            return found
        last = found[-1].touched
        before = [each for each in found if each.touched < last]
        return [*before, *self._windows_of(f"{query} = ?", *values, last)]

    def _windows_of(self, query: str, *values: object) -> list[KeptWindow]:
        return [
            KeptWindow(
                holder=holder,
                cohort=bytes(cohort),
                begin_wall=begin,
                length_s=length,
                revision=revision,
                body=bytes(body),
                touched=touched,
            )
            for holder, cohort, begin, length, revision, body, touched in self._rows(
                self._marked(query), values
            )
        ]

    def prune_windows(self, fine_before: float, coarse_before: float) -> None:
        """Let go of fine rows that begin before one time, and of coarse ones before another."""
        for sign, before in (("<>", fine_before), ("=", coarse_before)):
            query = f"DELETE FROM service_window WHERE holder {sign} '' AND begin_wall < ?"
            self._db.execute(self._marked(query), (before,))

    def _marked(self, query: str) -> str:
        return query.replace("?", self._mark)
