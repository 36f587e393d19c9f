"""Nothing that is urgent waits for a timer: the timers are set to ten minutes, commits are held, offers come from
many threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from gpuwarden.aggregator import committer as committer_module
from gpuwarden.aggregator import loop as loop_module
from gpuwarden.aggregator.committer import Committer, Mark
from gpuwarden.aggregator.lead import OwnLead
from gpuwarden.aggregator.loop import Fleet
from gpuwarden.aggregator.oncall import FleetOncall
from gpuwarden.aggregator.store import Entry
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.model.fleet import Denial, Permit, Report, Told
from gpuwarden.policy.fleet.fold import Heard
from gpuwarden.sim.node.clock import SimClock
from gpuwarden.wire.v1 import fleet_pb2 as pb
from tests.aggregator.centre import Centre, event, sample
from tests.aggregator.test_oncall import ListPager
from tests.policy.fleet_builders import CFG, NOW, ask, fleet

NEVER_S = 600.0
WAIT_S = 30.0
QUEUE_MAX = 80
GROUP = QUEUE_MAX // 2
THREADS = 8
ROUNDS = 25
NOTE = Told(sequence=1, wall=0.0, kind="note", summary="it is so")


class HeldStore(SqliteStore):
    """A disk that finishes a commit when the test lets it, and tells what each was of."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = threading.Event()
        self.gate.set()
        self.is_held = threading.Event()
        self.groups: list[str] = []

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            yield
            if not self.gate.is_set():
                self.is_held.set()
                assert self.gate.wait(WAIT_S)

    def put(self, entries: Sequence[Entry]) -> dict[tuple[str, str], int]:
        self.groups.append(f"{len(entries)} entries")
        return super().put(entries)


