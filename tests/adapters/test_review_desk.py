"""From a client's observations to predictions for people; hostile ones cost themselves."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.adapters.review_desk import COMPLAINT, ReviewDesk
from gpuwarden.adapters.review_spool import ReviewSpool
from gpuwarden.config_services import ServiceConfig
from gpuwarden.evaluate.fast.observation import Observations
from gpuwarden.evaluate.fast.tally import Tally
from gpuwarden.model.evaluation import Cohort
from gpuwarden.wire.review_check import check_item
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.v1 import fleet_pb2
from tests.aggregator.services_told import TestClock

CHAT = Cohort(service="chat", version="v1")


class Desk:
    """One service's observations on a clock of the test's own."""

    def __init__(self, per_minute: float = 60.0) -> None:
        self.clock: Any = TestClock()
        self.spool = ReviewSpool(self.clock.wall())
        cfg = ServiceConfig.model_validate(
            {
                "name": "chat",
                "url": "http://127.0.0.1:1/metrics",
                "confidence_min": 0.5,
                "review_per_min": per_minute,
            }
        )
        self.desk = ReviewDesk(self.spool, self.clock, [cfg])
        self.heard = Observations()

    def say(self, **said: Any) -> None:
        tallies: dict[Cohort, Tally] = {}
        cohort = self.heard.take(said, CHAT, self.clock.now(), tallies)
        assert cohort is not None
        self.desk.look(said, cohort, self.heard)

    def picked(self, after_s: float = 60.0) -> list[pb.ReviewItem]:
        self.clock.sleep(after_s)
        batch = fleet_pb2.Batch()
        self.spool.fill(batch, 10**6, self.clock.now())
        for each in batch.reviews:
            check_item(each, self.clock.wall())
        return list(batch.reviews)


def test_a_prediction_with_all_that_people_need() -> None:
    desk = Desk()
    desk.say(
        prediction=True,
        prediction_id=7,
        confidence=0.2,
        probabilities=[0.2, 0.8],
        opinions=["0"],
        segment="old",
        arm="new",
        payload="scan/7",
        features={"age": 41},
    )
    (item,) = desk.picked()
    assert (item.prediction_id, item.prediction, item.payload) == ("7", "1", "scan/7")
    assert (item.cohort.segment, item.cohort.arm, item.cohort.version) == ("old", "new", "v1")
    assert (list(item.opinions), list(item.probabilities)) == (["0"], [0.2, 0.8])
    assert b"age" not in item.SerializeToString()


def test_a_complaint_makes_a_prediction_disputed() -> None:
    desk = Desk()
    desk.say(prediction=1, prediction_id="a", confidence=0.99)
    desk.picked()
    desk.spool.acknowledge(2**62)
    desk.say(prediction_id="a", complaint=True)
    (item,) = desk.picked()
    assert list(item.opinions) == [COMPLAINT]
    assert not item.is_random or item.prediction_id == "a"


@pytest.mark.parametrize(
    "said",
    [
        {"prediction": 1, "confidence": 0.1},
        {"prediction": 1, "prediction_id": "a", "label": 1},
        {"prediction_id": "unheard", "complaint": True},
        {"prediction_id": {"a": 1}, "prediction": 1},
        {"prediction_id": "x" * 500, "prediction": 1},
        {"prediction_id": "a\n", "prediction": 1},
        {"prediction_id": "a", "prediction": {"b": 1}},
        {"prediction_id": "a", "latency": 0.1},
    ],
)
def test_what_nobody_could_answer_is_left_out(said: dict[str, Any]) -> None:
    desk = Desk()
    desk.say(**said)
    assert desk.picked() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confidence", float("nan")),
        ("confidence", 7),
        ("confidence", "high"),
        ("probabilities", [0.5, float("inf")]),
        ("probabilities", [0.01] * 101),
        ("probabilities", {"a": 1}),
        ("opinions", [1, None, "x" * 1000, "a\x00b"]),
        ("payload", {"not": "text"}),
        ("payload", "\ud800\x00" * 4000),
    ],
)
def test_what_is_not_what_it_must_be_takes_nothing_along(name: str, value: Any) -> None:
    desk = Desk()
    desk.say(**{"prediction": 1, "prediction_id": "a", name: value})
    (item,) = desk.picked()
    assert len(item.payload) <= 1024


def test_none_where_none_are_wanted_and_not_before_its_time() -> None:
    none = Desk(per_minute=0)
    none.say(prediction=1, prediction_id="a", confidence=0.1)
    assert none.picked() == []
    desk = Desk()
    desk.say(prediction=1, prediction_id="a", confidence=0.1)
    assert desk.picked(after_s=5.0) == []
    assert len(desk.picked(after_s=60.0)) == 1


def test_more_for_a_while_after_a_word_of_the_aggregator() -> None:
    desk = Desk(per_minute=6)
    desk.spool.heed([pb.SamplingRaise(service="chat", times=5.0, for_s=100.0)], desk.clock.now())
    for number in range(300):
        desk.say(prediction=1, prediction_id=f"a{number}", confidence=0.999)
    assert len(desk.picked()) > 20
    desk.spool.acknowledge(2**62)
    desk.clock.sleep(100.0)
    for number in range(300):
        desk.say(prediction=1, prediction_id=f"b{number}", confidence=0.999)
    assert len(desk.picked()) <= 6
