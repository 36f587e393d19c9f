"""When the one who writes begins: at once for events, with many together for samples."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gpuwarden.aggregator import committer as module
from gpuwarden.aggregator.committer import Committer, Mark
from gpuwarden.aggregator.store import Entry
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Unavailable
from gpuwarden.model.fleet import Report, Told

LINGER_S = 0.01
QUEUE_MAX = 10


class Kept:
    """A committer on a store of its own, and how it was told."""

    def __init__(self, store: SqliteStore) -> None:
        self.groups: list[list[str]] = []
        self.failed: list[list[str]] = []
        self.heard = threading.Event()
        self.store = store
        self.worker = Committer(
            self.store,
            SystemClock(),
            linger_s=LINGER_S,
            queue_max=QUEUE_MAX,
            on_committed=self._told,
            on_failed=self._refused,
        )

    def _told(self, entries: list[tuple[Entry, Mark]]) -> None:
        self.groups.append([mark.node for _, mark in entries])
        self.heard.set()

    def _refused(self, entries: list[tuple[Entry, Mark]], why: str) -> None:
        self.failed.append([mark.node for _, mark in entries])

    def offer(self, node: str, *events: Told, stream: int = 1) -> None:
        report = Report(sequence=1, wall=0.0)
        entry = Entry(
            node=node, log_id="log", wall=0.0, report=report, events=events, stream=stream
        )
        mark = Mark(
            stream=stream,
            node=node,
            events_upto=len(events),
            samples_upto=1,
            has_events=bool(events),
        )
        assert self.worker.offer(entry, mark)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    monkeypatch.setattr(module, "CALM_S", 600.0)
    found = Kept(SqliteStore(tmp_path / "fleet.sqlite"))
    found.worker.start()
    yield found
    found.worker.stop()
    found.store.close()


def test_samples_wait_for_company_and_an_event_ends_the_wait(kept: Kept) -> None:
    kept.offer("a")
    kept.offer("b")
    assert not kept.heard.wait(LINGER_S * 20)
    kept.offer("c", Told(sequence=1, wall=0.0, kind="note", summary="it is so"))
    assert kept.heard.wait(30)
    assert kept.groups == [["a", "b", "c"]]


def test_enough_samples_need_no_event(kept: Kept) -> None:
    names = [str(number) for number in range(QUEUE_MAX // 2)]
    kept.offer(names[0])
    assert not kept.heard.wait(LINGER_S * 20)
    for name in names[1:]:
        kept.offer(name)
    assert kept.heard.wait(30)
    assert kept.groups == [names]


def test_what_is_left_of_an_urgent_group_waits_again(kept: Kept) -> None:
    kept.offer("a", Told(sequence=1, wall=0.0, kind="note", summary="it is so"))
    assert kept.heard.wait(30)
    kept.heard.clear()
    kept.offer("b")
    assert not kept.heard.wait(LINGER_S * 20)
    kept.worker.stop()
    assert kept.groups == [["a"], ["b"]]


class Slow(SqliteStore):
    """Its first transaction with entries goes on until it is told to end, and may fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.began, self.go_on = threading.Event(), threading.Event()
        self.is_failing = False

    def put(self, entries: Sequence[Entry]) -> dict[tuple[str, str], int]:
        if not self.began.is_set():
            self.began.set()
            assert self.go_on.wait(30)
            if self.is_failing:
                raise Unavailable("the disk is gone")
        return super().put(entries)


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Kept, Slow]]:
    monkeypatch.setattr(module, "CALM_S", 600.0)
    monkeypatch.setattr(module, "ROWS_MAX", 2)
    store = Slow(tmp_path / "fleet.sqlite")
    found = Kept(store)
    for number in range(5):  # before it starts, so that they are one group
        found.offer(f"n{number}", stream=number % 2)
    found.worker.start()
    assert store.began.wait(30)
    yield found, store
    found.worker.stop()
    store.close()


def test_a_deed_does_not_wait_for_a_whole_group(slow: tuple[Kept, Slow]) -> None:
    kept, store = slow
    seen = kept.worker.do(lambda _: list(kept.groups))
    store.go_on.set()
    assert seen.result(30) == [["n0", "n1"]]
    kept.worker.stop()
    assert kept.groups == [["n0", "n1"], ["n2", "n3"], ["n4"]]


def test_after_a_part_that_was_not_kept_nothing_of_its_streams_is(slow: tuple[Kept, Slow]) -> None:
    kept, store = slow
    store.is_failing = True
    store.go_on.set()
    kept.worker.stop()
    assert kept.failed == [["n0", "n1", "n2", "n3", "n4"]]
    assert kept.groups == []
