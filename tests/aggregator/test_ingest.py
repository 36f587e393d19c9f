"""Streams of nodes: what is acknowledged is kept once, and abuse of one node is its own trouble."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gpuwarden.model.fleet import Role
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from gpuwarden.wire.v1.fleet_pb2_grpc import FleetServiceStub
from tests.aggregator.centre import Centre, event, incident, sample

Code = grpc.StatusCode


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with Centre(tmp_path) as serving:
        yield serving


def test_events_are_acknowledged_once_they_are_committed(centre: Centre) -> None:
    line = centre.line("n1")
    line.batch(events=[event(1), event(2, incident(closed_wall=1.7e9 + 5))])
    line.until_acked(2)
    (kept,) = centre.parts.store.incidents_named("n1", "inc-1", 5)
    assert kept.closed_wall == 1.7e9 + 5
    line.close()


def test_what_is_sent_again_has_its_effect_once(centre: Centre) -> None:
    line = centre.line("n1")
    line.batch(events=[event(1, incident(summary="first")), event(2, incident(summary="second"))])
    line.until_acked(2)
    line.close()
    again = centre.line("n1")
    assert again.next().ack.events_upto == 2
    again.batch(events=[event(1, incident(summary="first")), event(3, incident("inc-2"))])
    again.until_acked(3)
    (kept,) = centre.parts.store.incidents_named("n1", "inc-1", 5)
    assert node.Incident.FromString(kept.payload).summary == "second"
    again.close()


def test_a_node_that_lost_its_log_begins_another(centre: Centre) -> None:
    line = centre.line("n1")
    line.batch(events=[event(7)])
    line.until_acked(7)
    line.close()
    other = centre.line("n1", log_id="log-2")
    assert other.next().ack.events_upto == 0
    other.batch(events=[event(1, incident("inc-9"))])
    other.until_acked(1)
    assert centre.parts.store.incidents_named("n1", "inc-9", 5)
    other.close()


def test_what_was_acknowledged_outlives_a_restart(tmp_path: Path) -> None:
    with Centre(tmp_path) as first:
        line = first.line("n1")
        line.batch(events=[event(1), event(2)])
        line.until_acked(2)
        epoch = line.directives[0].epoch
    with Centre(tmp_path) as second:
        line = second.line("n1")
        assert line.next().ack.events_upto == 2
        assert line.directives[0].epoch == epoch + 1
        assert [g.node for g in second.parts.store.greetings()] == ["n1"]
        line.close()


def test_the_newest_stream_of_a_node_wins(centre: Centre) -> None:
    first = centre.line("n1")
    first.next()
    second = centre.line("n1")
    assert first.ended() is Code.ABORTED
    second.batch(events=[event(1)])
    second.until_acked(1)
    assert centre.parts.ingest.streams.replaced == 1
    second.close()


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        ({"node": "n2"}, Code.INVALID_ARGUMENT),
        ({"node": "../etc"}, Code.INVALID_ARGUMENT),
        ({"schema_version": 99}, Code.INVALID_ARGUMENT),
        ({"log_id": ""}, Code.INVALID_ARGUMENT),
        ({"boot_id": "x" * 200}, Code.INVALID_ARGUMENT),
        ({"wall": math.nan}, Code.INVALID_ARGUMENT),
        ({"group": "a b"}, Code.INVALID_ARGUMENT),
    ],
)
def test_a_wrong_hello_ends_the_stream(centre: Centre, hello: dict[str, Any], code: Code) -> None:
    assert centre.line("n1", **hello).ended() is code
    assert centre.parts.ingest.streams.by_node == {}


def test_a_stream_that_says_nothing_is_ended(tmp_path: Path) -> None:
    with Centre(tmp_path, ingest={"first_message_s": 0.2, "commit_s": 0.01}) as centre:
        over = threading.Event()
        channel = centre.channel(centre.credentials(Role.NODE, "n1"))
        call: Any = FleetServiceStub(channel).Attend(_silence(over))
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() is Code.DEADLINE_EXCEEDED
        over.set()
        channel.close()


def _silence(over: threading.Event) -> Iterator[pb.AttendRequest]:
    over.wait(30)
    yield from ()


def test_a_stream_that_falls_silent_is_ended(tmp_path: Path) -> None:
    with Centre(tmp_path, ingest={"idle_s": 0.3, "commit_s": 0.01}) as centre:
        assert centre.line("n1").ended() is Code.DEADLINE_EXCEEDED


def device(name: str = "GPU-0", **more: Any) -> pb.DeviceSample:
    return pb.DeviceSample(id=name, sight=node.SIGHT_OK, **more)


BAD: dict[str, dict[str, Any]] = {
    "sequence goes back": {"samples": [sample(2), sample(1)]},
    "event goes back": {"events": [event(5), event(5)]},
    "event zero": {"events": [event(0)]},
    "no body": {"events": [pb.FleetEvent(sequence=1, wall=1.7e9)]},
    "infinite": {"samples": [sample(1, wall=math.inf)]},
    "before 1970": {"samples": [sample(1, wall=-1.0)]},
    "no wall": {"samples": [sample(1, wall=math.nan)]},
    "sequence beyond all": {"samples": [sample(2**63)]},
    "incidents without end": {"samples": [sample(1, incidents_open=2**31)]},
    "withheld without end": {"samples": [sample(1, withheld_actions=2**31)]},
    "mode": {"samples": [sample(1, mode="chaos")]},
    "no sight": {"samples": [sample(1, devices=[pb.DeviceSample(id="G")])]},
    "severity": {"samples": [sample(1, findings=[pb.FindingSample(rule="x")])]},
    "too many devices": {"samples": [sample(1, devices=[device(f"G{n}") for n in range(200)])]},
    "empty submessages": {"samples": [sample(1, tenants=[pb.TenantSample()] * 600)]},
    "too many samples": {"samples": [sample(n) for n in range(1, 70)]},
    "ask of another kind": {"asks": [pb.PermitAsk(id="a", kind="kill", subject="node")]},
    "ask of no age": {
        "asks": [pb.PermitAsk(id="a", kind="cordon", subject="node", age_s=math.nan)]
    },
    "incident without id": {"events": [event(1, node.Incident(rule="x"))]},
    "long text": {"events": [event(1, incident(summary="x" * 5000))]},
}
SHOWN: dict[str, dict[str, Any]] = {
    "nan": {"samples": [sample(1, cpu_ratio=math.nan)]},
    "nan of a device": {"samples": [sample(1, devices=[device(power_w=math.nan)])]},
    "used beyond total": {"samples": [sample(1, devices=[device(total_bytes=1, used_bytes=2)])]},
    "same device twice": {"samples": [sample(1, devices=[device(), device()])]},
    "device without id": {"samples": [sample(1, devices=[device("")])]},
    "tenant on no device": {"samples": [sample(1, tenants=[pb.TenantSample(device=5)])]},
    "tenant beyond all bytes": {
        "samples": [sample(1, tenants=[pb.TenantSample(used_bytes=2**60)])]
    },
    "long name": {"samples": [sample(1, tenants=[pb.TenantSample(name="x" * 300)])]},
}


@pytest.mark.parametrize("what", SHOWN)
def test_what_no_node_would_say_is_shown_to_nobody(centre: Centre, what: str) -> None:
    line, query = centre.line("n1"), centre.query()
    line.batch(**SHOWN[what], events=[event(1)])
    line.until_acked(1)
    for _ in range(centre.cfg.ingest.malformed_max):
        (said,) = query.Nodes(pb.NodesRequest(with_sample=True)).nodes
        assert not said.HasField("sample")
    assert centre.parts.ingest.streams.malformed == 1
    line.close()


@pytest.mark.parametrize("what", BAD)
def test_what_no_node_would_say_is_refused_and_not_kept(centre: Centre, what: str) -> None:
    line, honest = centre.line("n1"), centre.line("n2")
    line.next()
    for _ in range(centre.cfg.ingest.malformed_max):
        line.batch(**BAD[what])
    assert line.ended() is Code.INVALID_ARGUMENT
    for _ in range(centre.cfg.ingest.malformed_max - 1):
        if centre.parts.ingest.streams.quarantines == 0:  # each such message ended its stream
            line = centre.line("n1")
            line.batch(**BAD[what])
            assert line.ended() is Code.INVALID_ARGUMENT
    assert centre.line("n1").ended() is Code.RESOURCE_EXHAUSTED  # kept out for a while
    honest.batch(events=[event(1)])
    honest.until_acked(1)
    assert centre.parts.store.incidents_named("n1", "", 5) == []
    assert centre.parts.ingest.streams.quarantines == 1
    honest.close()


def test_a_message_above_the_cap_ends_the_stream(centre: Centre) -> None:
    line = centre.line("n1")
    line.batch(events=[event(n, incident(summary="x" * 4000)) for n in range(1, 64)] * 2)
    assert line.ended() in (Code.RESOURCE_EXHAUSTED, Code.CANCELLED)


def test_too_many_messages_end_the_stream_and_no_others(tmp_path: Path) -> None:
    limits = {"messages_per_s": 1.0, "messages_burst": 5, "commit_s": 0.01}
    with Centre(tmp_path, ingest=limits) as centre:
        line, honest = centre.line("n1"), centre.line("n2")
        for number in range(1, 10):
            line.batch(samples=[sample(number)])
        assert line.ended() is Code.RESOURCE_EXHAUSTED
        honest.batch(events=[event(1)])
        honest.until_acked(1)
        honest.close()


def test_without_the_disk_nothing_is_acknowledged(centre: Centre) -> None:
    line = centre.line("n1")
    line.next()
    centre.parts.store.transaction = _broken  # type: ignore[method-assign]
    line.batch(events=[event(1)])
    assert line.ended() is Code.UNAVAILABLE
    assert line.events_upto == 0


def _broken() -> Any:
    raise OSError("no space left on device")


def test_leave_is_asked_for_and_given_once_it_is_on_disk(centre: Centre) -> None:
    line = centre.line("n1")
    line.batch(
        samples=[sample()],
        asks=[pb.PermitAsk(id="a1", kind="cordon", subject="GPU-0", incident="i", age_s=1)],
    )
    while not any(d.permits for d in line.directives):
        line.next()
    (permit,) = next(d for d in line.directives if d.permits).permits
    assert (permit.ask, permit.kind, permit.subject, permit.boot_id) == (
        *("a1", "cordon", "GPU-0"),
        "boot-1",
    )
    assert 0 < permit.ttl_s <= centre.cfg.permit.ttl_s
    assert [kept.permit.id for kept in centre.parts.store.ledger(time.time(), 60)] == [permit.id]
    line.close()


def test_leave_that_is_withheld_says_why(centre: Centre) -> None:
    line = centre.line("n1")
    ask = pb.PermitAsk(id="a1", kind="cordon", subject="GPU-0", incident="i", age_s=9999)
    line.batch(samples=[sample()], asks=[ask])
    while not any(d.refusals for d in line.directives):
        line.next()
    (refusal,) = next(d for d in line.directives if d.refusals).refusals
    assert (refusal.ask, refusal.budget) == ("a1", "stale")
    line.close()
