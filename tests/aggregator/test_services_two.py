"""Two aggregators on one PostgreSQL have one picture of every service, each window in it once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpuwarden.wire.v1 import evaluation_pb2 as pb
from tests.aggregator.centre import Centre
from tests.aggregator.pairs import eventually, pair
from tests.aggregator.services_told import CHAT, LENGTH_S, latencies, message, window
from tests.aggregator.test_evaluation_service import lately, verdict

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]


def requests(centre: Centre) -> float:
    windows = centre.parts.evaluation.services.picture.over([CHAT], 0.0)
    return sum(w.counts["requests"] for w in windows)


def status(centre: Centre) -> Any:
    return centre.evaluation().ServiceStatus(pb.ServiceStatusRequest(service="chat"))


def judged(centre: Centre, colour: str) -> bool:
    known = centre.parts.evaluation.services.view.services
    return "chat" in known and verdict(status(centre), "latency-p99").colour == colour


def test_the_leader_judges_what_the_other_holds(tmp_path: Path) -> None:
    with pair(tmp_path) as (one, two, _):
        begin = lately()
        here, there = one.line("n1"), two.line("n2")
        here.batch(windows=[message(window(begin, latencies(0.05, 500, 1)))])
        there.batch(windows=[message(window(begin, [4.0] * 50))])
        for centre in (one, two):
            eventually(lambda c=centre: requests(c) == 550, "both have all of it")  # type: ignore[misc]
            eventually(lambda c=centre: judged(c, "red"), "both say so")  # type: ignore[misc]
        assert {s.standing.nodes for s in (status(one), status(two))} == {2}
        report = one.evaluation().ServiceReport(pb.ServiceReportRequest(service="chat"))
        red = next(r for r in report.verdicts if r.verdict.guardrail == "latency-p99")
        assert [part.node for part in red.nodes if part.is_bad] == ["n2"]
        claims = [c.key for c in one.parts.fleet.view.claims]
        eventually(
            lambda: "guardrail chat latency-p99" in [c.key for c in one.parts.fleet.view.claims],
            f"the leader tells people: {claims}",
        )
        here.close()
        there.close()


def test_a_node_that_moves_is_counted_once(tmp_path: Path) -> None:
    with pair(tmp_path) as (one, two, _):
        begin = lately()
        windows = [message(window(begin - n * LENGTH_S, [0.1] * 10), 3 - n) for n in range(3)]
        line = one.line("n1")
        line.batch(windows=windows[:2])
        while line.windows_upto < 3:
            line.next()
        # The acknowledgement was lost: all of it again, at the other.
        moved = two.line("n1")
        eventually(lambda: requests(two) == 20, "the other knows what it had")
        moved.batch(windows=windows)
        while moved.windows_upto < 3:
            moved.next()
        for centre in (one, two):
            eventually(lambda c=centre: requests(c) == 30, "each window once")  # type: ignore[misc]
        moved.close()


def test_of_two_that_took_the_same_one_keeps_it(tmp_path: Path) -> None:
    with pair(tmp_path) as (one, two, _):
        same = message(window(lately(), [0.1] * 10))
        lines = [one.line("n1"), two.line("n1")]
        for line in lines:  # at once: neither can know of the other
            line.batch(windows=[same])
        for centre in (one, two):
            eventually(lambda c=centre: requests(c) == 10, "once in the end")  # type: ignore[misc]
        for line in lines:
            line.close()


def test_another_that_leads_goes_on(tmp_path: Path) -> None:
    with pair(tmp_path) as (one, two, _):
        line = one.line("n1")
        line.batch(windows=[message(window(lately(), [4.0] * 50))])
        eventually(lambda: judged(two, "red"), "the other has it")
        one.stop()
        eventually(lambda: two.parts.evaluation.services.view.is_leader, "the other leads")
        assert requests(two) == 50
        eventually(
            lambda: "guardrail chat latency-p99" in [c.key for c in two.parts.fleet.view.claims],
            "it tells people",
        )
        line.close()
