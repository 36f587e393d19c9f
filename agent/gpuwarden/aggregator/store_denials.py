"""Nodes that are kept out, in a store: the statements, which are the same in each but for how a value is marked."""

from gpuwarden.aggregator.store_policies import Execute, Rows


def add(execute: Execute, mark: str, node: str, wall: float, who: str, reason: str) -> None:
    query = f"INSERT INTO denial VALUES ({', '.join([mark] * 4)}) ON CONFLICT (node) DO UPDATE SET "
    query += "wall=excluded.wall, who=excluded.who, reason=excluded.reason"
    execute(query, (node, wall, who, reason))


def drop(execute: Execute, mark: str, node: str) -> bool:
    """Whether it was there."""
    return bool(execute(f"DELETE FROM denial WHERE node={mark}", (node,)).rowcount)


def every(rows: Rows) -> dict[str, str]:
    """By node, why."""
    return {str(node): str(reason) for node, reason in rows("SELECT node, reason FROM denial", ())}
