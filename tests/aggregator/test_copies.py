"""Copies of the store: whole, or refused; and what a restored one must not go on with."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from gpuwarden.aggregator import copies, store_sqlite, store_sqlite_schema
from gpuwarden.aggregator.opening import open_store
from gpuwarden.aggregator.store import EPOCHS_PER_RESTORE, Entry, Spent, Store, first_broken
from gpuwarden.aggregator.store_postgres import PostgresStore
from gpuwarden.aggregator.store_postgres_schema import SCRIPTS
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.cli import main
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.fleet import Greeting, Permit, Told
from tests.aggregator.centre import Centre
from tests.aggregator.databases import database

WALL = 1_700_000_000.0
GREETING = Greeting(node="n1", boot_id="b", log_id="log", domains=(("rack", "r\t1"),))
OLD_PERMIT = {"id": "p", "node": "n1", "boot_id": "b", "ask": "a", "kind": "cordon", "subject": "x"}
OLD_PERMIT["group"] = "g"
PAYLOAD = bytes(range(256)) + b"\n\\.\n\\N\t"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def cfgs(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[AggregatorConfig, AggregatorConfig]]:
    """One with a store that is to be copied, and one of the same kind that is empty."""
    if request.param == "sqlite":
        yield (cfg(tmp_path / "one"), cfg(tmp_path / "two"))
        return
    with database() as first, database() as second:
        yield cfg(tmp_path / "one", first), cfg(tmp_path / "two", second)


def cfg(folder: Path, store: str | None = None) -> AggregatorConfig:
    folder.mkdir(exist_ok=True)
    return AggregatorConfig.model_validate({"aggregator": {"state_dir": folder, "store": store}})


def filled(store: Store) -> int:
    """Something of everything; the epoch."""
    told = Told(sequence=7, wall=WALL, kind="incident", key="i", opened_wall=0.1, payload=PAYLOAD)
    with store.transaction():
        epoch = store.next_epoch()
        store.greet(GREETING, WALL)
        store.put([Entry(node="n1", log_id="log", wall=WALL, events=(told,))])
        store.grant([permit(epoch)])
        store.add_token("used", "digest", "n1", WALL + 60)
        store.add_token("open", "digest", "n2", WALL + 60)
        store.spend_token("used", "digest", "n1", WALL)
        store.audit(WALL, "alice", "invite", "line\nbreak")
    return epoch


def permit(epoch: int) -> Permit:
    values = {"boot_id": "b", "ask": "a", "kind": "cordon", "subject": "node", "group": "g"}
    return Permit(id="p", node="n1", granted_wall=WALL, epoch=epoch, **values)  # type: ignore[arg-type]


def test_a_restored_store_is_the_one_that_was_copied(
    cfgs: tuple[AggregatorConfig, AggregatorConfig], tmp_path: Path
) -> None:
    one, two = cfgs
    store = open_store(one, {})
    epoch = filled(store)
    counts = copies.backup(one, {}, tmp_path / "copy")  # while it is in use
    store.close()
    assert counts["node"] == counts["event"] == counts["permit"] == counts["audit"] == 1
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    assert copies.restore(two, {}, tmp_path / "copy", wall=WALL, who="root") == (counts, None)
    again = open_store(two, {})
    assert again.greetings() == [GREETING]
    (kept,) = again.incidents_named("n1", "i", 5)
    assert (kept.payload, kept.opened_wall) == (PAYLOAD, 0.1)
    assert [each.permit.id for each in again.ledger(WALL, 1e9)] == ["p"]
    lines = again.audit_lines(0, 9)
    assert [line.what for line in lines] == ["invite", "restore"]
    assert first_broken(lines) is None
    with again.transaction():
        assert again.greet(GREETING, WALL).upto == 7
        assert again.next_epoch() == epoch + EPOCHS_PER_RESTORE + 1
        # It may have been used since the copy was made.
        assert again.spend_token("open", "digest", "n2", WALL) is Spent.UNKNOWN
        assert again.spend_token("used", "digest", "n1", WALL) is Spent.AGAIN
    again.close()


def test_what_was_cut_short_or_changed_is_refused(
    cfgs: tuple[AggregatorConfig, AggregatorConfig], tmp_path: Path
) -> None:
    one, two = cfgs
    store = open_store(one, {})
    filled(store)
    store.close()
    copies.backup(one, {}, tmp_path / "copy")
    whole = (tmp_path / "copy").read_bytes()
    wrong = tmp_path / "wrong"
    for data in (b"", b"nonsense", whole[: len(whole) // 2], gzip.compress(b'{"rows": {}}\n')):
        wrong.write_bytes(data)
        with pytest.raises(Refused):
            copies.restore(two, {}, wrong, wall=WALL, who="root")
    with pytest.raises(Refused):
        copies.restore(two, {}, tmp_path / "absent", wall=WALL, who="root")
    again = open_store(two, {})
    assert again.greetings() == []
    again.close()


def test_a_copy_overwrites_nothing_and_none_is_left_half_done(
    cfgs: tuple[AggregatorConfig, AggregatorConfig], tmp_path: Path
) -> None:
    one, _ = cfgs
    open_store(one, {}).close()
    (tmp_path / "copy").write_text("mine")
    with pytest.raises(Unavailable, match="is there already"):
        copies.backup(one, {}, tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "mine"
    with pytest.raises(Unavailable):
        copies.backup(one, {}, tmp_path / "no" / "folder")
    assert not list(tmp_path.glob("*.part"))


def test_nothing_is_restored_under_a_running_aggregator(
    cfgs: tuple[AggregatorConfig, AggregatorConfig], tmp_path: Path
) -> None:
    one, two = cfgs
    store = open_store(one, {})
    filled(store)
    store.close()
    copies.backup(one, {}, tmp_path / "copy")
    centre = two.aggregator
    with (
        Centre(centre.state_dir, aggregator={"store": centre.store}),
        pytest.raises((Refused, Unavailable), match="an aggregator runs on"),
    ):
        copies.restore(two, {}, tmp_path / "copy", wall=WALL, who="root")


def test_of_two_aggregators_on_one_file_the_second_does_not_start(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "x")
    with pytest.raises(Unavailable, match="runs on it already"):
        SqliteStore(tmp_path / "x")
    store.close()
    SqliteStore(tmp_path / "x").close()


def test_what_was_there_before_is_kept(tmp_path: Path) -> None:
    one = cfg(tmp_path / "one")
    store = open_store(one, {})
    filled(store)
    store.close()
    copies.backup(one, {}, tmp_path / "copy")
    _, before = copies.restore(one, {}, tmp_path / "copy", wall=WALL, who="root")
    assert before is not None
    with closing(sqlite3.connect(before)) as db:
        assert db.execute("SELECT count(*) FROM audit").fetchone() == (1,)
    store = open_store(one, {})
    assert len(store.audit_lines(0, 9)) == 2
    store.close()


@pytest.mark.root
def test_what_root_restores_is_the_aggregators_users(tmp_path: Path) -> None:
    """Under systemd it has a user of its own, and root restores."""
    one = cfg(tmp_path / "one")
    store = open_store(one, {})
    filled(store)
    store.close()
    copies.backup(one, {}, tmp_path / "copy")
    folder = one.aggregator.state_dir
    for each in folder.iterdir():
        each.unlink()
    os.chown(folder, 12345, 12346)
    copies.restore(one, {}, tmp_path / "copy", wall=WALL, who="root")
    owners = {each.name: (each.stat().st_uid, each.stat().st_gid) for each in folder.iterdir()}
    assert owners
    assert set(owners.values()) == {(12345, 12346)}, owners


@pytest.mark.postgres
def test_a_database_that_holds_a_fleet_is_left_alone(tmp_path: Path) -> None:
    with database() as url:
        one = cfg(tmp_path, url)
        store = open_store(one, {})
        filled(store)
        store.close()
        copies.backup(one, {}, tmp_path / "copy")
        with pytest.raises(Refused, match="holds a fleet already"):
            copies.restore(one, {}, tmp_path / "copy", wall=WALL, who="root")


@pytest.mark.postgres
def test_a_copy_of_a_newer_gpuwarden_is_refused_and_one_of_an_older_is_brought_up_to_date(
    tmp_path: Path,
) -> None:
    with database() as old, database() as new:
        _first_schema(old)
        PostgresStore(old, copies=tmp_path).close()
        (kept,) = tmp_path.glob("postgresql.schema-1.gz")
        store = PostgresStore(new)
        assert store.restore(kept, WALL, "root")["node"] == 1
        assert [each.node for each in store.greetings()] == ["n1"]
        with store.transaction():
            assert store.next_epoch() == 3 + EPOCHS_PER_RESTORE + 1
        store.close()
        text = gzip.decompress(kept.read_bytes()).replace(b'"schema": 1', b'"schema": 9')
        kept.write_bytes(gzip.compress(text))
        with database() as other:
            store = PostgresStore(other)
            with pytest.raises(Refused, match="digest differs"):
                store.restore(kept, WALL, "root")
            store.close()


def _first_schema(url: str) -> None:
    """A database as the first schema had it, with something in it."""
    with psycopg.connect(url) as db:
        db.execute("CREATE TABLE schema_version (version INT NOT NULL)")
        db.execute(SCRIPTS[0])
        db.execute("INSERT INTO schema_version VALUES (1)")
        db.execute("INSERT INTO epoch (value) VALUES (3)")
        greeting = '{"node": "n1", "boot_id": "b", "log_id": "log", "domains": []}'
        db.execute("INSERT INTO node VALUES ('n1', %s, 0)", (greeting,))
        db.execute(
            "INSERT INTO permit VALUES ('p', 'n1', extract(epoch FROM now()) - 600, %s)",
            (json.dumps({**OLD_PERMIT, "granted_wall": 1.0, "epoch": 3}),),
        )


def test_an_older_file_is_brought_up_to_date_and_a_copy_of_it_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "x")
    filled(store)
    store.close()
    later = (*store_sqlite_schema.SCRIPTS, "CREATE TABLE more (x);")
    monkeypatch.setattr(store_sqlite, "SCRIPTS", later)
    SqliteStore(tmp_path / "x").close()
    with closing(sqlite3.connect(tmp_path / f"x.schema-{len(later) - 1}")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(later) - 1,)
        assert db.execute("SELECT count(*) FROM audit").fetchone() == (1,)
    monkeypatch.undo()
    with pytest.raises(Unavailable, match="newer gpuwarden"):
        SqliteStore(tmp_path / "x")  # and there is no way back but that copy


@pytest.mark.postgres
def test_an_older_schema_is_brought_up_to_date_and_its_permits_still_count(tmp_path: Path) -> None:
    with database() as url:
        _first_schema(url)
        store = PostgresStore(url, copies=tmp_path)
        (kept,) = store.ledger(WALL, 3600)
        assert 590 < kept.age_s < 700
        assert kept.left_s <= 0
        with store.transaction():
            assert store.next_epoch() == 4
        store.close()
        PostgresStore(url, copies=tmp_path).close()  # and no second copy
        assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.postgres
def test_without_room_for_the_copy_nothing_is_changed(tmp_path: Path) -> None:
    with database() as url:
        _first_schema(url)
        with pytest.raises(Unavailable, match="absent"):
            PostgresStore(url, copies=tmp_path / "absent")
        with psycopg.connect(url) as db:
            assert db.execute("SELECT max(version) FROM schema_version").fetchone() == (1,)


def test_the_verbs(tmp_path: Path) -> None:
    config = tmp_path / "aggregator.toml"
    config.write_text(f'[aggregator]\nstate_dir = "{tmp_path / "state"}"\n')
    store = SqliteStore(tmp_path / "state" / "fleet.sqlite")
    filled(store)
    store.close()
    copy, run = str(tmp_path / "copy"), CliRunner()
    done = run.invoke(main, ["aggregator", "backup", "-c", str(config), copy])
    assert done.exit_code == 0, done.output
    assert "1 nodes, 1 events, 1 incidents, 1 audit lines" in done.output
    assert "pki" in done.output
    done = run.invoke(main, ["aggregator", "-c", str(config), "backup", copy])
    assert done.exit_code != 0
    assert "is there already" in done.output
    done = run.invoke(main, ["aggregator", "restore", "-c", str(config), copy])
    assert done.exit_code == 0, done.output
    assert "before-restore" in done.output
