"""What follows from a drift verdict at a real aggregator: its nodes look closer, training is asked for once, also by
the next life of that aggregator, and the report says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.model.drift import DriftState, DriftVerdict, DriftView, FeatureDrift
from gpuwarden.model.evaluation import Cohort
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from tests.adapters.receiver import Receiver
from tests.aggregator.centre import Centre, Line
from tests.aggregator.pairs import eventually
from tests.aggregator.services_told import message, window
from tests.aggregator.test_evaluation_service import lately

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def centre_of(folder: Path, receiver: Receiver) -> Centre:
    retrain: Any = [
        {"service": "chat", "labels_min": 0, "webhook": {"url": receiver.url("/retrain")}}
    ]
    return Centre(folder / "centre", retrain=retrain)


def drifted(centre: Centre) -> None:
    """As the judge would say it."""
    wall = time.time()
    cohort = Cohort(service="chat", version="v1", segment="old")
    feature = FeatureDrift(feature="dose", state=DriftState.DRIFT, since_wall=wall)
    verdict = DriftVerdict(
        cohort=cohort,
        state=DriftState.DRIFT,
        since_wall=wall,
        at_wall=wall,
        features=(feature,),
        summary="dose has moved",
    )
    view = DriftView(serial=1, wall=wall, verdicts={cohort: verdict})
    follow = centre.parts.follow
    follow.closer.drift = follow.facts.drifts = lambda: view


def told(line: Line) -> list[pb.SamplingRaise]:
    while not any(each.sampling for each in line.directives):
        line.next()
    return [each for directive in line.directives for each in directive.sampling]


def test_a_closer_look_and_training_asked_for_once(tmp_path: Path, receiver: Receiver) -> None:
    with centre_of(tmp_path, receiver) as centre:
        line, other = centre.line("n1"), centre.line("n2")
        line.batch(windows=[message(window(lately(), [0.1] * 50), 1)])
        eventually(lambda: "chat" in centre.parts.evaluation.services.view.services, "it is known")
        drifted(centre)
        (raised,) = told(line)
        assert (raised.service, raised.segment, raised.times) == ("chat", "old", 4.0)
        eventually(lambda: len(receiver.requests) == 1, "whoever trains is asked")
        said = receiver.requests[0].json()
        assert said["evidence"][0]["detail"] == "dose"
        assert said["drift"][0]["summary"] == "dose has moved"

        def notes() -> str:
            asked = pb.ServiceReportRequest(service="chat")
            return " ".join(centre.evaluation().ServiceReport(asked).notes)

        eventually(
            lambda: "full training was asked for (HTTP 200)" in notes(), "it is in the report"
        )
        assert centre.parts.counters()["retrains_delivered"] == 1
        assert not any(each.sampling for each in other.directives)
        line.close()
        other.close()
    with centre_of(tmp_path, receiver) as again:
        drifted(again)
        follow = again.parts.follow
        eventually(lambda: follow.retrains.notes("chat") != [], "the next life has looked")
        assert len(receiver.requests) == 1
