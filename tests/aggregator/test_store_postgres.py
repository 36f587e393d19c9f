"""What is PostgreSQL's own: two aggregators on one database, and connections that are lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from gpuwarden.aggregator.store import Entry, first_broken
from gpuwarden.aggregator.store_postgres import PostgresStore
from gpuwarden.aggregator.store_postgres_schema import SCRIPTS
from gpuwarden.errors import Unavailable
from gpuwarden.model.fleet import Told
from tests.aggregator.databases import database

pytestmark = pytest.mark.postgres
WALL = 1_700_000_000.0


@pytest.fixture
def url() -> Iterator[str]:
    with database() as address:
        yield address


def entry(*sequences: int) -> Entry:
    events = tuple(
        Told(sequence=n, wall=WALL, kind="incident", key="inc-1", opened_wall=WALL, payload=b"x")
        for n in sequences
    )
    return Entry(node="n1", log_id="log", wall=WALL, events=events)


def test_two_aggregators_that_are_told_the_same_keep_it_once(url: str) -> None:
    stores = [PostgresStore(url) for _ in range(3)]
    failures: list[Exception] = []

    def tell(store: PostgresStore) -> None:
        try:
            for first in range(1, 40, 2):
                with store.transaction():
                    store.put([entry(first, first + 1)])
        except Exception as error:  # noqa: BLE001  the test that waits is told
            failures.append(error)

    threads = [threading.Thread(target=tell, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with psycopg.connect(url) as db:
        assert db.execute("SELECT count(*) FROM event").fetchone() == (40,)
        assert db.execute("SELECT changes FROM incident").fetchone() == (40,)
    for store in stores:
        store.close()


def test_the_audit_of_two_is_one_chain(url: str) -> None:
    stores = [PostgresStore(url) for _ in range(2)]

    def note(store: PostgresStore) -> None:
        for _ in range(20):
            with store.transaction():
                store.audit(WALL, "alice", "cordon", "n1")

    threads = [threading.Thread(target=note, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stores[0].audit_lines(0, 100)
    assert len(lines) == 40
    assert first_broken(lines) is None
    for store in stores:
        store.close()


def test_epochs_of_two_differ(url: str) -> None:
    first, second = PostgresStore(url), PostgresStore(url)
    seen = []
    for store in (first, second, first):
        with store.transaction():
            seen.append(store.next_epoch())
        store.close()
    assert seen == [1, 2, 3]


def test_a_connection_that_was_lost_is_made_anew(url: str) -> None:
    store = PostgresStore(url)
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
    kill += "AND datname = current_database()"
    store.incidents_open()
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(kill)
    with pytest.raises(Unavailable), store.transaction():
        store.put([entry(1)])
    assert store.incidents_open() == 0
    with store.transaction():
        assert store.put([entry(1)]) == {("n1", "log"): 1}
    assert store.incidents_open() == 1
    store.close()


def test_a_newer_schema_is_refused(url: str) -> None:
    PostgresStore(url).close()
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("INSERT INTO schema_version VALUES (%s)", (len(SCRIPTS) + 1,))
    with pytest.raises(Unavailable, match="newer gpuwarden"):
        PostgresStore(url)


def test_no_server_is_told_without_the_password() -> None:
    with pytest.raises(Unavailable) as caught:
        PostgresStore("postgresql://user:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in str(caught.value)
