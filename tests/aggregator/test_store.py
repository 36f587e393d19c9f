"""What every store promises; run on each that there is."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from gpuwarden.aggregator.committer import GROUP_MAX, Committer, Mark
from gpuwarden.aggregator.store import Entry, KeptOrder, Spent, Store
from gpuwarden.aggregator.store_postgres import PostgresStore
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.aggregator.store_sqlite_schema import SCRIPTS
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import Greeting, Permit, Report, Told
from tests.aggregator.databases import database

WALL = 1_700_000_000.0
FIRST = (1e12, "\U0010ffff", "\U0010ffff")


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


def told(sequence: int, key: str = "inc-1", *, opened: float = WALL, **more: object) -> Told:
    values: dict[str, object] = {"kind": "incident", "payload": b"%d" % sequence, **more}
    return Told(sequence=sequence, wall=WALL, key=key, opened_wall=opened, **values)  # type: ignore[arg-type]


def entry(*events: Told, node: str = "n1", log_id: str = "log", **more: object) -> Entry:
    return Entry(node=node, log_id=log_id, wall=WALL, events=events, **more)  # type: ignore[arg-type]


def put(store: Store, *entries: Entry) -> dict[tuple[str, str], int]:
    with store.transaction():
        return store.put(entries)


def found(store: Store, **more: object) -> list[str]:
    values = {"is_open_only": False, "node": "", "rule": "", "limit": 100, "after": FIRST, **more}
    return [each.id for each in store.incidents(**values)]  # type: ignore[arg-type]


def test_what_comes_twice_counts_once(store: Store) -> None:
    assert put(store, entry(told(1), told(2))) == {("n1", "log"): 2}
    assert put(store, entry(told(1), told(2), told(3, "inc-2"))) == {("n1", "log"): 3}
    assert put(store, entry(told(2))) == {("n1", "log"): 3}
    (kept,) = store.incidents_named("n1", "inc-1", 5)
    assert kept.payload == b"2"


def test_gaps_are_no_hindrance_and_logs_are_apart(store: Store) -> None:
    assert put(store, entry(told(5))) == {("n1", "log"): 5}
    assert put(store, entry(told(1, "inc-2"), log_id="log-2")) == {("n1", "log-2"): 1}
    assert put(store, entry(told(1, "inc-3"), node="n2")) == {("n2", "log"): 1}


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError):
        _broken_off(store)
    assert found(store) == []
    assert put(store, entry(told(1))) == {("n1", "log"): 1}


def _broken_off(store: Store) -> None:
    with store.transaction():
        store.put([entry(told(1))])
        raise RuntimeError


def test_it_is_all_there_after_a_restart(reopen: Callable[[], Store]) -> None:
    first = reopen()
    greeting = Greeting(node="n1", boot_id="b", log_id="log", group="g", domains=(("rack", "r"),))
    with first.transaction():
        assert first.next_epoch() == 1
        assert first.greet(greeting, WALL).upto == 0
        first.put([entry(told(1), told(2))])
    first.close()
    second = reopen()
    assert second.greetings() == [greeting]
    with second.transaction():
        assert second.next_epoch() == 2
        assert second.greet(greeting, WALL).upto == 2
    second.close()


def test_what_is_not_committed_is_not_read(store: Store) -> None:
    with store.transaction():
        store.put([entry(told(1))])
        assert found(store) == []
    assert found(store) == ["inc-1"]


def test_incidents_newest_first_page_by_page(store: Store) -> None:
    events = [told(n, f"inc-{n}", opened=WALL + n % 3) for n in range(1, 8)]
    put(store, entry(*events))
    put(store, entry(told(1, "other", rule="host", closed_wall=WALL), node="n2"))
    seen: list[str] = []
    after = FIRST
    while page := store.incidents(is_open_only=False, node="", rule="", limit=3, after=after):
        seen += [each.id for each in page]
        after = (page[-1].opened_wall, page[-1].node, page[-1].id)
    assert sorted(seen) == sorted([*(f"inc-{n}" for n in range(1, 8)), "other"])
    assert [e for e in seen if e != "other"][:2] == ["inc-5", "inc-2"]
    assert "other" not in found(store, is_open_only=True)
    assert found(store, node="n2") == found(store, rule="host") == ["other"]
    assert store.incidents_open() == 7


def test_an_incident_by_the_beginning_of_its_name(store: Store) -> None:
    put(store, entry(told(1, "inc-a1"), told(2, "inc-a2"), told(3, "inc-%")))
    assert {e.id for e in store.incidents_named("", "inc-a", 9)} == {"inc-a1", "inc-a2"}
    assert [e.id for e in store.incidents_named("n1", "inc-%", 9)] == ["inc-%"]
    assert store.incidents_named("n2", "inc", 9) == []


def test_a_token_goes_one_way(store: Store) -> None:
    with store.transaction():
        store.add_token("t", "digest", "n1", WALL + 60)
        assert store.spend_token("u", "digest", "n1", WALL) is Spent.UNKNOWN
        assert store.spend_token("t", "other", "n1", WALL) is Spent.UNKNOWN
        assert store.spend_token("t", "digest", "n2", WALL) is Spent.OTHER_NODE
        assert store.spend_token("t", "digest", "n1", WALL + 61) is Spent.EXPIRED
        assert store.spend_token("t", "digest", "n1", WALL + 60) is Spent.OK
        assert store.spend_token("t", "digest", "n1", WALL + 60) is Spent.AGAIN
        assert store.spend_token("t", "digest", "n2", WALL + 60) is Spent.AGAIN


def test_an_order_is_the_first_of_its_name_and_answered_by_its_node(store: Store) -> None:
    order = KeptOrder(id="o", node="n1", by="alice", verb="cordon", subject="0")
    with store.transaction():
        assert store.add_order(order, WALL) is order
        assert store.add_order(replace(order, subject="1"), WALL).subject == "0"
    answer = told(1, "o", kind="order", summary="done", is_done=True)
    put(store, entry(answer, node="n2"))
    kept = store.order("o")
    assert kept is not None
    assert kept.is_done is None
    put(store, entry(answer))
    put(store, entry(told(2, "o", kind="order", summary="undone", is_done=False)))
    assert store.order("o") == replace(order, is_done=True, text="done")


def permit(epoch: int, name: str = "p") -> Permit:
    return Permit(
        id=name,
        node="n1",
        boot_id="b",
        ask="a",
        kind="cordon",
        subject="GPU-0",
        group="g",
        granted_wall=WALL,
        granted_at=100.0,
        expires_at=160.0,
        epoch=epoch,
    )


def test_permits_come_back_as_they_were_with_what_is_left_of_them(store: Store) -> None:
    with store.transaction():
        given = permit(store.next_epoch())
        store.grant([given, given])
    (kept,) = store.ledger(WALL + 1, 30)
    assert kept.permit == replace(given, granted_at=0.0, expires_at=0.0)
    assert kept.age_s + kept.left_s == pytest.approx(60.0, abs=0.01)
    assert 0 <= kept.age_s < 30


def test_case_26_the_permits_of_an_epoch_that_is_over_are_refused(store: Store) -> None:
    with store.transaction():
        first = store.next_epoch()
        store.fence(first)
    with store.transaction():
        second = store.next_epoch()
    assert second > first
    for late in ([permit(first)], [permit(second, "q"), permit(first)]):
        with pytest.raises(Refused, match="is over"), store.transaction():
            store.grant(late)
    assert store.ledger(WALL, 60) == []
    with store.transaction():
        store.grant([permit(second)])
    assert [kept.permit.epoch for kept in store.ledger(WALL, 60)] == [second]


def test_a_later_stream_has_a_higher_number(store: Store) -> None:
    greeting = Greeting(node="n1", boot_id="b", log_id="log")
    with store.transaction():
        streams = [store.greet(greeting, WALL).stream for _ in range(3)]
    assert streams == sorted(set(streams))


def test_what_is_old_goes_and_what_is_open_stays(store: Store) -> None:
    put(store, entry(told(1, "shut", closed_wall=WALL), told(2, "open")))
    with store.transaction():
        store.prune(WALL + 1)
    assert found(store) == ["open"]
    assert put(store, entry(told(2), told(3))) == {("n1", "log"): 3}  # and still counts once


def test_what_was_closed_long_ago_by_a_clock_that_is_behind_stays_as_long_as_it_was_heard_of(
    store: Store,
) -> None:
    put(store, entry(told(1, "behind", opened=1.0, closed_wall=2.0)))
    with store.transaction():
        store.prune(WALL - 1)
    assert found(store) == ["behind"]


def test_a_copy_is_whole(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "x.sqlite")
    put(store, entry(told(1)))
    store.backup(tmp_path / "copy")
    copy = SqliteStore(tmp_path / "copy")
    assert found(copy) == ["inc-1"]
    copy.close()
    store.close()


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "x").close()
    with sqlite3.connect(tmp_path / "x") as db:
        db.execute(f"PRAGMA user_version={len(SCRIPTS) + 1}")
    db.close()
    with pytest.raises(Unavailable, match="newer gpuwarden"):
        SqliteStore(tmp_path / "x")


def test_what_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"not a database" * 100)
    with pytest.raises(Unavailable, match=r"/x: "):
        SqliteStore(tmp_path / "x")
    with pytest.raises(Unavailable):
        SqliteStore(tmp_path / "x" / "y")


class Listener:
    """Notes what the committer tells."""

    def __init__(self) -> None:
        self.committed: list[int] = []
        self.failed: list[str] = []
        self.heard = threading.Event()

    def on_committed(self, entries: list[tuple[Entry, Mark]]) -> None:
        self.committed += [mark.events_upto for _, mark in entries]
        self.heard.set()

    def on_failed(self, entries: list[tuple[Entry, Mark]], why: str) -> None:
        self.failed.append(why)
        self.heard.set()


def committer(store: Store, listener: Listener, **more: object) -> Committer:
    values = {"linger_s": 0.01, "queue_max": 100, **more}
    return Committer(
        store,
        SystemClock(),
        on_committed=listener.on_committed,
        on_failed=listener.on_failed,
        **values,  # type: ignore[arg-type]
    )


def mark(upto: int, stream: int = 1, node: str = "n1") -> Mark:
    return Mark(stream=stream, node=node, events_upto=upto, samples_upto=0, has_events=True)


def test_nothing_is_told_before_it_is_kept(store: Store) -> None:
    listener = Listener()
    worker = committer(store, listener)
    worker.start()
    report = Report(sequence=1, wall=WALL, worst=Severity.ERROR)
    assert worker.offer(entry(told(1), report=report), mark(1))
    assert listener.heard.wait(10)
    assert listener.committed == [1]
    assert found(store) == ["inc-1"]
    worker.stop()


def test_a_commit_that_fails_is_told_as_that_and_the_next_may_pass(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    worker = committer(store, listener)
    with monkeypatch.context() as broken:
        broken.setattr(store, "put", _full)
        worker.start()
        worker.offer(entry(told(1)), mark(1))
        assert listener.heard.wait(10)
    assert (listener.committed, len(listener.failed)) == ([], 1)
    listener.heard.clear()
    # Event 2 without event 1 would be taken for both: the stream has to begin again.
    assert not worker.offer(entry(told(2)), mark(2))
    assert worker.offer(entry(told(1)), mark(1, stream=2))
    assert listener.heard.wait(10)
    assert listener.committed == [1]
    worker.forget(1)
    assert worker.offer(entry(told(2)), mark(2))
    worker.stop()


def test_what_waits_behind_a_commit_that_failed_is_not_kept_either(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    many = GROUP_MAX + 3
    big = committer(store, listener, queue_max=many)
    for number in range(1, many):
        assert big.offer(entry(told(number)), mark(number))
    assert big.offer(entry(told(1), node="n2"), mark(1, stream=2, node="n2"))
    put, calls = store.put, iter((False, True, True))

    def once_full(entries: list[Entry]) -> dict[tuple[str, str], int]:
        return put(entries) if next(calls) else _full(entries)

    monkeypatch.setattr(store, "put", once_full)
    big.start()
    big.stop()
    assert listener.committed == [1]  # of the other node
    with store.transaction():
        assert store.greet(Greeting(node="n1", boot_id="b", log_id="log"), WALL).upto == 0


def _full(entries: object) -> NoReturn:
    raise Unavailable("disk full")


def test_beyond_its_bound_it_takes_nothing(store: Store) -> None:
    worker = committer(store, Listener(), queue_max=2)
    assert [worker.offer(entry(), mark(n)) for n in range(3)] == [True, True, False]


def test_at_its_end_it_keeps_what_it_has_taken(store: Store) -> None:
    listener = Listener()
    worker = committer(store, listener, linger_s=60.0)
    worker.start()
    worker.offer(entry(told(1)), mark(1))
    worker.stop()
    assert listener.committed == [1]
    assert not worker.offer(entry(told(2)), mark(2))
    with pytest.raises(Unavailable):
        worker.do(lambda s: s.next_epoch()).result(1)


def test_a_deed_that_fails_is_its_callers_trouble(store: Store) -> None:
    worker = committer(store, Listener())
    worker.start()

    def bad(_: Store) -> None:
        raise RuntimeError("defect")

    with pytest.raises(Unavailable, match="RuntimeError"):
        worker.do(bad).result(10)
    assert worker.do(lambda s: s.next_epoch()).result(10) == 1
    worker.stop()


def test_of_several_at_once_only_the_bad_one_fails(store: Store) -> None:
    worker = committer(store, Listener())

    def bad(_: Store) -> None:
        raise RuntimeError("defect")

    def note(what: str) -> Callable[[Store], None]:
        return lambda s: s.audit(WALL, "alice", what, "")

    done = [worker.do(deed) for deed in (note("a"), bad, note("b"), note("c"))]
    worker.start()
    assert [isinstance(f.exception(10), Unavailable) for f in done] == [False, True, False, False]
    assert [line.what for line in store.audit_lines(0, 9)] == ["a", "b", "c"]
    worker.stop()


def test_what_is_acknowledged_is_synced(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "x")
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_who_stops_waiting_does_not_stop_the_rest(store: Store) -> None:
    worker = committer(store, Listener())
    given_up = [worker.do(lambda s: s.audit(WALL, "alice", "a", "")) for _ in range(2)]
    kept = worker.do(lambda s: s.audit(WALL, "alice", "b", ""))
    assert all(future.cancel() for future in given_up)
    worker.start()
    kept.result(10)
    worker.do(lambda s: s.audit(WALL, "alice", "c", "")).result(10)
    assert [line.what for line in store.audit_lines(0, 9)] == ["b", "c"]
    worker.stop()


@pytest.mark.parametrize("kind", [SqliteStore, PostgresStore])
def test_no_two_parts_of_a_store_call_different_things_by_one_name(kind: type) -> None:
    """A store is made of parts; of two with one name the first would be asked for the second's work."""
    owners: dict[str, list[str]] = {}
    for part in kind.__mro__[1:-1]:
        for name, thing in vars(part).items():
            if callable(thing) and not name.startswith("__"):
                owners.setdefault(name, []).append(part.__name__)
    said_by_the_store = set(vars(kind))
    doubled = {n: o for n, o in owners.items() if len(o) > 1 and n not in said_by_the_store}
    assert doubled == {}
