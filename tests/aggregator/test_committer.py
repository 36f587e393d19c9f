"""When the one who writes begins: at once for events, with many together for samples."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.aggregator import committer as module
from gpuwarden.aggregator.committer import Committer, Mark
from gpuwarden.aggregator.store import Entry
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.clock import SystemClock
from gpuwarden.model.fleet import Report, Told

LINGER_S = 0.01
QUEUE_MAX = 10


class Kept:
    """A committer on a store of its own, and how it was told."""

    def __init__(self, path: Path) -> None:
        self.groups: list[list[str]] = []
        self.heard = threading.Event()
        self.store = SqliteStore(path)
        self.worker = Committer(
            self.store,
            SystemClock(),
            linger_s=LINGER_S,
            queue_max=QUEUE_MAX,
            on_committed=self._told,
            on_failed=self._told,
        )

    def _told(self, entries: list[tuple[Entry, Mark]], why: str = "") -> None:
        self.groups.append([mark.node for _, mark in entries])
        self.heard.set()

    def offer(self, node: str, *events: Told) -> None:
        report = Report(sequence=1, wall=0.0)
        entry = Entry(node=node, log_id="log", wall=0.0, report=report, events=events, stream=1)
        mark = Mark(
            stream=1,
            node=node,
            events_upto=len(events),
            samples_upto=1,
            has_events=bool(events),
        )
        assert self.worker.offer(entry, mark)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    monkeypatch.setattr(module, "CALM_S", 600.0)
    found = Kept(tmp_path / "fleet.sqlite")
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
