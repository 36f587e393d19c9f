"""Observations over gRPC: the same words as over HTTP, by whoever the kernel says it is, and nobody else's."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest

from gpuwarden.adapters.observe_grpc import OBSERVATIONS_MAX, ObserveGrpc
from gpuwarden.adapters.observe_keeper import (
    OBSERVATIONS_A_SECOND,
    ObserveKeeper,
    tenants_of_pid,
)
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Unavailable
from gpuwarden.wire.convert_observation import from_observation
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.v1.evaluation_pb2_grpc import ObservationServiceStub
from gpuwarden.wire.v1.node_pb2 import SnapshotRequest
from gpuwarden.wire.v1.node_pb2_grpc import NodeServiceStub

WAIT_S = 10.0


class Heard:
    """What was passed on, and who carries what."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, list[object], int]] = []
        self.carries: str | None = "risk"
        self.asked: set[str] = set()

    def service_of(self, tenant: str) -> str | None:
        self.asked.add(tenant)
        return self.carries

    def take(self, service: str, rows: Sequence[object], lost: int) -> None:
        self.rows.append((service, list(rows), lost))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def door(tmp_path: Path, heard: Heard) -> Iterator[ObserveGrpc]:
    inner = tmp_path / "inner"
    inner.mkdir(mode=0o700)
    clock = SystemClock()
    keeper = ObserveKeeper(clock, heard.service_of, heard.take)
    made = ObserveGrpc(tmp_path / "grpc.sock", inner, clock, keeper)
    made.start()
    yield made
    made.close()


@pytest.fixture
def channel(tmp_path: Path, door: ObserveGrpc) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"unix:{tmp_path / 'grpc.sock'}") as made:
        yield made


@pytest.fixture
def stub(channel: grpc.Channel) -> ObservationServiceStub:
    return ObservationServiceStub(channel)


def refused(stub: ObservationServiceStub, request: pb.ObserveRequest) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as error:
        stub.Observe(request, timeout=WAIT_S)
    code = error.value.code()
    assert isinstance(code, grpc.StatusCode)
    return code


def test_every_word_of_an_observation_arrives_as_it_would_in_json() -> None:
    assert from_observation(pb.Observation()) == {}
    said = pb.Observation(
        latency_s=0.25,
        ok=False,
        features=[
            pb.Feature(name="age", value=0.0),
            pb.Feature(name="income"),
            pb.Feature(name="site", text="north"),
        ],
        prediction=pb.Answered(number=1.0),
        label=pb.Answered(flag=True),
        segment="old",
        arm="new",
        unit_id="u1",
        prediction_id="p1",
        confidence=0.0,
        score=4.0,
        cost=0.01,
        complaint=True,
        opt_out=False,
    )
    assert from_observation(said) == {
        "latency": 0.25,
        "ok": False,
        "features": {"age": 0.0, "income": None, "site": "north"},
        "prediction": 1.0,
        "label": True,
        "segment": "old",
        "arm": "new",
        "unit_id": "u1",
        "prediction_id": "p1",
        "confidence": 0.0,
        "score": 4.0,
        "cost": 0.01,
        "complaint": True,
        "opt_out": False,
    }
    assert {f.name for f in pb.Observation.DESCRIPTOR.fields} - {"latency_s"} <= set(
        from_observation(said)
    ), "a field that is new has to be read"
    assert from_observation(pb.Observation(label=pb.Answered())) == {"label": None}


def test_it_is_taken_for_the_service_that_the_kernel_says(
    stub: ObservationServiceStub, heard: Heard
) -> None:
    request = pb.ObserveRequest(observations=[pb.Observation(ok=True)], lost=3)
    assert stub.Observe(request, timeout=WAIT_S).taken == 1
    assert heard.rows == [("risk", [{"ok": True}], 3)]
    assert heard.asked == set(tenants_of_pid(os.getpid()))


def test_who_carries_nothing_is_refused_and_counted(
    stub: ObservationServiceStub, heard: Heard, door: ObserveGrpc
) -> None:
    heard.carries = None
    request = pb.ObserveRequest(observations=[pb.Observation(ok=True)])
    assert refused(stub, request) is grpc.StatusCode.PERMISSION_DENIED
    assert (heard.rows, door.refused) == ([], 1)
    heard.carries = "risk"
    assert stub.Observe(request, timeout=WAIT_S).taken == 1, "its label may come later"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (pb.ObserveRequest(lost=-1), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.ObserveRequest(lost=2**62), grpc.StatusCode.INVALID_ARGUMENT),
        (
            pb.ObserveRequest(observations=[pb.Observation()] * (OBSERVATIONS_MAX + 1)),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            pb.ObserveRequest(observations=[pb.Observation(segment="x" * 600_000)]),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
    ],
)
def test_hostile_messages(
    stub: ObservationServiceStub, heard: Heard, request_: pb.ObserveRequest, code: grpc.StatusCode
) -> None:
    assert refused(stub, request_) is code
    assert heard.rows == []
    assert stub.Observe(pb.ObserveRequest(), timeout=WAIT_S).taken == 0, "the next is heard"


def test_what_is_no_number_comes_as_it_is_for_the_judge_to_refuse() -> None:
    said = from_observation(pb.Observation(latency_s=math.nan, cost=math.inf))
    assert math.isnan(said["latency"])
    assert said["cost"] == math.inf


def test_a_service_may_say_so_much_a_second(
    stub: ObservationServiceStub, heard: Heard, door: ObserveGrpc
) -> None:
    request = pb.ObserveRequest(observations=[pb.Observation()] * OBSERVATIONS_MAX)
    codes = set()
    for _ in range(4 * OBSERVATIONS_A_SECOND // OBSERVATIONS_MAX):
        try:
            stub.Observe(request, timeout=WAIT_S)
        except grpc.RpcError as error:
            codes.add(error.code())
            break
    assert codes <= {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert heard.rows


def test_garbage_ends_its_own_connection_and_nobody_elses(
    tmp_path: Path, stub: ObservationServiceStub, heard: Heard
) -> None:
    with socket.socket(socket.AF_UNIX) as side:
        side.settimeout(WAIT_S)
        side.connect(str(tmp_path / "grpc.sock"))
        side.sendall(b"\x00\xff" * 5_000)
        while side.recv(4096):
            pass
    assert stub.Observe(pb.ObserveRequest(), timeout=WAIT_S).taken == 0


def test_nothing_else_is_served_there(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as error:
        NodeServiceStub(channel).Snapshot(SnapshotRequest(), timeout=WAIT_S)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_whoever_does_not_come_through_the_door_is_nobody(
    tmp_path: Path, door: ObserveGrpc, heard: Heard
) -> None:
    with grpc.insecure_channel(f"unix:{tmp_path / 'inner' / 'observe.sock'}") as inner:
        request = pb.ObserveRequest(observations=[pb.Observation(ok=True)])
        heard.carries = "risk"
        assert refused(ObservationServiceStub(inner), request) is grpc.StatusCode.PERMISSION_DENIED
    assert heard.rows == []


def test_a_socket_that_is_left_over_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir(mode=0o700)
    clock, heard = SystemClock(), Heard()
    keeper = ObserveKeeper(clock, heard.service_of, heard.take)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "a"))
    left.close()
    made = ObserveGrpc(tmp_path / "a", tmp_path / "inner", clock, keeper)
    made.start()
    made.close()
    (tmp_path / "b").write_text("mine")
    with pytest.raises(Unavailable):
        ObserveGrpc(tmp_path / "b", tmp_path / "inner", clock, keeper)
    assert (tmp_path / "b").read_text() == "mine"
