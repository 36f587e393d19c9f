"""Drift of two aggregators on one PostgreSQL: one picture, one baseline, one incident, whoever of them dies when."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gpuwarden.aggregator import drift_memories, retrains
from gpuwarden.aggregator.retrain_facts import ServiceFacts
from gpuwarden.aggregator.store_postgres import PostgresStore
from gpuwarden.aggregator.window_relay import HEAL_S
from gpuwarden.errors import Unavailable
from gpuwarden.evaluate.fast import sketch
from gpuwarden.model.drift import DriftState
from gpuwarden.model.evaluation import Window
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from tests.adapters.receiver import Receiver
from tests.aggregator.centre import Centre
from tests.aggregator.databases import database
from tests.aggregator.pairs import eventually, pair
from tests.aggregator.services_told import Bench, message, window
from tests.aggregator.test_drift_follow import drifted
from tests.aggregator.test_drifts import MINUTE, V1, Desk
from tests.aggregator.test_evaluation_service import lately

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]
SETTINGS: dict[str, Any] = {"drift": {"rows": 150}}


class Two:
    """Aggregators on one database, the first of which leads; each holds a node of its own."""

    def __init__(self, url: str) -> None:
        self.url, self.lives = url, 0
        self.desks: list[Desk] = []
        for _ in range(2):
            self.desks.append(self.life())
        self.reign(self.desks[0])

    def life(self) -> Desk:
        self.lives += 1
        it = Bench(PostgresStore(self.url), f"life-{self.lives}", **SETTINGS)
        it.is_leader = False
        if self.desks:
            it.clock.at = self.desks[0].it.clock.at
        return Desk(it)

    def reign(self, desk: Desk) -> None:
        for each in self.desks:
            each.it.is_leader = False
        desk.it.epoch = desk.it.committer.do(lambda store: store.next_epoch()).result(10)
        desk.it.is_leader = True

    def minute(self, n: int, loc: float = 0.0, rows: int = 200, wrong: int = 0) -> None:
        """Each node's aggregator is told its half; then the minute is over."""
        begin = MINUTE + 60.0 * n
        for place, desk in enumerate(self.desks):
            r = random.Random(f"{n} {place} {loc}")
            for k in range(6):
                values = [r.gauss(loc, 1) for _ in range(rows // 12 + 1)]
                told = Window(
                    cohort=V1,
                    begin_wall=begin + 10.0 * k,
                    length_s=10.0,
                    sketches={"feature.age": sketch.of(values)},
                    counts={"labels": 20.0, "correct": 20.0 - wrong} if k == 0 else {},
                )
                desk.sequence += 1
                desk.it.tell(f"n{place + 1}", message(told, desk.sequence))
        self.at(begin + 60.0)

    def at(self, wall: float) -> None:
        for desk in self.desks:
            desk.it.clock.at = wall
        for _ in range(2):  # written by each, then read by each
            for desk in self.desks:
                desk.it.services.look()

    def look(self) -> None:
        """Once what was told is settled."""
        self.at(self.desks[0].it.clock.at + 121.0)
        for desk in self.desks:
            desk.drifts.look()
            assert not desk.drifts.fault
            desk.it.services.look()

    def kill(self, place: int) -> Desk:
        """As -9 does: it writes nothing more."""
        gone = self.desks.pop(place)
        gone.it.is_leader = False
        gone.it.close()
        gone.it.store.close()
        return gone

    def close(self) -> None:
        while self.desks:
            self.kill(0)


@pytest.fixture
def two() -> Iterator[Two]:
    with database() as url:
        made = Two(url)
        try:
            yield made
        finally:
            made.close()


def keys(desk: Desk) -> list[str]:
    return [claim.key for claim in desk.drifts.claims()]


def labels(desk: Desk) -> int:
    return desk.drifts._services["scan"].memory.cohorts[V1].errors.labels


def test_a_profile_pushed_at_one_and_windows_held_by_both_are_used_by_both(two: Two) -> None:
    one, other = two.desks
    other.push()
    two.minute(0, rows=100)
    two.look()
    for desk in two.desks:
        (row,) = desk.drifts.view.verdicts[V1].features
        assert row.why == "108 of 150 rows"  # 54 of each node
        assert labels(desk) == 40
    two.minute(3, loc=1.5, rows=100)
    two.look()
    for desk in two.desks:
        assert desk.state() is DriftState.DRIFT
        assert keys(desk) == ["drift scan"]
    assert one.drifts.view.verdicts == other.drifts.view.verdicts
    assert len(one.it.store.documents("drift-memory")) == 1
    one.drifts.profiles.drop(V1, who="ann", wall=one.it.clock.wall())
    two.minute(6, rows=100)
    two.look()
    for desk in two.desks:
        (row,) = desk.drifts.view.verdicts[V1].features
        assert row.state is DriftState.NO_PROFILE


def test_whoever_leads_next_goes_on_where_the_first_was_killed(two: Two) -> None:
    one, other = two.desks
    one.push()
    two.minute(0, loc=2.0)
    two.look()
    since = one.drifts.view.verdicts[V1].since_wall
    before = labels(one)
    two.kill(0)
    two.reign(other)
    other.drifts.look()
    assert keys(other) == ["drift scan"]
    assert other.drifts.view.verdicts[V1].since_wall == since
    kept = other.it.store.documents("drift-memory")
    assert [each.revision for each in kept] == [2]  # it is the new leader's, once
    two.desks.append(two.life())  # and one that joins the new leader
    two.minute(3, loc=2.0)
    two.look()
    for desk in two.desks:
        assert desk.drifts.view.verdicts[V1].since_wall == since
        assert labels(desk) == before + 40
    assert two.desks[0].drifts.view.verdicts == two.desks[1].drifts.view.verdicts


def test_one_that_starts_alone_says_at_once_what_was_known(two: Two) -> None:
    """No claim ends for want of a new minute, nor is a rollout let on."""
    one, _ = two.desks
    one.push()
    two.minute(0, loc=2.0)
    two.look()
    since = one.drifts.view.verdicts[V1].since_wall
    now = one.it.clock.at
    for _ in range(2):
        two.kill(0)
    fresh = two.life()
    two.desks = [fresh]
    fresh.it.clock.at = now + 30.0
    two.reign(fresh)
    fresh.it.services.look()
    fresh.drifts.look()
    assert keys(fresh) == ["drift scan"]
    assert fresh.drifts.view.verdicts[V1].since_wall == since
    fresh.it.services.look()
    standing = fresh.it.services.view.services["scan"]
    assert "data-drift" in [v.guardrail for v in standing.verdicts]


def test_what_the_other_holds_is_waited_for_while_the_database_is_ill(two: Two) -> None:
    """A minute counts once: of half of it the rest would be lost for good."""
    one, other = two.desks
    one.push()
    two.minute(0, rows=60)
    two.look()
    before = {id(desk): desk.drifts.view for desk in two.desks}
    with psycopg.connect(two.url, autocommit=True) as db:
        db.execute("ALTER TABLE service_window RENAME TO away")
        two.minute(3, rows=60, wrong=3)
        two.at(one.it.clock.at + 121.0)
        for desk in two.desks:
            desk.drifts.look()
            assert "what other aggregators hold is not known" in desk.drifts.fault
            assert desk.drifts.view is before[id(desk)]
        db.execute("ALTER TABLE away RENAME TO service_window")
    healed = one.it.clock.at + 5.0
    one.it.clock.at = healed
    one.it.services.look()  # it reads before the other has written
    one.drifts.look()
    assert "not known" in one.drifts.fault
    assert labels(one) == 40
    two.at(healed + HEAL_S)
    two.look()
    for desk in (one, other):
        (row,) = desk.drifts.view.verdicts[V1].features
        assert row.why == "144 of 150 rows"
        assert labels(desk) == 80
        assert desk.drifts._services["scan"].memory.cohorts[V1].errors.reference_wrong == 6


def test_who_only_believes_to_lead_changes_no_memory(two: Two) -> None:
    one, other = two.desks
    one.push()
    two.minute(0, loc=2.0)
    two.look()
    two.reign(other)
    two.minute(3, loc=0.0)
    two.minute(4, loc=0.0)
    one.it.is_leader = True  # it was held up, and has not heard
    two.look()
    (kept,) = other.it.store.documents("drift-memory")
    known = drift_memories.read(kept.body)
    assert known is not None
    assert known[1] == other.drifts._services["scan"].memory
    assert one.drifts.failures == 1


def test_new_labels_are_counted_whole_for_training(two: Two) -> None:
    one, _ = two.desks
    facts = ServiceFacts(one.it.services, lambda: one.drifts.view, lambda service: "")

    def labelled() -> float:
        ticking = threading.Event()

        def look() -> None:
            while not ticking.wait(0.01):
                one.it.services.look()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            upto = one.it.clock.at - 120.0
            return facts.labelled("scan", MINUTE, MINUTE, 3600.0, upto).fresh
        finally:
            ticking.set()
            thread.join()

    two.at(MINUTE)
    with psycopg.connect(two.url, autocommit=True) as db:
        db.execute("ALTER TABLE service_window RENAME TO away")
        two.minute(0)
        two.at(one.it.clock.at + 121.0)
        with pytest.raises(Unavailable, match="other aggregators"):
            labelled()
        db.execute("ALTER TABLE away RENAME TO service_window")
    two.at(one.it.clock.at + HEAL_S)
    two.at(one.it.clock.at + HEAL_S)
    assert labelled() == 40.0


def test_training_is_asked_for_once_and_a_label_finds_its_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever leads, and whoever was told of what."""
    monkeypatch.setattr(retrains, "LOOK_S", 0.2)
    with Receiver() as receiver:
        hook = {"url": receiver.url("/retrain")}
        retrain: Any = [{"service": "chat", "labels_min": 0, "webhook": hook}]
        with pair(tmp_path, retrain=retrain) as (one, other, _):
            line = other.line("n1")
            line.batch(windows=[message(window(lately(), [0.1] * 50), 1)])
            for centre in (one, other):
                services = centre.parts.evaluation.services
                eventually(lambda: "chat" in services.view.services, "it is known")  # noqa: B023
                drifted(centre)
            eventually(lambda: len(receiver.requests) == 1, "whoever trains is asked")
            said = pb.LabelEntry(prediction_id="p1", version="v1", prediction="yes")
            assert submitted(one, said) == (0, 1)
            notes = one.parts.follow.retrains.notes
            eventually(lambda: any("HTTP 200" in note for note in notes("chat")), "on record")
            one.stop()
            eventually(lambda: other.parts.evaluation.services.view.is_leader, "the other leads")
            notes = other.parts.follow.retrains.notes
            eventually(lambda: any("HTTP 200" in note for note in notes("chat")), "it has looked")
            assert len(receiver.requests) == 1
            assert submitted(other, pb.LabelEntry(prediction_id="p1", label="no")) == (1, 0)
            line.close()


def submitted(centre: Centre, entry: pb.LabelEntry) -> tuple[int, int]:
    request = pb.SubmitLabelsRequest(service="chat", entries=[entry])
    said = centre.evaluation().SubmitLabels(request)
    return said.counted, said.waiting
