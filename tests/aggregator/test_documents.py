"""Documents as rules of the aggregator use them: written through the committer, fenced where only a leader may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.documents import StoreDocuments
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.ports_evaluation import Documents

WALL = 1_700_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "x.sqlite")
    yield made
    made.close()


@pytest.fixture
def committer(store: SqliteStore) -> Iterator[Committer]:
    made = Committer(
        store,
        SystemClock(),
        linger_s=0.01,
        queue_max=100,
        on_committed=lambda entries: None,
        on_failed=lambda entries, why: None,
    )
    made.start()
    yield made
    made.stop()


def test_what_was_put_is_there_and_follows_what_was_read(
    store: SqliteStore, committer: Committer
) -> None:
    documents: Documents = StoreDocuments(store, committer)
    first = documents.put("shares", "chat", b"{}", who="alice", wall=WALL, after=0)
    second = documents.put("shares", "chat", b"[]", who="bob", wall=WALL + 1, after=first.revision)
    assert documents.get("shares", "chat") == second
    assert list(documents.every("shares")) == [second]
    assert list(documents.history("shares", "chat")) == [second, first]
    assert list(documents.history("shares", "chat", 0)) == [second]
    with pytest.raises(Refused, match="read it again"):
        documents.put("shares", "chat", b"", who="carol", wall=WALL, after=first.revision)


def test_only_the_leader_writes_what_is_fenced(store: SqliteStore, committer: Committer) -> None:
    epochs: list[int | None] = [None]
    documents: Documents = StoreDocuments(store, committer, lambda: epochs[-1])
    with pytest.raises(Refused, match="another aggregator leads"):
        documents.put("shares", "chat", b"", who="a", wall=WALL, after=0)
    epochs.append(committer.do(lambda each: each.next_epoch()).result(5))
    documents.put("shares", "chat", b"", who="a", wall=WALL, after=0)
    committer.do(lambda each: each.next_epoch()).result(5)
    with pytest.raises(Refused, match="is over"):
        documents.put("shares", "chat", b"", who="a", wall=WALL, after=1)


def test_a_store_that_takes_nothing_is_told(store: SqliteStore, committer: Committer) -> None:
    documents: Documents = StoreDocuments(store, committer)
    committer.stop()
    with pytest.raises(Unavailable):
        documents.put("shares", "chat", b"", who="a", wall=WALL, after=0)
    assert documents.get("shares", "chat") is None
