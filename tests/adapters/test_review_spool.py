"""Predictions on their way to the aggregator: within bytes, until they are acknowledged, and sent again if not."""

from __future__ import annotations

from gpuwarden.adapters.review_spool import AGAIN_S, RAISES_MAX, ReviewSpool
from gpuwarden.evaluate.quality.sampling import Prediction
from gpuwarden.wire.review_check import check_item
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.v1 import fleet_pb2

WALL = 1_700_000_000.0


def told(name: str, segment: str = "common", payload: str = "") -> Prediction:
    return Prediction(
        id=name,
        service="chat",
        version="v1",
        segment=segment,
        label="1",
        confidence=0.4,
        probabilities=(0.4, 0.6),
        opinions=("0",),
        at_wall=WALL,
        input=payload,
        is_random=True,
    )


def sent(spool: ReviewSpool, now: float = 0.0, max_bytes: int = 10**6) -> list[str]:
    batch = fleet_pb2.Batch()
    spool.fill(batch, max_bytes, now)
    return [each.prediction_id for each in batch.reviews]


def test_what_is_sent_is_what_the_aggregator_takes() -> None:
    spool = ReviewSpool(WALL)
    spool.put([told("a", payload="scan 7 \ud800")])
    batch = fleet_pb2.Batch()
    assert spool.fill(batch, 10**6, 0.0) > 0
    (item,) = batch.reviews
    check_item(item, WALL)
    assert (item.cohort.version, item.confidence, list(item.opinions)) == ("v1", 0.4, ["0"])
    assert (item.payload, item.is_random) == ("scan 7 ?", True)


def test_once_a_stream_until_it_is_acknowledged() -> None:
    spool = ReviewSpool(WALL)
    spool.put([told("a"), told("b")])
    assert sent(spool) == ["a", "b"]
    assert sent(spool) == []
    spool.begin()
    assert sent(spool) == ["a", "b"]
    spool.acknowledge(int(WALL * 1000) + 1)
    spool.begin()
    assert sent(spool) == ["b"]
    assert sent(spool, AGAIN_S - 1) == []
    assert sent(spool, AGAIN_S + 1) == ["b"]


def test_as_many_as_fit_a_message() -> None:
    spool = ReviewSpool(WALL)
    spool.put([told(f"{number:03}", payload="p" * 1000) for number in range(100)])
    assert sent(spool, max_bytes=3500) == ["000", "001", "002"]
    assert len(sent(spool)) == 64


def test_a_flood_costs_its_own_segment() -> None:
    spool = ReviewSpool(WALL, bytes_max=5000)
    spool.put([told("rare", "old")])
    spool.put([told(f"{number}", payload="p" * 200) for number in range(100)])
    assert spool.dropped > 70
    assert sent(spool)[0] == "rare"
    assert sent(ReviewSpool(WALL, bytes_max=10)) == []


def test_what_is_asked_for_is_bounded_in_time_number_and_size() -> None:
    spool = ReviewSpool(WALL)

    def ask(service: str, times: float = 4.0, for_s: float = 60.0) -> None:
        spool.heed([pb.SamplingRaise(service=service, times=times, for_s=for_s)], 100.0)

    for times, for_s in ((float("nan"), 1.0), (1e9, 1.0), (4.0, 1e12), (4.0, -1.0), (0.5, 1.0)):
        ask("chat", times, for_s)
    assert not spool.raises
    ask("chat")
    ask("chat", 8.0)
    assert [(r.service, r.times, r.until) for r in spool.raises] == [("chat", 8.0, 160.0)]
    for number in range(200):
        ask(f"s{number}")
    assert len(spool.raises) == RAISES_MAX
    spool.heed([], 1000.0)
    assert spool.raises == ()
