"""After a drift verdict nodes are asked for more predictions, for a while, and no longer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gpuwarden.aggregator.closer_look import AGAIN_S, HOLDS_S, CloserLook
from gpuwarden.config_evaluation import EvaluationConfig
from gpuwarden.model.drift import DriftState, DriftVerdict, DriftView
from gpuwarden.model.evaluation import Cohort
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from tests.aggregator.services_told import WALL, TestClock


class Nobody:
    def nodes(self, service: str, since_wall: float) -> frozenset[str]:
        return frozenset()


def verdict(segment: str = "old", since: float = WALL, **more: Any) -> DriftVerdict:
    values = {"state": DriftState.DRIFT, "at_wall": since, **more}
    cohort = Cohort(service="chat", version="v1", segment=segment)
    return DriftVerdict(cohort=cohort, since_wall=since, **values)


def made(**said: Any) -> tuple[CloserLook, Any]:
    clock: Any = TestClock()
    cfg = EvaluationConfig.model_validate({"review_raise_s": "1h", **said})
    view = DriftView(serial=0, wall=WALL)
    return CloserLook(cfg, lambda: view, Nobody(), clock, lambda node, told: True), clock


def told(look: CloserLook, *verdicts: DriftVerdict) -> Mapping[str, Iterable[pb.SamplingRaise]]:
    return look.wanted(verdicts)


def test_its_segment_is_raised_again_and_again_until_the_time_is_over() -> None:
    look, clock = made()
    (raised,) = told(look, verdict())["chat"]
    assert (raised.segment, raised.times, raised.for_s) == ("old", 4.0, HOLDS_S)
    clock.sleep(AGAIN_S - 1)
    assert told(look, verdict()) == {}
    clock.sleep(1)
    assert len(list(told(look, verdict())["chat"])) == 1
    clock.sleep(3500.0)
    (last,) = told(look, verdict())["chat"]
    assert 0 < last.for_s <= 40.0
    clock.sleep(100.0)
    assert told(look, verdict()) == {}
    assert look.raised == 1


def test_nothing_but_drift_raises_it() -> None:
    look, _ = made()
    others = [verdict(state=state) for state in DriftState if state is not DriftState.DRIFT]
    assert told(look, *others) == {}
    assert told(look, verdict(since=WALL + 100)) == {}
    assert told(made(review_times=1)[0], verdict()) == {}


def test_two_versions_of_a_segment_raise_it_once_and_their_number_is_bounded() -> None:
    look, _ = made()
    twice = [verdict(), verdict()]
    assert len(list(told(look, *twice)["chat"])) == 1
    many = [verdict(f"s{number}") for number in range(500)]
    assert len(list(told(look, *many)["chat"])) == 64
