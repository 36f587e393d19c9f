"""Nodes that are kept out, in SQL that both databases speak."""

from collections.abc import Callable, Sequence
from typing import Any

_DENY = (
    "INSERT INTO denial VALUES (?,?,?,?) ON CONFLICT (node) DO UPDATE SET "
    "wall=excluded.wall, who=excluded.who, reason=excluded.reason"
)


class DenialRows:
    """That part of ``Store``, for a store that says how a value is marked."""

    _mark: str
    _db: Any
    _rows: Callable[..., Any]

    def deny(self, node: str, wall: float, who: str, reason: str) -> None:
        self._db.execute(_DENY.replace("?", self._mark), (node, wall, who, reason))

    def allow(self, node: str) -> bool:
        values: Sequence[Any] = (node,)
        return bool(
            self._db.execute(f"DELETE FROM denial WHERE node={self._mark}", values).rowcount
        )

    def denials(self) -> dict[str, str]:
        return dict(self._rows("SELECT node, reason FROM denial"))
