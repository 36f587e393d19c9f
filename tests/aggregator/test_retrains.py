"""Training is asked for once a decision, whatever ends in between; and people are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.aggregator import retrains as module
from gpuwarden.aggregator.documents import StoreDocuments
from gpuwarden.aggregator.retrain_record import KIND, from_body, to_body
from gpuwarden.aggregator.retrains import Labelled, Retrains
from gpuwarden.config_retrain import RetrainConfig
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.drift import DriftState, DriftVerdict, FeatureDrift
from gpuwarden.model.evaluation import Cohort
from gpuwarden.model.retrain import Turn
from tests.aggregator.services_told import Bench, TestClock, bench

WALL = 1_700_000_000.0
Answer = Callable[[], str]


class World:
    """What is known of a service, and whoever trains."""

    def __init__(self, it: Bench) -> None:
        self.it = it
        self.clock: Any = TestClock(WALL)
        self.documents = StoreDocuments(it.store, it.committer, lambda: it.epoch)
        self.labels, self.correct, self.fresh = 0, 0, 0.0
        self.drifted: tuple[str, ...] = ()
        self.why_held = ""
        self.leads = True
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        self.answer: Answer = lambda: "HTTP 200"

    def labelled(
        self, service: str, after_wall: float, since_wall: float, over_s: float, upto_wall: float
    ) -> Labelled:
        fresh, self.fresh = self.fresh, 0.0
        return Labelled(
            upto_wall=upto_wall,
            fresh=fresh,
            labels=self.labels,
            correct=self.correct,
            first_labels=self.labels,
            first_correct=self.correct,
        )

    def drift(self, service: str) -> Sequence[DriftVerdict]:
        features = tuple(
            FeatureDrift(
                feature=name,
                state=DriftState.DRIFT if name in self.drifted else DriftState.STABLE,
                since_wall=WALL,
            )
            for name in ("age", "dose", "size")
        )
        state = DriftState.DRIFT if self.drifted else DriftState.STABLE
        cohort = Cohort(service=service, version="v1", segment="old")
        return [
            DriftVerdict(
                cohort=cohort, state=state, since_wall=WALL, at_wall=WALL, features=features
            )
        ]

    def held(self, service: str) -> str:
        return self.why_held

    def deliver(self, ident: str, evidence: Mapping[str, Any]) -> str:
        self.calls.append((ident, evidence))
        json.dumps(evidence, allow_nan=False)
        return self.answer()

    def life(self, *, has_hook: bool = True, **said: Any) -> Retrains:
        cfg = RetrainConfig.model_validate({"service": "chat", "labels_min": 10, **said})
        hook = self if has_hook else None
        return Retrains([cfg], self.documents, self, lambda _: hook, self.clock, lambda: self.leads)

    def turn(self, life: Retrains) -> None:
        """One pass of the chore."""
        for due in life.look():
            life.carry_out(due)

    def turns(self) -> list[Turn]:
        document = self.documents.get(KIND, "chat")
        return [] if document is None else [e.turn for e in from_body(document.body).records]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bench(tmp_path) as it:
        yield World(it)


def raise_(error: Exception) -> Answer:
    def answer() -> str:
        raise error

    return answer


def drifted(world: World) -> None:
    world.drifted, world.fresh = ("age",), 50.0


def test_drift_with_enough_labels_asks_once_with_the_evidence(world: World) -> None:
    life = world.life()
    world.turn(life)
    assert world.calls == []
    drifted(world)
    for _ in range(5):
        world.turn(life)
        world.clock.sleep(10.0)
    ((ident, evidence),) = world.calls
    assert evidence["id"] == ident
    assert (evidence["training"], evidence["new_labels"]) == ("full", 50)
    assert evidence["evidence"][0]["detail"] == "age"
    assert evidence["drift"][0]["segment"] == "old"
    assert world.turns() == [Turn.DELIVERED]
    (claim,) = life.claims()
    assert "full training was asked for (HTTP 200)" in claim.summary
    assert "33% of the features have drifted" in " ".join(life.notes("chat"))
    world.clock.sleep(module.TOLD_S)
    world.turn(life)
    assert life.claims() == ()


def test_an_accuracy_that_was_lost_asks_by_its_own_baseline(world: World) -> None:
    life = world.life(baseline_labels=100)
    world.labels, world.correct = 1000, 950
    world.turn(life)
    world.correct, world.fresh = 850, 100.0
    world.turn(life)
    ((_, evidence),) = world.calls
    assert evidence["accuracy"]["baseline"] == 0.95
    assert evidence["evidence"][0]["reason"] == "accuracy"


def test_the_baseline_is_of_the_first_labels_and_does_not_follow_the_loss(world: World) -> None:
    life = world.life(baseline_labels=100)
    world.turn(life)
    for labels, correct in ((200, 190), (400, 370), (600, 540), (5000, 4000)):
        world.labels, world.correct, world.fresh = labels, correct, 50.0
        world.clock.sleep(10.0)
        world.turn(life)
    assert [evidence["accuracy"]["baseline"] for _, evidence in world.calls] == [0.95]


def test_too_few_labels_hold_it_and_the_report_says_so(world: World) -> None:
    life = world.life(labels_min=100)
    drifted(world)
    world.turn(life)
    assert world.calls == []
    assert any("held by too-few-labels" in note for note in life.notes("chat"))
    world.fresh = 50.0
    world.turn(life)
    assert len(world.calls) == 1


def test_a_rollout_or_a_freeze_holds_it(world: World) -> None:
    life = world.life()
    drifted(world)
    world.why_held = "version v2 is on its way"
    world.turn(life)
    assert world.calls == []
    assert "held by frozen (version v2 is on its way)" in " ".join(life.notes("chat"))
    world.why_held = ""
    world.turn(life)
    assert len(world.calls) == 1


def test_after_the_cooldown_it_may_ask_again(world: World) -> None:
    life = world.life(cooldown_s=3600)
    drifted(world)
    world.turn(life)
    world.clock.sleep(3599.0)
    world.fresh = 50.0
    world.turn(life)
    assert len(world.calls) == 1
    world.clock.sleep(1.0)
    world.turn(life)
    assert len(world.calls) == 2


def test_killed_between_the_intent_and_the_hook_it_is_not_asked_for_again(world: World) -> None:
    drifted(world)
    assert len(world.life().look()) == 1  # and killed
    second = world.life()
    world.fresh = 50.0
    world.turn(second)
    assert world.calls == []
    assert world.turns() == [Turn.UNKNOWN]
    assert "may have been asked for" in second.claims()[0].summary


def test_killed_after_the_hook_it_is_not_asked_for_again(world: World) -> None:
    drifted(world)
    first = world.life()
    (due,) = first.look()
    world.deliver(due.record.id, due.evidence)  # and killed before its end is on disk
    world.fresh = 50.0
    world.turn(world.life())
    assert len(world.calls) == 1


def test_a_restart_after_it_was_asked_for_knows_that(world: World) -> None:
    drifted(world)
    world.turn(world.life())
    world.fresh = 50.0
    world.turn(world.life())
    assert len(world.calls) == 1
    assert world.turns() == [Turn.DELIVERED]


def test_what_cannot_be_reached_is_tried_so_often_under_one_id_and_told(world: World) -> None:
    life = world.life(attempts=3)
    drifted(world)
    world.answer = raise_(Unavailable("HTTP 503"))
    world.turn(life)
    assert len(world.calls) == 3
    assert len({ident for ident, _ in world.calls}) == 1
    assert world.turns() == [Turn.FAILED]
    world.turn(life)
    assert "could not be asked for: HTTP 503" in life.claims()[0].summary
    assert len(world.calls) == 3
    world.clock.sleep(module.AGAIN_S)
    world.answer = lambda: "HTTP 202"
    world.turn(life)
    assert len(world.calls) == 4
    assert world.turns() == [Turn.FAILED, Turn.DELIVERED]


@pytest.mark.parametrize("error", [Refused("HTTP 401"), RuntimeError("a hook that is broken")])
def test_what_is_refused_is_not_tried_again(world: World, error: Exception) -> None:
    drifted(world)
    world.answer = raise_(error)
    world.turn(world.life())
    assert len(world.calls) == 1
    assert world.turns() == [Turn.FAILED]


def test_without_a_hook_people_are_told(world: World) -> None:
    drifted(world)
    life = world.life(has_hook=False)
    world.turn(life)
    world.turn(life)
    assert world.turns() == [Turn.TOLD]
    assert "should be done" in life.claims()[0].summary


def test_who_does_not_lead_asks_for_nothing(world: World) -> None:
    drifted(world)
    life = world.life()
    world.leads = False
    world.turn(life)
    assert (world.calls, life.claims()) == ([], ())
    world.leads = True
    world.it.epoch -= 1  # and one that was overtaken writes nothing, so asks for nothing
    world.turn(life)
    assert world.calls == []


def test_by_the_calendar_from_when_it_was_first_looked_at(world: World) -> None:
    life = world.life(every_s=7200, cooldown_s=3600, drifted_share=None, accuracy_drop=None)
    world.turn(life)
    world.clock.sleep(7199.0)
    world.turn(life)
    assert world.calls == []
    world.clock.sleep(1.0)
    world.turn(life)
    assert world.calls[0][1]["evidence"][0]["reason"] == "scheduled"


def test_small_steps_by_labels(world: World) -> None:
    life = world.life(incremental_labels=100)
    world.fresh = 100.0
    world.turn(life)
    assert world.calls[0][1]["training"] == "incremental"
    assert from_body(world.documents.get(KIND, "chat").body).labels == 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"schema": 2}', b'{"schema": 1, "records": [{"id": 1}]}', b"\xff"]
)
def test_a_document_that_is_spoilt_asks_for_nothing_and_takes_no_other_along(
    world: World, body: bytes
) -> None:
    with pytest.raises(Refused):
        from_body(body)
    world.documents.put(KIND, "chat", body or b"x", who="somebody", wall=WALL, after=0)
    drifted(world)
    world.turn(world.life())
    assert world.calls == []


def test_what_is_kept_is_read_again(world: World) -> None:
    drifted(world)
    world.turn(world.life())
    document = world.documents.get(KIND, "chat")
    assert document is not None
    state = from_body(document.body)
    many = replace(state, records=state.records * 500)
    assert from_body(to_body(state)) == state
    assert len(from_body(to_body(many)).records) == 50
