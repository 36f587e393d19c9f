"""The leader's book of on-call, and what nodes hand over, in SQL that both databases speak."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpuwarden.aggregator.store import KeptPage
from gpuwarden.model.fleet import Told

_KEEP = "INSERT INTO oncall VALUES (?,?) ON CONFLICT (name) DO UPDATE SET line=excluded.line"
_HAND_OVER = (
    "INSERT INTO page VALUES (?,?,?,?,'') ON CONFLICT (node, id) DO UPDATE SET payload=excluded.payload, "
    "state=CASE WHEN page.state='over' THEN '' ELSE page.state END"
)
_PAGES = (
    "SELECT p.node, p.id, p.heard_wall, p.payload, p.state, i.payload FROM page p "
    "LEFT JOIN incident i ON i.node=p.node AND i.id=p.id WHERE p.state <> 'over' "
    "ORDER BY p.heard_wall, p.node, p.id LIMIT ?"
)


class OncallRows:
    """That part of ``Store``, for a store that says how a value is marked."""

    _mark: str
    _db: Any
    _rows: Callable[..., Any]

    def fence(self, epoch: int) -> None:
        raise NotImplementedError

    def _do(self, query: str, values: Sequence[Any]) -> None:
        self._db.execute(query.replace("?", self._mark), values)

    def keep_oncall(self, epoch: int, lines: Mapping[str, bytes], gone: Sequence[str]) -> None:
        self.fence(epoch)
        for name, line in lines.items():
            self._do(_KEEP, (name, line))
        for name in gone:
            self._do("DELETE FROM oncall WHERE name=?", (name,))

    def oncall_lines(self) -> dict[str, bytes]:
        return {name: bytes(line) for name, line in self._rows("SELECT name, line FROM oncall")}

    def hand_over(self, told: Sequence[tuple[str, Told]], wall: float) -> None:
        """A later word about the same incident takes the place of an earlier one."""
        for node, event in told:
            if event.kind == "page":
                self._do(_HAND_OVER, (node, event.key, wall, event.payload))

    def settle_pages(self, epoch: int, states: Mapping[tuple[str, str], str]) -> None:
        self.fence(epoch)
        for (node, name), state in states.items():
            self._do("UPDATE page SET state=? WHERE node=? AND id=?", (state, node, name))

    def certificates_end(self) -> dict[str, float]:
        query = "SELECT node, max(not_after_wall) FROM certificate GROUP BY node"
        return dict(self._rows(query))

    def pages(self, limit: int) -> list[KeptPage]:
        return [
            KeptPage(
                node=node,
                id=name,
                heard_wall=heard_wall,
                payload=bytes(payload),
                state=state,
                incident=None if incident is None else bytes(incident),
            )
            for node, name, heard_wall, payload, state, incident in self._rows(
                _PAGES.replace("?", self._mark), (limit,)
            )
        ]
