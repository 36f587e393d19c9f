"""Documents in every store there is: one revision after the other, whoever writes, and none lost."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.aggregator import copies, store_documents
from gpuwarden.aggregator.opening import open_store
from gpuwarden.aggregator.store import Store
from gpuwarden.aggregator.store_postgres import PostgresStore
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.aggregator.store_sqlite_schema import SCRIPTS
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.ports_evaluation import Document
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


def written(revision: int = 1, key: str = "chat", body: bytes = b"", **more: object) -> Document:
    values: dict[str, object] = {"kind": "rollout", "wall": WALL, "who": "alice", **more}
    return Document(key=key, revision=revision, body=body, **values)  # type: ignore[arg-type]


def put(store: Store, *documents: Document, epoch: int | None = None) -> None:
    for each in documents:
        with store.transaction():
            store.put_document(each, epoch)


def test_the_newest_counts_and_outlives_a_restart(reopen: Callable[[], Store]) -> None:
    store = reopen()
    put(store, written(1), written(2, body=b"\x00\xff\n\\."), written(1, key="Bert"))
    put(store, written(1, kind="shares"))
    store.close()
    again = reopen()
    assert again.document("rollout", "chat") == written(2, body=b"\x00\xff\n\\.")
    assert again.document("rollout", "none") is None
    assert [each.key for each in again.documents("rollout")] == ["Bert", "chat"]
    assert again.documents("none") == []
    assert [each.revision for each in again.document_history("rollout", "chat", 9)] == [2, 1]
    assert again.document_history("rollout", "chat", 1) == [again.document("rollout", "chat")]
    again.close()


@pytest.mark.parametrize("revision", [1, 2, 4])
def test_who_has_not_read_the_newest_is_refused(store: Store, revision: int) -> None:
    put(store, written(1, body=b"a"), written(2, body=b"b"))
    with pytest.raises(Refused, match="revision 2 is the newest"):
        put(store, written(revision, body=b"c"))
    assert [each.body for each in store.document_history("rollout", "chat", 9)] == [b"b", b"a"]


def test_what_follows_something_that_never_was_is_refused(store: Store) -> None:
    with pytest.raises(Refused, match="revision 0 is the newest"):
        put(store, written(2))
    assert store.documents("rollout") == []


def test_of_two_who_write_at_once_one_is_refused(reopen: Callable[[], Store]) -> None:
    first = reopen()
    stores = [first] if isinstance(first, SqliteStore) else [first, reopen()]
    done: list[int] = []
    refused: list[int] = []

    def write(store: Store) -> None:
        for _ in range(30):
            newest = store.document("rollout", "chat")
            after = newest.revision if newest else 0
            try:
                put(store, written(after + 1))
                done.append(after + 1)
            except Refused:
                refused.append(after + 1)

    threads = [threading.Thread(target=write, args=(each,)) for each in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = [each.revision for each in first.document_history("rollout", "chat", 99)]
    assert sorted(done) == sorted(kept) == list(range(1, len(kept) + 1))
    assert len(done) + len(refused) == 30 * len(stores)
    for store in stores:
        store.close()


def test_who_does_not_lead_any_more_writes_nothing(store: Store) -> None:
    with store.transaction():
        epoch = store.next_epoch()
    put(store, written(1), epoch=epoch)
    with store.transaction():
        store.next_epoch()
    with pytest.raises(Refused, match="is over"):
        put(store, written(2), epoch=epoch)
    newest = store.document("rollout", "chat")
    assert newest is not None
    assert newest.revision == 1


@pytest.mark.parametrize(
    "bad",
    [
        written(kind=""),
        written(key="k" * (store_documents.NAME_MAX_CHARS + 1)),
        written(who="a\0b"),
        written(body=b"x" * (store_documents.BODY_MAX_BYTES + 1)),
    ],
)
def test_what_cannot_be_kept_is_refused(store: Store, bad: Document) -> None:
    with pytest.raises(Refused):
        put(store, bad)
    with pytest.raises(Refused):
        put(store, replace(bad, revision=2))


def test_old_revisions_go_only_beyond_a_thousand(store: Store) -> None:
    with store.transaction():
        for number in range(1, store_documents.REVISIONS_KEPT + 4):
            store.put_document(written(number, wall=WALL + number))
        store.put_document(written(1, key="old", wall=0.0))
    with store.transaction():
        store.prune(WALL + 2.5)
    kept = store.document_history("rollout", "chat", 9999)
    assert (kept[0].revision, kept[-1].revision) == (store_documents.REVISIONS_KEPT + 3, 3)
    assert store.document("rollout", "old") is not None


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_copy_holds_them(tmp_path: Path, kind: str) -> None:
    if kind == "sqlite":
        _copied(cfg(tmp_path / "one"), cfg(tmp_path / "two"), tmp_path)
        return
    with database() as first, database() as second:
        _copied(cfg(tmp_path / "one", first), cfg(tmp_path / "two", second), tmp_path)


def cfg(folder: Path, store: str | None = None) -> AggregatorConfig:
    folder.mkdir()
    return AggregatorConfig.model_validate({"aggregator": {"state_dir": folder, "store": store}})


def _copied(one: AggregatorConfig, two: AggregatorConfig, folder: Path) -> None:
    store = open_store(one, {})
    put(store, written(1), written(2, body=bytes(range(256))))
    store.close()
    copies.backup(one, {}, folder / "copy")
    copies.restore(two, {}, folder / "copy", wall=WALL, who="root")
    again = open_store(two, {})
    assert again.document("rollout", "chat") == written(2, body=bytes(range(256)))
    assert len(again.document_history("rollout", "chat", 9)) == 2
    again.close()


def test_a_store_from_before_them_is_brought_up_to_date_and_one_from_after_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.sqlite"
    before = next(n for n, script in enumerate(SCRIPTS) if "TABLE document" in script)
    with sqlite3.connect(path) as db:
        db.executescript("".join(SCRIPTS[:before]) + f"PRAGMA user_version={before};")
    store = SqliteStore(path)
    put(store, written(1))
    store.close()
    assert (tmp_path / f"x.sqlite.schema-{before}").exists()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={len(SCRIPTS) + 1}")
    with pytest.raises(Unavailable, match="newer gpuwarden"):
        SqliteStore(path)


def test_what_has_no_past_worth_keeping_is_trimmed(reopen: Callable[[], Store]) -> None:
    store = reopen()
    put(store, *(written(n) for n in (1, 2, 3)), written(1, key="ocr"), written(1, kind="shares"))
    with store.transaction():
        store.trim_document("rollout", "chat", 3)
    store.close()
    again = reopen()
    assert again.document_history("rollout", "chat", 9) == [written(3)]
    put(again, written(4))
    with again.transaction():
        again.trim_document("rollout", "chat", None)
    assert [each.key for each in again.documents("rollout")] == ["ocr"]
    assert again.documents("shares") == [written(1, kind="shares")]
    put(again, written(1))
    again.close()
