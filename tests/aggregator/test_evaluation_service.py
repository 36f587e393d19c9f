"""Services end to end: nodes tell over gRPC, people and pipelines ask."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.v1 import fleet_pb2
from gpuwarden.wire.v1 import node_pb2 as node
from tests.aggregator.centre import Centre, event
from tests.aggregator.pairs import eventually
from tests.aggregator.services_told import CHAT, LENGTH_S, latencies, message, window

pytestmark = pytest.mark.timeout(120)
V2: dict[str, Any] = {"service": "chat", "version": "v2"}


def lately() -> float:
    """The begin of the newest window that is whole."""
    return time.time() // LENGTH_S * LENGTH_S - LENGTH_S


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with Centre(tmp_path / "centre") as serving:
        yield serving


def status(centre: Centre, service: str = "chat") -> Any:
    return centre.evaluation().ServiceStatus(pb.ServiceStatusRequest(service=service))


def known(centre: Centre, service: str = "chat") -> bool:
    found = centre.evaluation().Services(pb.ServicesRequest()).services
    return any(each.service == service for each in found)


def verdict(said: Any, guardrail: str, **cohort: str) -> Any:
    wanted = pb.Cohort(**{"service": "chat", **cohort})
    return next(v for v in said.verdicts if v.guardrail == guardrail and v.cohort == wanted)


def test_the_true_p99_of_two_hundred_nodes_and_the_bad_ones_by_name(centre: Centre) -> None:
    begin, every = lately(), []
    bad = {f"n{number:03}" for number in range(0, 200, 40)}
    lines = []
    for number in range(200):
        name = f"n{number:03}"
        values = latencies(0.9 if name in bad else 0.05, 60, number)
        every += values
        line = centre.line(name)
        line.batch(windows=[message(window(begin, values), devices=["GPU-a"], tenant="t")])
        lines.append(line)
    eventually(lambda: known(centre) and status(centre).standing.nodes == 200, "all nodes told")
    eventually(
        lambda: verdict(status(centre), "latency-p99").colour == "red", "what they say is judged"
    )
    true = statistics.quantiles(every, n=100, method="inclusive")[98]
    assert verdict(status(centre), "latency-p99").value == pytest.approx(true, rel=0.011)

    def red() -> Any:
        report = centre.evaluation().ServiceReport(pb.ServiceReportRequest(service="chat"))
        return next(r for r in report.verdicts if r.verdict.guardrail == "latency-p99")

    eventually(lambda: red().cause.kind == "none", "every node's incidents are known")
    assert {part.node for part in red().nodes if part.is_bad} == bad
    assert "Of 200 nodes 5 are bad" in red().narrative
    assert "GPU cause ruled out" in red().narrative
    for line in lines:
        line.close()


def test_a_neighbour_on_the_devices_is_named_and_no_version_blamed(centre: Centre) -> None:
    line = centre.line("n1")
    line.batch(windows=[message(window(lately(), [2.0] * 100), devices=["GPU-0"], tenant="chat-1")])
    told = node.Incident(
        id="inc-9",
        rule="quota",
        summary="over its quota by 20 GiB",
        opened_wall=time.time() - 20,
        device="GPU-0",
        tenant="3f",
        tenant_name="batch-job",
    )
    line.batch(events=[event(1, told)])
    line.until_acked(1)

    def cause() -> Any:
        report = centre.evaluation().ServiceReport(pb.ServiceReportRequest(service="chat"))
        return next(r for r in report.verdicts if r.verdict.guardrail == "latency-p99")

    eventually(lambda: known(centre) and cause().cause.kind == "neighbour", "it is found")
    assert cause().cause.tenant == "batch-job"
    assert "neighbour batch-job" in cause().narrative
    assert "no version is to blame" in cause().narrative
    line.close()


def test_windows_are_acknowledged_and_a_bad_one_ends_no_stream(centre: Centre) -> None:
    line = centre.line("n1")
    bad = message(window(lately(), [0.1]), 2)
    bad.begin_wall += 1.5
    good = message(window(lately(), [0.1] * 5), 1)
    line.batch(windows=[good, bad, message(window(lately() - LENGTH_S, [0.1]), 3)])
    while line.windows_upto < 3:
        line.next()
    for number in range(4, 12):  # more than a node may be wrong otherwise
        line.batch(windows=[pb.ServiceWindow(sequence=number)])
    while line.windows_upto < 11:
        line.next()
    counters = centre.parts.evaluation.services.counters()
    assert counters["service_windows_refused"] == 9
    assert counters["service_windows"] == 2
    line.close()


def test_too_many_in_one_message_are_no_message(centre: Centre) -> None:
    line = centre.line("n1")
    line.batch(windows=[pb.ServiceWindow(sequence=n) for n in range(1, 300)])
    eventually(lambda: centre.parts.ingest.streams.malformed == 1, "it is refused")
    line.close()


def test_a_pipeline_is_told_pass_fail_or_not_enough(centre: Centre) -> None:
    line, gate = centre.line("n1"), centre.evaluation().Gate
    assert gate(pb.GateRequest(**V2)).result == "not-enough-data"
    fast = message(window(lately(), latencies(0.05, 500, 1)))
    few = message(window(lately(), [0.05] * 30, cohort=_version("v2")), 2)
    slow = message(window(lately(), [3.0] * 200, cohort=_version("v3")), 3)
    line.batch(windows=[fast, few, slow])
    eventually(lambda: gate(pb.GateRequest(service="chat", version="v1")).result == "pass", "v1")
    said = gate(pb.GateRequest(**V2))
    assert (said.result, list(said.reasons)) == (
        "not-enough-data",
        ["30 requests, 100 are needed"],
    )
    assert gate(pb.GateRequest(**V2, min_requests=20)).result == "pass"
    eventually(lambda: gate(pb.GateRequest(service="chat", version="v3")).result == "fail", "v3")
    said = gate(pb.GateRequest(service="chat", version="v3"))
    assert "latency-p99" in said.reasons[0]
    assert gate(pb.GateRequest(service="chat", version="v9")).result == "not-enough-data"
    line.close()


def _version(name: str) -> Any:
    return type(CHAT)(service="chat", version=name)


def test_labels_are_joined_by_prediction_each_once(centre: Centre) -> None:
    stub = centre.evaluation()
    yes: dict[str, Any] = {"version": "v1", "prediction": "yes", "positive": "yes"}
    entries = [
        pb.LabelEntry(prediction_id="p1", label="yes", **yes),
        pb.LabelEntry(prediction_id="p2", label="no", **yes),
        pb.LabelEntry(prediction_id="p3", label="yes"),
        pb.LabelEntry(prediction_id="p1", label="yes", **yes),
        pb.LabelEntry(prediction_id="", label="yes"),
        pb.LabelEntry(prediction_id="p4"),
        pb.LabelEntry(prediction_id="p5", is_complaint=True, version="v1"),
    ]
    eventually(lambda: centre.parts.evaluation.services.view.is_leader, "somebody leads")
    said = stub.SubmitLabels(pb.SubmitLabelsRequest(service="chat", entries=entries))
    assert (said.counted, said.waiting, said.known) == (3, 1, 1)
    assert [each.index for each in said.refused] == [4, 5]
    late = pb.LabelEntry(prediction_id="p3", **{**yes, "prediction": "no"})
    again = stub.SubmitLabels(pb.SubmitLabelsRequest(service="chat", entries=[late]))
    assert (again.counted, again.known) == (1, 0)
    windows = centre.parts.evaluation.services.picture.over([CHAT], 0.0)
    sums = {
        name: sum(w.counts.get(name, 0) for w in windows)
        for name in ("labels", "correct", "false_positives", "false_negatives", "complaints")
    }
    assert sums == {
        "labels": 3,
        "correct": 1,
        "false_positives": 1,
        "false_negatives": 1,
        "complaints": 1,
    }
    report = stub.ServiceReport(pb.ServiceReportRequest(service="chat"))
    numbers = {each.what: each.value for each in report.numbers}
    # One right, one called yes and one missed: precision, recall and F1 are a half.
    assert numbers["accuracy"] == pytest.approx(1 / 3)
    assert (numbers["precision"], numbers["recall"], numbers["F1"]) == (0.5, 0.5, 0.5)
    assert numbers["business score"] == pytest.approx(0.6 * 0.5 - 0.4 * 0.5)
    lines = [each for each in centre.parts.store.audit_lines(0, 99) if each.what == "labels"]
    assert [each.detail for each in lines] == [
        "service chat: 5 entries, 3 counted",
        "service chat: 1 entries, 1 counted",
    ]


def test_services_come_in_pages_and_by_colour(centre: Centre) -> None:
    line, stub = centre.line("n1"), centre.evaluation()
    told = [
        message(window(lately(), [0.05] * 100, cohort=type(CHAT)(service=f"s{n}")), n + 1)
        for n in range(5)
    ]
    line.batch(windows=told)
    eventually(lambda: stub.Services(pb.ServicesRequest()).total == 5, "all are known")
    names, token = [], ""
    while True:
        page = stub.Services(pb.ServicesRequest(page_size=2, page_token=token))
        names += [each.service for each in page.services]
        token = page.next_page_token
        if not token:
            break
    assert names == ["s0", "s1", "s2", "s3", "s4"]
    assert stub.Services(pb.ServicesRequest(prefix="s3")).total == 1
    assert stub.Services(pb.ServicesRequest(colours=["red"])).total == 0
    for request in (pb.ServicesRequest(colours=["blue"]), pb.ServicesRequest(page_token="x")):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Services(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    line.close()


def test_what_was_never_told_is_not_found(centre: Centre) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        status(centre, "nobody")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_whoever_watches_hears_of_changes(centre: Centre) -> None:
    watch = centre.evaluation().WatchServices(pb.WatchServicesRequest())
    assert not next(watch).services
    line = centre.line("n1")
    line.batch(windows=[message(window(lately(), [3.0] * 100))])
    for said in watch:
        if any(each.colour == "red" for each in said.services):
            break
    watch.cancel()
    line.close()


def test_a_red_service_is_a_claim_of_the_fleet(centre: Centre) -> None:
    line = centre.line("n1")
    line.batch(windows=[message(window(lately(), [3.0] * 100))])

    def keys() -> set[str]:
        said = centre.query().Status(fleet_pb2.StatusRequest())
        return {each.key for each in said.findings}

    eventually(lambda: "guardrail chat latency-p99" in keys(), "the fleet's status says so")
    line.close()


def test_a_label_finds_its_prediction_after_the_aggregator_that_heard_it_is_gone(
    tmp_path: Path,
) -> None:
    yes: dict[str, Any] = {"version": "v1", "prediction": "yes"}
    told = [
        pb.LabelEntry(prediction_id="p1", **yes),
        pb.LabelEntry(prediction_id="p2", label="yes", **yes),
        pb.LabelEntry(prediction_id="p3", label="yes"),
    ]
    later = [
        pb.LabelEntry(prediction_id="p1", label="no"),
        pb.LabelEntry(prediction_id="p2", label="yes"),
        pb.LabelEntry(prediction_id="p3", **yes),
        pb.LabelEntry(prediction_id="p4", label="yes"),
    ]
    answers = []
    for entries in (told, later):
        with Centre(tmp_path / "centre") as centre:
            services = centre.parts.evaluation.services
            eventually(lambda: services.view.is_leader, "somebody leads")  # noqa: B023
            request = pb.SubmitLabelsRequest(service="chat", entries=entries)
            said = centre.evaluation().SubmitLabels(request)
            answers.append((said.counted, said.waiting, said.known))
    assert answers == [(1, 2, 0), (2, 1, 1)]
