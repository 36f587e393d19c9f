"""Windows changed at random, byte by byte and field by field: refused or taken, and whatever is taken can be merged,
judged, explained, kept and read back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError

from gpuwarden.aggregator.service_causes import Causes
from gpuwarden.model.evaluation import Cohort
from gpuwarden.wire.convert_window import to_verdict
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.v1 import fleet_pb2
from tests.aggregator.services_told import WALL, Bench, bench, message, window
from tests.aggregator.test_hostile_messages import changed, mistaken
from tests.wire.test_window_check import message as full
from tests.wire.test_window_check import verdict as said

TOGETHER = 50


def honest() -> bytes:
    batch = fleet_pb2.Batch(windows=[full()], verdicts=[said()])
    return bytes(fleet_pb2.AttendRequest(batch=batch).SerializeToString())


@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_no_window_stops_the_others(tmp_path: Path, count: int) -> None:
    chance, data = random.Random(7), honest()
    with bench(tmp_path) as it:
        causes = Causes(it.services, it.store, it.clock, frozenset)
        for number in range(0, count, TOGETHER):
            for each in range(TOGETHER):
                odd = (changed if chance.random() < 0.5 else mistaken)(chance, data)
                _tell(it, f"n{(number + each) % 40}", odd)
            it.until(it.clock.at + 0.1)
            for line in list(it.services.lines.values())[:3]:
                causes.explain(line.verdict)
                to_verdict(line.verdict).SerializeToString()
        assert it.services.failures == 0
        counters = it.services.counters()
        assert counters["service_windows_refused"] > count / 10
        assert counters["service_windows"] > count / 100
        honest_one = Cohort(service="honest")
        it.tell("honest", message(window(WALL, [0.1] * 200, honest_one)))
        it.until(it.clock.at + 5)
        assert it.colour("latency-p99", honest_one) == "green"
        again = Bench(it.store, "life-2", it)
        again.services.look()
        assert again.services.failures == 0
        assert again.services.view.services.keys() == it.services.view.services.keys()


def _tell(it: Bench, node: str, data: bytes) -> None:
    try:
        batch = fleet_pb2.AttendRequest.FromString(data).batch
    except DecodeError:
        return
    windows: list[pb.ServiceWindow] = list(batch.windows)[:256]
    it.tell(node, *windows, verdicts=list(batch.verdicts)[:256])
