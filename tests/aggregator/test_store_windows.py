"""Merged windows in every store there is: each as it was written last, read on from where one has come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpuwarden.aggregator.store import Store
from gpuwarden.aggregator.store_postgres import PostgresStore
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.aggregator.store_windows import KeptWindow
from gpuwarden.clock import SystemClock
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


@pytest.fixture
def store(reopen: Callable[[], Store]) -> Iterator[Store]:
    made = reopen()
    yield made
    made.close()


def row(holder: str = "a", begin: float = WALL, revision: int = 1, **more: object) -> KeptWindow:
    values: dict[str, object] = {"cohort": b"\x00chat", "length_s": 10.0, "body": b"1", **more}
    return KeptWindow(holder=holder, begin_wall=begin, revision=revision, **values)  # type: ignore[arg-type]


def put(store: Store, *rows: KeptWindow, epoch: int | None = None) -> None:
    with store.transaction():
        store.put_windows(rows, epoch)


def read(store: Store, after: float = 0.0, limit: int = 99, **more: object) -> list[KeptWindow]:
    values = {"begin_after": 0.0, "not_holder": "-", **more}
    return store.windows(touched_after=after, limit=limit, **values)  # type: ignore[arg-type]


def test_the_last_written_counts_and_outlives_a_restart(reopen: Callable[[], Store]) -> None:
    store = reopen()
    put(store, row(revision=2, body=b"two"))
    put(store, row(revision=1, body=b"late"), row("b"))
    store.close()
    again = reopen()
    assert sorted((w.holder, w.revision, w.body) for w in read(again)) == [
        ("a", 2, b"two"),
        ("b", 1, b"1"),
    ]
    assert read(again)[0].cohort == b"\x00chat"
    again.close()


def test_what_was_written_since_is_read_on(store: Store) -> None:
    for name in ("a", "b"):
        put(store, row(name))
        SystemClock().sleep(0.01)  # SQLite's clock tells milliseconds
    (first,) = read(store, limit=1)
    assert first.holder == "a"
    assert [w.holder for w in read(store, first.touched)] == ["b"]
    put(store, row("a", revision=2))
    assert [(w.holder, w.revision) for w in read(store, first.touched)] == [("b", 1), ("a", 2)]
    assert [w.holder for w in read(store, not_holder="b")] == ["a"]
    assert read(store, begin_after=WALL + 1) == []


def test_what_was_written_at_one_moment_is_not_torn_apart(store: Store) -> None:
    put(store, *(row(f"h{n:03d}") for n in range(300)))
    found: list[str] = []
    after = 0.0
    while some := read(store, after, limit=7):
        assert len(found) < 400
        found += [each.holder for each in some]
        after = some[-1].touched
    assert sorted(found) == [f"h{n:03d}" for n in range(300)]


def test_fine_and_coarse_ones_go_at_their_own_time(store: Store) -> None:
    put(store, row("a"), row("a", WALL + 10), row(""), row("", WALL + 10))
    with store.transaction():
        store.prune_windows(WALL + 10, WALL)
    assert sorted((w.holder, w.begin_wall - WALL) for w in read(store)) == [
        ("", 0.0),
        ("", 10.0),
        ("a", 10.0),
    ]


def test_who_does_not_lead_any_more_writes_nothing(store: Store) -> None:
    with store.transaction():
        epoch = store.next_epoch()
    put(store, row(""), epoch=epoch)
    with store.transaction():
        store.next_epoch()
    with pytest.raises(Refused, match="is over"):
        put(store, row("", WALL + 10), epoch=epoch)
    assert len(read(store)) == 1
