"""Policies in every store there is: in order, moved on by one at a time, and there after a restart."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpuwarden.aggregator.store import KeptPolicy, Store
from gpuwarden.aggregator.store_postgres import PostgresStore
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.aggregator.store_sqlite_schema import SCRIPTS
from gpuwarden.errors import Refused
from tests.aggregator.databases import database

WALL = 1_700_000_000.0


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens the same store each time it is called."""
    if request.param == "sqlite":
        yield lambda: SqliteStore(tmp_path / "x.sqlite")
        return
    with database() as url:
        yield lambda: PostgresStore(url)


def policy(version: int, bundle: bytes = b"bundle") -> KeptPolicy:
    return KeptPolicy(version=version, wall=WALL, who="alice", rollout="{}", bundle=bundle)


def add(store: Store, *policies: KeptPolicy) -> None:
    with store.transaction():
        for each in policies:
            store.add_policy(each)


def test_they_are_kept_newest_first_and_outlive_a_restart(reopen: Callable[[], Store]) -> None:
    store = reopen()
    add(store, policy(1), policy(2, b"\x00\xff"), policy(7))
    store.close()
    again = reopen()
    assert [p.version for p in again.policies(2)] == [7, 2]
    assert again.policies(1)[0] == KeptPolicy(version=7, wall=WALL, who="alice", rollout="{}")
    assert again.policy_bundle(2) == b"\x00\xff"
    assert again.policy_bundle(3) is None
    again.close()


@pytest.mark.parametrize("version", [7, 6])
def test_a_version_only_grows(reopen: Callable[[], Store], version: int) -> None:
    store = reopen()
    add(store, policy(7))
    with pytest.raises(Refused, match="not after 7"):
        add(store, policy(version))
    assert [p.version for p in store.policies(9)] == [7]
    store.close()


def test_of_two_who_move_a_roll_out_on_the_first_counts(reopen: Callable[[], Store]) -> None:
    store = reopen()
    add(store, policy(1))
    with store.transaction():
        assert store.move_policy(1, "first", 0)
        assert not store.move_policy(1, "second", 0)
        assert not store.move_policy(9, "x", 0)
    (kept,) = store.policies(9)
    assert (kept.rollout, kept.serial) == ("first", 1)
    store.close()


def test_a_store_from_before_policies_is_brought_up_to_date_with_a_copy_kept(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(f"{SCRIPTS[0]} PRAGMA user_version=1;")
        db.execute("INSERT INTO audit VALUES (1, 0, 'a', 'b', 'c', 'd')")
    store = SqliteStore(path)
    add(store, policy(1))
    assert store.audit_lines(0, 9)[0].who == "a"
    store.close()
    assert (tmp_path / "x.sqlite.schema-1").exists()
