"""Policies in a store: the statements, which are the same in each but for how a value is marked."""

from collections.abc import Callable, Sequence
from typing import Any

from gpuwarden.aggregator.store import KeptPolicy
from gpuwarden.errors import Refused

Execute = Callable[[str, Sequence[Any]], Any]
Rows = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]


def add(execute: Execute, mark: str, policy: KeptPolicy) -> None:
    """``Refused`` unless it is newer than every other."""
    query = f"SELECT max(version) FROM policy WHERE version >= {mark}"
    newest = execute(query, (policy.version,)).fetchone()[0]
    if newest is not None:
        raise Refused(f"version {policy.version} is not after {newest}, which was published")
    values = (policy.version, policy.wall, policy.who, policy.rollout, 0, policy.bundle)
    execute(f"INSERT INTO policy VALUES ({', '.join([mark] * 6)})", values)


def move(execute: Execute, mark: str, version: int, rollout: str, serial: int) -> bool:
    """Whether nobody else was first."""
    query = (
        f"UPDATE policy SET rollout={mark}, serial=serial+1 WHERE version={mark} AND serial={mark}"
    )
    return bool(execute(query, (rollout, version, serial)).rowcount)


def kept(rows: Rows, mark: str, limit: int) -> list[KeptPolicy]:
    query = "SELECT version, wall, who, rollout, serial FROM policy ORDER BY version DESC"
    found = rows(f"{query} LIMIT {mark}", (limit,))
    return [
        KeptPolicy(version=version, wall=wall, who=who, rollout=rollout, serial=serial)
        for version, wall, who, rollout, serial in found
    ]


def bundle(rows: Rows, mark: str, version: int) -> bytes | None:
    found = rows(f"SELECT bundle FROM policy WHERE version={mark}", (version,))
    return bytes(found[0][0]) if found else None
