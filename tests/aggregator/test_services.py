"""Services judged on what all their nodes say together; what comes twice, late or wrong counts once or not."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.model.evaluation import Cohort, Colour, Missing
from gpuwarden.model.finding import Severity
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from tests.aggregator.services_told import (
    CHAT,
    LENGTH_S,
    WALL,
    WHOLE,
    Bench,
    bench,
    latencies,
    message,
    window,
)


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


def test_one_bad_node_in_forty_shows_in_the_true_p99(it: Bench) -> None:
    every: list[float] = []
    for number in range(200):
        values = latencies(0.9 if number % 40 == 0 else 0.05, 100, number)
        every += values
        it.tell(f"n{number:03}", message(window(values=values)))
    it.until(WALL + 15)
    line = it.services.lines["latency-p99", WHOLE]
    true = statistics.quantiles(every, n=100, method="inclusive")[98]
    assert line.verdict.value == pytest.approx(true, rel=0.011)
    assert line.verdict.colour is Colour.RED
    (claim,) = [c for c in it.services.claims() if c.key == "guardrail chat latency-p99"]
    assert claim.severity is Severity.ERROR
    # An average of the nodes' own would have said that all is well.
    mean = sum(0.9 if n % 40 == 0 else 0.05 for n in range(200)) * 2.2 / 200
    assert mean < 0.5


def test_what_comes_twice_or_in_another_order_counts_once(it: Bench) -> None:
    windows = [message(window(WALL - n * LENGTH_S, [0.1] * 10), 4 - n) for n in range(4)]
    it.tell("n1", *windows)
    it.tell("n1", *reversed(windows))
    it.tell("n1", windows[2])
    it.until(WALL + 1)
    requests = sum(w.counts["requests"] for w in it.picture.over([CHAT], 0.0))
    assert requests == 40
    assert it.services.counters()["service_windows_duplicate"] == 5
    assert it.services.counters()["service_windows"] == 4


def test_a_later_revision_takes_the_place_of_an_earlier_one(it: Bench) -> None:
    it.tell("n1", message(window(values=[0.1] * 10)))
    it.tell("n2", message(window(values=[0.2] * 5)))
    it.until(WALL + 1)
    it.tell("n1", message(window(values=[0.1] * 30, revision=2), 2))
    it.tell("n1", message(window(values=[0.1] * 20, revision=1), 3))
    it.until(WALL + 2)
    (whole,) = it.picture.over([CHAT], 0.0)
    assert whole.counts["requests"] == 35
    assert sum(whole.sketches["latency_s"].bins.values()) == 35


def test_a_revision_of_what_is_settled_is_late_and_a_node_that_was_not_there_is_not(
    it: Bench,
) -> None:
    it.tell("n1", message(window(values=[0.1] * 10)))
    it.until(WALL + 140, 10)
    it.tell("n1", message(window(values=[0.1] * 30, revision=1), 2))
    it.tell("n2", message(window(values=[0.1] * 7)))
    it.until(WALL + 141)
    assert it.services.counters()["service_windows_late"] == 1
    assert sum(w.counts["requests"] for w in it.picture.over([CHAT], 0.0)) == 17


def test_what_is_kept_is_acknowledged_and_not_before(it: Bench) -> None:
    it.tell("n1", message(window(values=[0.1]), 7), message(window(WALL - 10, [0.1]), 8))
    it.services.look()
    assert it.acks == [("n1", 1, 8)]
    it.committer.stop()
    it.tell("n1", message(window(WALL - 20, [0.1]), 9))
    it.until(WALL + 10)
    assert it.acks == [("n1", 1, 8)]


def test_a_window_that_is_refused_is_counted_and_takes_no_other_along(it: Bench) -> None:
    bad = message(window(values=[0.1]), 2)
    bad.counts[0].value = float("nan")
    it.tell("n1", message(window(WALL - 10, [0.1]), 1), bad, message(window(values=[0.2]), 3))
    it.until(WALL + 1)
    assert it.acks == [("n1", 1, 3)]
    assert it.services.counters()["service_windows_refused"] == 1
    assert it.services.counters()["service_windows"] == 2


def test_silence_is_unknown_and_told_and_over_when_it_speaks_again(it: Bench) -> None:
    it.tell("n1", message(window(values=[0.1] * 100)))
    it.until(WALL + 15)
    assert it.services.view.services["chat"].colour is Colour.GREEN
    it.until(WALL + 195, 5)
    standing = it.services.view.services["chat"]
    assert standing.colour is Colour.UNKNOWN
    assert standing.why == "no data"
    verdict = it.services.lines["latency-p99", WHOLE].verdict
    assert (verdict.colour, verdict.missing) == (Colour.UNKNOWN, Missing.NO_DATA)
    assert [c.key for c in it.services.claims()] == ["silent service chat"]
    assert it.services.claims()[0].severity is Severity.WARNING
    it.tell("n1", message(window(WALL + 190, [0.1] * 100), 2))
    it.until(WALL + 200)
    assert it.services.claims() == ()
    it.until(WALL + 200 + 86_500, 600)
    assert it.services.view.services == {}


def test_a_version_is_judged_beside_the_service(it: Bench) -> None:
    other = Cohort(service="chat", version="v2")
    it.tell("n1", message(window(values=latencies(0.05, 1000, 1))))
    it.tell("n2", message(window(values=[2.0] * 100, cohort=other)))
    it.until(WALL + 15)
    assert it.colour("latency-p99", CHAT) == "green"
    assert it.colour("latency-p99", other) == "red"
    assert it.colour("latency-p99") == "red"
    (claim,) = [c for c in it.services.claims() if "latency-p99" in c.key]
    assert "version v2" in claim.summary


def test_a_segment_is_judged_by_the_guardrails_that_ask_for_it(it: Bench) -> None:
    old = Cohort(service="chat", version="v1", segment="old-scanner")
    it.tell("n1", message(window(values=[0.05] * 5000)))
    it.tell("n1", message(window(values=[1.5] * 30, cohort=old), 2))
    it.until(WALL + 15)
    segment = Cohort(service="chat", segment="old-scanner")
    assert it.colour("latency-p99") == "green"
    assert it.colour("latency-p99", segment) == "red"
    assert it.colour("queue-length", segment) == "none"


def test_a_restart_goes_on_with_what_was_acknowledged(tmp_path: Path) -> None:
    with bench(tmp_path) as first:
        for n in range(3):
            first.tell("n1", message(window(WALL + n * LENGTH_S, [0.1] * 10), n + 1))
        first.until(WALL + 30)
        assert first.acks[-1] == ("n1", 1, 3)
    store = SqliteStore(tmp_path / "x.sqlite")
    second = Bench(store, "life-2")
    second.clock.at = WALL + 40
    # The last acknowledgement was lost on the way.
    second.tell(
        "n1", message(window(WALL + 20, [0.1] * 10), 3), message(window(WALL + 30, [0.1]), 4)
    )
    second.until(WALL + 45)
    assert sum(w.counts["requests"] for w in second.picture.over([CHAT], 0.0)) == 31
    assert second.services.counters()["service_windows_duplicate"] == 1
    # An hour later the minutes stand in the archive, each once, also for the next life.
    second.until(WALL + 3600, 20)
    assert sum(w.counts["requests"] for w in second.picture.over([CHAT], 0.0)) == 31
    second.close()
    third = Bench(store, "life-3")
    third.clock.at = WALL + 3700
    third.services.look()
    assert sum(w.counts["requests"] for w in third.picture.over([CHAT], 0.0)) == 31
    third.close()
    store.close()


def test_clocks_that_run_ahead_are_refused_beyond_a_minute(it: Bench) -> None:
    it.tell("n1", message(window(WALL + 60, [0.1])))
    it.tell("n2", message(window(WALL + 70, [0.1])))
    it.tell("n3", message(window(WALL - 2000, [0.1])))
    it.services.look()
    counters = it.services.counters()
    assert counters["service_windows"] == 2
    assert counters["service_windows_refused"] == 1
    it.until(WALL + 20)
    it.tell("n3", message(window(WALL - 2000, [0.1])))
    it.services.look()
    assert it.services.counters()["service_windows_late"] == 1


def test_nodes_say_of_themselves_what_is_told_once(it: Bench) -> None:
    said = pb.GuardrailVerdict(
        guardrail="latency-p99",
        cohort=pb.Cohort(service="chat", version="v1"),
        colour="red",
        since_wall=WALL,
        wall=WALL,
    )
    it.tell("n1", message(window(values=[1.0] * 100)), verdicts=[said])
    it.until(WALL + 5)
    (verdict,) = it.services.node_verdicts["n1"].values()
    assert verdict.colour is Colour.RED
    it.until(WALL + 1000, 50)
    assert it.services.node_verdicts == {}


def test_of_two_aggregators_that_took_the_same_window_one_keeps_it(it: Bench) -> None:
    other = Bench(it.store, "life-2", it)
    same = message(window(values=[0.1] * 10))
    for each in (it, other):
        each.services.look()
    for each, more in ((it, "n2"), (other, "n3")):
        each.tell("n1", same)
        each.tell(more, message(window(values=[0.2] * 5)))
    for _ in range(3):
        for each in (it, other):
            each.until(each.clock.at + 3)
    for each in (it, other):
        (whole,) = each.picture.over([CHAT], 0.0)
        assert whole.counts["requests"] == 20
    assert (it.picture.counts["given_up"], other.picture.counts["given_up"]) == (0, 1)


def test_what_does_not_fit_goes_the_oldest_first(tmp_path: Path) -> None:
    with bench(tmp_path, evaluation={"fine_mib": 8}) as it:
        values = [0.001 * 1.03**n for n in range(300)]
        for n in range(60):
            for cohort in range(20):
                told = window(WALL - 600 + n * 10, values, Cohort(service=f"s{cohort}"))
                it.tell("n1", message(told, n * 20 + cohort + 1))
        it.until(WALL + 10)
        assert it.services.counters()["service_windows_dropped"] > 0
        kept = it.picture.over([Cohort(service="s3")], 0.0)
        assert kept[-1].begin_wall == WALL - 10
        assert 0 < len(kept) < 60


def test_a_node_that_invents_services_crowds_out_nobody(it: Bench) -> None:
    made = [
        message(window(values=[0.1], cohort=Cohort(service=f"s{n}")), n + 1) for n in range(200)
    ]
    it.tell("n1", *made)
    it.tell("n2", message(window(values=[0.1] * 10)))
    it.services.look()
    assert it.services.counters()["service_windows_crowded"] == 200 - 128
    assert "chat" in it.services.view.services


def test_a_page_that_cannot_be_read_is_told_as_that(it: Bench) -> None:
    made = message(window(values=[]))
    made.counts.add(name="tokens", value=1.0)
    made.lacks.add(series="latency_s", why="unreadable", detail="10 MB of nothing")
    it.tell("n1", made)
    it.until(WALL + 15)
    verdict = it.services.lines["latency-p99", WHOLE].verdict
    assert (verdict.colour, verdict.missing) == (Colour.UNKNOWN, Missing.UNREADABLE)


def test_a_segment_that_falls_silent_is_unknown_and_does_not_vanish(it: Bench) -> None:
    old = Cohort(service="chat", version="v1", segment="old-scanner")
    segment = Cohort(service="chat", segment="old-scanner")
    for n in range(200):
        begin = WALL + n * LENGTH_S
        it.tell("n1", message(window(begin, [0.05] * 100), 2 * n + 1))
        if n < 5:
            it.tell("n2", message(window(begin, [0.05] * 100, old), 2 * n + 2))
        it.until(begin + LENGTH_S, 5)
        if n == 4:
            assert it.colour("latency-p99", segment) == "green"
    assert it.colour("latency-p99") == "green"
    assert it.colour("latency-p99", segment) == "unknown"
    assert it.services.lines["latency-p99", segment].verdict.missing is Missing.NO_DATA


def test_a_version_that_is_gone_is_judged_no_more(it: Bench) -> None:
    old = Cohort(service="chat", version="v0")
    it.tell("n1", message(window(values=[3.0] * 100, cohort=old)))
    for n in range(100):
        it.tell("n1", message(window(WALL + n * LENGTH_S, [0.05] * 100), n + 2))
        it.until(WALL + (n + 1) * LENGTH_S, 5)
    assert it.colour("latency-p99", old) == "none"
    assert it.services.view.services["chat"].versions == ("v1",)


def test_labels_that_come_late_count_when_they_come(tmp_path: Path) -> None:
    accuracy = {
        "name": "accuracy",
        "expression": "correct / labels",
        "limit": 0.9,
        "side": "below",
        "over_s": 600,
        "min_support": 100,
        "severity": "error",
    }
    with bench(tmp_path, guardrail=[accuracy]) as it:
        for n in range(90):
            begin = WALL + n * LENGTH_S
            # The answers to what was predicted ten minutes ago; since then the model is worse.
            answers = {"labels": 20.0, "correct": 14.0} if n >= 60 else {}
            counts = {"predictions": 20.0, **answers}
            it.tell("n1", message(window(begin, [0.05] * 20, counts=counts), n + 1))
            it.until(begin + LENGTH_S, 5)
            if n == 59:
                line = it.services.lines["accuracy", WHOLE]
                assert line.verdict.colour is Colour.UNKNOWN
        verdict = it.services.lines["accuracy", WHOLE].verdict
        assert verdict.colour is Colour.RED
        assert verdict.value == pytest.approx(0.7)
