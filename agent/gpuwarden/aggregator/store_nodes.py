"""Nodes that are gone for good, in SQL that both databases speak."""

from collections.abc import Callable
from typing import Any


class NodeRows:
    """That part of ``Store``, for a store that says how a value is marked."""

    _mark: str
    _db: Any
    _rows: Callable[..., Any]
    _of_node: tuple[str, ...] = ("state", "log", "event", "page", "certificate")
    """Tables of all that is kept of a node by its name, but incidents, permits, orders and audit: those are history."""

    def forget(self, node: str, wall: float) -> bool:
        was_known = bool(self._run(f"DELETE FROM node WHERE node={self._mark}", node).rowcount)
        for table in self._of_node:
            self._run(f"DELETE FROM {table} WHERE node={self._mark}", node)
        # Nobody else will say that they are over.
        ended = f"closed_wall={self._mark} WHERE node={self._mark} AND closed_wall IS NULL"
        self._run(f"UPDATE incident SET {ended}", wall, node)
        return was_known

    def node_names(self) -> frozenset[str]:
        return frozenset(str(node) for (node,) in self._rows("SELECT node FROM node"))

    def _run(self, query: str, *values: object) -> Any:
        return self._db.execute(query, values)
