"""Windows and verdicts of a node's services reach a real aggregator, through breaks, and count once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.adapters.window_spool import WindowSpool
from gpuwarden.clock import SystemClock
from gpuwarden.evaluate.fast.sketch import of
from gpuwarden.model.evaluation import Cohort, Colour, Verdict, Window
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from tests.adapters.test_uplink import Node, eventually, running
from tests.aggregator.centre import Centre

pytestmark = pytest.mark.timeout(120)
RISK = Cohort(service="risk", version="7", arm="canary", segment="old")


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with Centre(tmp_path / "centre") as serving:
        yield serving


def carried(node: Node, bytes_max: int = 1 << 20) -> WindowSpool:
    spool = WindowSpool(SystemClock().wall(), bytes_max)
    spool.stir = node.uplink.stir
    node.uplink.windows = spool
    return spool


def window(back: int, requests: float = 50.0) -> Window:
    """The one that began so many windows ago."""
    begin = SystemClock().wall() // 10 * 10 - 10 * back
    return Window(
        cohort=RISK,
        begin_wall=begin,
        length_s=10.0,
        counts={"requests": requests, "errors": 0.0},
        sketches={"latency_s": of([0.1] * 98 + [2.0, -1.0])},
    )


def verdict(colour: Colour) -> Verdict:
    now = SystemClock().wall()
    return Verdict(
        guardrail="objective",
        cohort=RISK,
        colour=colour,
        since_wall=now,
        at_wall=now,
        value=1.5,
        limit=0.5,
        summary="p99 is 1.5 s",
    )


def requests(centre: Centre) -> float:
    """What the aggregator knows of."""
    found = centre.evaluation().Services(pb.ServicesRequest()).services
    return float(sum(each.requests_per_s for each in found if each.service == "risk"))


def report(centre: Centre) -> Any:
    return centre.evaluation().ServiceReport(pb.ServiceReportRequest(service="risk"))


def test_windows_are_acknowledged_and_known_there(centre: Centre, tmp_path: Path) -> None:
    with running(centre, tmp_path / "n1") as node:
        spool = carried(node)
        for back in (3, 2, 1):
            spool.put(window(back), "docker:abc", ["GPU-1"])
        eventually(lambda: not spool.take(0, 100, 1 << 20), "all acknowledged")
        eventually(lambda: requests(centre) > 0, "the service is known")
        assert spool.dropped == 0


def test_what_was_told_while_the_aggregator_was_away_comes_when_it_is_back(
    tmp_path: Path,
) -> None:
    with Centre(tmp_path / "centre") as first, running(first, tmp_path / "n1") as node:
        eventually(lambda: node.uplink.connects, "first contact")
        port = first.address.rpartition(":")[2]
        spool = carried(node)
        first.stop()
        spool.put(window(2), "docker:abc", ["GPU-1"])
        spool.put(window(1), "docker:abc", ["GPU-1"])
        assert len(spool.take(0, 100, 1 << 20)) == 2
        listen = {"aggregator": {"listen": f"127.0.0.1:{port}"}}
        with Centre(tmp_path / "centre", **listen) as second:
            eventually(lambda: not spool.take(0, 100, 1 << 20), "all acknowledged")
            eventually(lambda: requests(second) > 0, "the service is known")


def test_the_nodes_own_word_is_shown_beside_the_aggregators(centre: Centre, tmp_path: Path) -> None:
    with running(centre, tmp_path / "n1") as node:
        spool = carried(node)
        spool.put(window(1), "docker:abc", ["GPU-1"])
        assert spool.say([verdict(Colour.RED)])
        told: list[int] = []

        def is_told() -> bool:
            version, waiting = spool.verdicts(0)
            told.append(version)
            session = node.uplink._session
            return bool(waiting) and session is not None and session.verdicts_told == version

        eventually(is_told, "the verdict has been sent")
        eventually(lambda: not spool.take(0, 100, 1 << 20), "the stream goes on")
        assert node.uplink.failures == 0
