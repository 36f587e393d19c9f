"""Cases 6 and 7 of the faults of a fleet: a store that is full, read-only or gone. Nothing is acknowledged that is not
kept, what is known is still shown, and it goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psycopg
import pytest
from psycopg import sql

from gpuwarden.aggregator.store_postgres import PostgresStore
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.errors import Unavailable
from gpuwarden.wire.v1 import fleet_pb2 as pb
from tests.aggregator.centre import Centre, event, incident, sample
from tests.aggregator.databases import database
from tests.aggregator.pairs import asked, eventually, permit

Ill = Callable[[Centre, str], None]
FULL = """
    CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER full_disk BEFORE INSERT ON event EXECUTE FUNCTION full_disk();
    CREATE TRIGGER full_disk BEFORE INSERT ON permit EXECUTE FUNCTION full_disk();
"""
ROOM = "DROP TRIGGER full_disk ON event; DROP TRIGGER full_disk ON permit; DROP FUNCTION full_disk"


def sqlite(centre: Centre) -> SqliteStore:
    store = centre.parts.store
    assert isinstance(store, SqliteStore)
    return store


def pragma(centre: Centre, text: str) -> None:
    """On the connection that writes; the test sees to it that nothing is being written."""
    sqlite(centre)._db.execute(text).fetchall()


def run(url: str, text: str) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET default_transaction_read_only = off")
        db.execute(sql.SQL(text))


def read_only(url: str, value: str) -> None:
    """For every session there will be; those there are end."""
    name = url.partition("?")[0].rpartition("/")[2]
    run(url, f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
    run(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


ILLS: dict[str, tuple[Ill, Ill, str]] = {
    "sqlite full": (
        lambda centre, _: pragma(centre, "PRAGMA max_page_count=1"),
        lambda centre, _: pragma(centre, "PRAGMA max_page_count=1000000"),
        "database or disk is full",
    ),
    "sqlite read-only": (
        lambda centre, _: pragma(centre, "PRAGMA query_only=ON"),
        lambda centre, _: pragma(centre, "PRAGMA query_only=OFF"),
        "readonly",
    ),
    "postgres full": (
        lambda _, url: run(url, FULL),
        lambda _, url: run(url, ROOM),
        "free space on its disk",
    ),
    "postgres read-only": (
        lambda _, url: read_only(url, "on"),
        lambda _, url: read_only(url, "off"),
        "",
    ),
}


@contextmanager
def serving(kind: str, folder: Path) -> Iterator[tuple[Centre, str]]:
    if kind.startswith("sqlite"):
        with Centre(folder) as centre:
            yield centre, ""
        return
    with database() as url, Centre(folder, aggregator={"store": url}) as centre:
        yield centre, url


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=pytest.mark.postgres if k.startswith("postgres") else ()) for k in ILLS],
)
@pytest.mark.timeout(120)
def test_case_6_nothing_is_acknowledged_that_is_not_kept(kind: str, tmp_path: Path) -> None:
    fall_ill, get_well, why = ILLS[kind]
    with serving(kind, tmp_path) as (centre, url):
        line = centre.line("n1")
        line.batch(events=[event(1, incident("before"))], samples=[sample()])
        line.until_acked(1)
        fall_ill(centre, url)
        # Large enough that it does not fit into what is left of the last page.
        big = [event(n, incident(f"i{n}", summary="x" * 2000)) for n in range(2, 30)]
        line.batch(events=big)
        assert line.ended() is grpc.StatusCode.UNAVAILABLE
        assert line.events_upto == 1
        assert why in line.details
        query = centre.query()
        shown = query.Nodes(pb.NodesRequest(), timeout=5).nodes
        assert [each.node for each in shown] == ["n1"]
        query.Status(pb.StatusRequest(), timeout=5)
        get_well(centre, url)
        again = centre.line("n1")
        again.next()
        assert again.events_upto == 1
        again.batch(events=big)
        again.until_acked(29)
        incidents = query.FleetIncidents(pb.FleetIncidentsRequest()).incidents
        assert len(incidents) == 29
        again.close()


@pytest.mark.parametrize(
    "kind",
    [
        "sqlite read-only",
        pytest.param("postgres full", marks=pytest.mark.postgres),
    ],
)
@pytest.mark.timeout(120)
def test_case_6_no_permit_is_given_that_is_not_on_disk(kind: str, tmp_path: Path) -> None:
    fall_ill, get_well, _ = ILLS[kind]
    with serving(kind, tmp_path) as (centre, url):
        line = centre.line("n1")
        line.batch(samples=[sample()], events=[event(1)])
        line.until_acked(1)
        fall_ill(centre, url)
        asked(line, "a1")
        fleet = centre.parts.fleet
        for failures in (1, 2):  # asked again, what could not be kept is not what was given
            eventually(lambda n=failures: fleet.failures >= n, "the grant fails")  # type: ignore[misc]
            asked(line, "a1")
        get_well(centre, url)
        asked(line, "a1")
        given = permit(line)
        assert given.id in [kept.permit.id for kept in centre.parts.store.ledger(time.time(), 60)]
        line.close()


@pytest.mark.postgres
def test_what_is_wrong_with_a_database_is_said_with_what_to_do(tmp_path: Path) -> None:
    with database() as url:
        PostgresStore(url).close()
        read_only(url, "on")
        with pytest.raises(Unavailable, match="has to name the primary"):
            PostgresStore(url)
        name = url.partition("?")[0].rpartition("/")[2]
        with pytest.raises(Unavailable, match="does not exist"):
            PostgresStore(url.replace(name, "no_such_database"))
        with pytest.raises(Unavailable, match="PostgreSQL: "):
            PostgresStore("postgresql://somebody@127.0.0.1:1/fleet")
