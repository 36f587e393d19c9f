"""The leader's book of on-call, and what nodes hand over, in SQL that both databases speak."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gpuwarden.aggregator.store import KeptPage
from gpuwarden.model.fleet import Told

OVER = "over"
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

Execute = Callable[[str, Sequence[Any]], Any]
Rows = Callable[[str, Sequence[Any]], Iterable[Sequence[Any]]]


def keep(execute: Execute, mark: str, lines: Mapping[str, bytes], gone: Sequence[str]) -> None:
    for name, line in lines.items():
        execute(_KEEP.replace("?", mark), (name, line))
    for name in gone:
        execute(f"DELETE FROM oncall WHERE name={mark}", (name,))


def lines(rows: Rows) -> dict[str, bytes]:
    return {name: bytes(line) for name, line in rows("SELECT name, line FROM oncall", ())}


def hand_over(
    execute: Execute, mark: str, told: Sequence[tuple[str, Told]], wall: float
) -> None:
    """A later word about the same incident takes the place of an earlier one."""
    for node, event in told:
        if event.kind == "page":
            execute(_HAND_OVER.replace("?", mark), (node, event.key, wall, event.payload))


def settle(execute: Execute, mark: str, states: Mapping[tuple[str, str], str]) -> None:
    for (node, name), state in states.items():
        execute(f"UPDATE page SET state={mark} WHERE node={mark} AND id={mark}", (state, node, name))


def pages(rows: Rows, mark: str, limit: int) -> list[KeptPage]:
    return [
        KeptPage(
            node=node,
            id=name,
            heard_wall=heard_wall,
            payload=bytes(payload),
            state=state,
            incident=None if incident is None else bytes(incident),
        )
        for node, name, heard_wall, payload, state, incident in rows(
            _PAGES.replace("?", mark), (limit,)
        )
    ]
