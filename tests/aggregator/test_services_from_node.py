"""What a node's agent writes is what the aggregator takes: windows and verdicts, as they leave the node's spool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.adapters.window_spool import WindowSpool
from gpuwarden.evaluate.fast.tally import Tally
from gpuwarden.model.evaluation import Colour, Lack, Missing, Verdict
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from tests.aggregator.services_told import CHAT, WALL, WHOLE, Bench, bench, latencies


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


def told(spool: WindowSpool) -> list[pb.ServiceWindow]:
    return [pb.ServiceWindow.FromString(data) for _, data in spool.take(0, 100, 10**6)]


def _seen(tally: Tally, many: int) -> None:
    for value in latencies(1.0, many, many):
        tally.count("requests")
        tally.value("latency_s", value)


def test_windows_and_verdicts_of_a_node_are_taken(it: Bench) -> None:
    spool, tally = WindowSpool(WALL), Tally()
    _seen(tally, 300)
    tally.level("gpu_utilization", 0.4)
    tally.lack(Lack(series="", why=Missing.UNREADABLE, detail="a part of the page"))
    spool.put(tally.window(CHAT, WALL, 10.0, 0), "t-1", ("GPU-a",))
    _seen(tally, 100)
    spool.put(tally.window(CHAT, WALL, 10.0, 1), "t-1", ("GPU-a",))
    spool.say(
        [
            Verdict(
                guardrail="objective",
                cohort=CHAT,
                colour=Colour.RED,
                since_wall=WALL,
                at_wall=WALL + 5,
                value=float("inf"),
                limit=0.5,
                missing=Missing.NO_DATA,
                severity="error",
            )
        ]
    )
    _, verdicts = spool.verdicts(-1)
    windows = told(spool)
    said = [pb.GuardrailVerdict.FromString(each) for each in verdicts]
    it.tell("n1", *windows, verdicts=said)
    it.until(WALL + 15)
    assert it.services.refused.total() == 0
    (whole,) = it.picture.over([CHAT], 0.0)
    assert whole.counts["requests"] == 400
    assert it.colour("latency-p99") == "red"
    assert it.acks[-1] == ("n1", 1, windows[-1].sequence)
    (verdict,) = it.services.node_verdicts["n1"].values()
    assert (verdict.colour, verdict.value) == (Colour.RED, None)
    assert it.services.lines["latency-p99", WHOLE].verdict.value is not None