class Desk:
    """A committer on such a disk."""

    def __init__(self, folder: Path) -> None:
        self.store = HeldStore(folder / "fleet.sqlite")
        self.clock = SimClock(NOW)
        self.done: set[str] = set()
        self._told = threading.Condition()
        self.worker = Committer(
            self.store,
            self.clock,
            linger_s=NEVER_S,
            queue_max=QUEUE_MAX,
            on_committed=self._committed,
            on_failed=lambda entries, why: None,
        )
        self.worker.start()

    def _committed(self, entries: list[tuple[Entry, Mark]]) -> None:
        with self._told:
            self.done |= {mark.node for _, mark in entries}
            self._told.notify_all()

    def offer(self, node: str, *events: Told) -> None:
        report = Report(sequence=1, wall=0.0)
        entry = Entry(node=node, log_id=node, wall=0.0, report=report, events=events, stream=1)
        mark = Mark(stream=1, node=node, events_upto=0, samples_upto=1, has_events=bool(events))
        assert self.worker.offer(entry, mark)

    def has_committed(self, nodes: set[str]) -> bool:
        with self._told:
            return self._told.wait_for(lambda: nodes <= self.done, WAIT_S)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While a commit is on its way to the disk."""
        self.store.is_held.clear()
        self.store.gate.clear()
        self.worker.do(lambda store: None)
        assert self.store.is_held.wait(WAIT_S)
        yield
        self.store.gate.set()

    def close(self) -> None:
        self.store.gate.set()
        self.worker.stop()
        self.store.close()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(committer_module, "CALM_S", NEVER_S)
    monkeypatch.setattr(loop_module, "TICK_S", NEVER_S)
    made = Desk(tmp_path)
    yield made
    made.close()


def from_many(calls: list[Callable[[], None]]) -> None:
    """All of them at once, from so many threads."""
    begin = threading.Barrier(THREADS)

    def some(number: int) -> None:
        begin.wait(WAIT_S)
        for call in calls[number::THREADS]:
            call()

    threads = [threading.Thread(target=some, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)


def samples(desk: Desk, prefix: str, count: int) -> tuple[set[str], list[Callable[[], None]]]:
    names = [f"{prefix}-{number}" for number in range(count)]
    return set(names), [partial(desk.offer, name) for name in names]


@pytest.mark.parametrize("is_held", [False, True])
def test_enough_samples_are_never_left_lying(desk: Desk, is_held: bool) -> None:
    for round_ in range(ROUNDS):
        names, offers = samples(desk, f"r{round_}", GROUP)
        if is_held:
            with desk.held():
                from_many(offers)
        else:
            from_many(offers)
        assert desk.has_committed(names), f"round {round_}: {len(names - desk.done)} wait"


@pytest.mark.parametrize("is_held", [False, True])
def test_a_deed_ends_every_wait_and_takes_along_what_lay_there(desk: Desk, is_held: bool) -> None:
    """Even the wait of an event for company."""
    for round_ in range(ROUNDS):
        names, offers = samples(desk, f"r{round_}", THREADS)
        offers.append(partial(desk.offer, f"e{round_}", NOTE))
        if is_held:
            with desk.held():
                from_many(offers)
                future = desk.worker.do(lambda store: "done")
        else:
            from_many(offers)
            future = desk.worker.do(lambda store: "done")
        assert future.result(WAIT_S) == "done"
        assert desk.has_committed(names | {f"e{round_}"}), f"round {round_}"


def test_a_deed_waits_for_one_commit_and_not_for_all_that_wait(desk: Desk) -> None:
    with desk.held():
        for number in range(QUEUE_MAX):
            desk.offer(f"n{number}")
        desk.store.groups.clear()
        future = desk.worker.do(lambda store: desk.store.groups.append("deed"))
    future.result(WAIT_S)
    assert desk.has_committed({f"n{number}" for number in range(QUEUE_MAX)})
    assert desk.store.groups == ["deed", f"{QUEUE_MAX} entries"]


def wish(loop: Fleet, node: str, name: str) -> None:
    asks = (ask(name, kind="reset-gpu"),)
    loop.hear(Heard(at=NOW + 1, stream=1, node=node, asks=asks))


def test_every_wish_is_answered_though_a_commit_was_held_and_no_tick_is_due(desk: Desk) -> None:
    told = threading.Condition()
    answered: set[str] = set()

    def tell(answers: Mapping[str, tuple[list[Permit], list[Denial]]]) -> None:
        with told:
            answered.update(answers)
            told.notify_all()

    loop = Fleet(
        CFG,
        desk.worker,
        desk.clock,
        fleet(GROUP),
        OwnLead(desk.worker.do(lambda store: store.next_epoch()).result(WAIT_S)),
        lambda wall: (),
        tell,
        FleetOncall(ListPager()),
    )
    loop.start()
    try:
        for round_ in range(ROUNDS):
            answered.clear()
            _, offers = samples(desk, f"r{round_}", THREADS)
            wishes = [partial(wish, loop, f"n{n}", f"{round_}-{n}") for n in range(GROUP)]
            with desk.held():
                from_many([*offers, *wishes])
            with told:
                all_of_them = {f"n{n}" for n in range(GROUP)}
                assert told.wait_for(lambda: all_of_them <= answered, WAIT_S), f"round {round_}"  # noqa: B023
    finally:
        loop.stop()


def test_on_the_wire_neither_a_greeting_nor_a_wish_waits_for_a_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "CALM_S", NEVER_S)
    monkeypatch.setattr(loop_module, "TICK_S", NEVER_S)
    with Centre(tmp_path) as centre:
        lines = [centre.line(f"n{number}") for number in range(4)]
        for line in lines:
            assert line.next().HasField("ack")
        for sequence in range(1, 16):
            for number, line in enumerate(lines):
                line.batch(samples=[sample(sequence)])
                asked = pb.PermitAsk(id=f"{sequence}-{number}", kind="cordon", subject="GPU-0")
                line.batch(asks=[asked])
                if sequence % 5 == 0:
                    line.batch(events=[event(sequence)])
            for number, line in enumerate(lines):
                while not _answers(line.directives, f"{sequence}-{number}"):
                    line.next()
        for line in lines:
            line.until_acked(15)
            line.close()


def _answers(directives: list[pb.Directive], name: str) -> bool:
    said = [
        *(permit.ask for each in directives for permit in each.permits),
        *(refusal.ask for each in directives for refusal in each.refusals),
    ]
    return name in said
