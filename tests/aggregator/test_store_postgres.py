"""What is PostgreSQL's own: two aggregators on one database, and connections that are lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from gpuwarden.aggregator.store import Entry, first_broken
from gpuwarden.aggregator.store_postgres import PostgresStore
from gpuwarden.aggregator.store_postgres_schema import SCRIPTS
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.fleet import Permit, Told
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


def test_case_27_a_leader_that_was_stopped_in_a_grant_cannot_finish_it(url: str) -> None:
    stopped, other = PostgresStore(url), PostgresStore(url)
    with stopped.transaction():
        epoch = stopped.next_epoch()
    late = Permit(
        id="p",
        node="n1",
        boot_id="b",
        ask="a",
        kind="cordon",
        subject="node",
        group="g",
        granted_wall=WALL,
        epoch=epoch,
    )

    def lead() -> None:
        # Waits for the grant that has begun; the server ends that when nothing comes any more.
        with other.transaction():
            assert other.next_epoch() == epoch + 1

    def give() -> None:
        with stopped.transaction():
            stopped.fence(epoch)
            successor.start()
            successor.join(30)
            assert not successor.is_alive()
            stopped.grant([late])

    successor = threading.Thread(target=lead)
    with pytest.raises(Unavailable):
        give()
    with pytest.raises(Refused, match="another aggregator leads"), stopped.transaction():
        stopped.grant([late])
    assert other.ledger(WALL, 60) == []
    for store in (stopped, other):
        store.close()


def test_whoever_begins_an_epoch_sees_every_grant_of_the_one_before(url: str) -> None:
    leader, successor = PostgresStore(url), PostgresStore(url)
    with leader.transaction():
        epoch = leader.next_epoch()
    seen: list[str] = []

    def follow() -> None:
        with successor.transaction():
            successor.next_epoch()
        seen.extend(line.what for line in successor.audit_lines(0, 9))

    follower = threading.Thread(target=follow)
    with leader.transaction():
        leader.fence(epoch)
        follower.start()
        _until_it_waits(url, follower)
        leader.audit(WALL, "leader", "grant", "")
    follower.join(30)
    assert seen == ["grant"]
    for store in (leader, successor):
        store.close()


def _until_it_waits(url: str, thread: threading.Thread) -> None:
    """Until somebody waits for a lock, or has ended without."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
    query += "AND datname = current_database()"
    with psycopg.connect(url, autocommit=True) as db:
        while thread.is_alive() and db.execute(query).fetchone() == (0,):
            thread.join(0.02)


def test_who_bears_the_certificates_may_follow_another_while_both_are_trusted(url: str) -> None:
    def vouched(mark: str, *others: str) -> None:
        store = PostgresStore(url)
        try:
            with store.transaction():
                store.vouch(mark, others)
        finally:
            store.close()

    vouched("one")
    vouched("one", "two")  # prepared: the next is trusted already
    vouched("two", "one")  # switched
    vouched("one", "two")  # another aggregator that has not switched yet
    vouched("two", "one")
    vouched("two")  # finished
    with pytest.raises(Refused, match="another certificate authority"):
        vouched("one")
    with pytest.raises(Refused, match="another certificate authority"):
        vouched("three", "four")
