"""What of a node's messages may wait is told by their first bytes, whatever those are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.aggregator.frames import is_of_samples, parsed
from gpuwarden.errors import Refused
from gpuwarden.model.fleet import Role
from gpuwarden.wire.v1 import fleet_pb2 as pb
from tests.aggregator.centre import Centre, event, sample


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with Centre(tmp_path) as serving:
        yield serving


ASK = pb.PermitAsk(id="a", kind="cordon", subject="GPU-0")


def written(**batch: object) -> bytes:
    return pb.AttendRequest(batch=pb.Batch(**batch)).SerializeToString()  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 10, 60])
def test_samples_may_wait(count: int) -> None:
    assert is_of_samples(written(samples=[sample(n + 1) for n in range(count)]))
    assert is_of_samples(written(samples=[sample(1)], events_dropped=3))


@pytest.mark.parametrize(
    "data",
    [
        written(events=[event(1)], samples=[sample(1)]),
        written(events=[event(1)]),
        written(asks=[ASK]),
        written(),
        pb.AttendRequest(hello=pb.Hello(node="n" * 40)).SerializeToString(),
        b"",
        b"\x12",
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_nothing_else_may(data: bytes) -> None:
    assert not is_of_samples(data)


@given(st.binary(max_size=64))
def test_any_bytes_are_answered_for(data: bytes) -> None:
    if is_of_samples(data):
        assert data[:1] == b"\x12"
    with contextlib.suppress(Refused):  # and nothing else
        parsed(data)


def test_case_34_what_cannot_be_parsed_counts_as_malformed_and_keeps_the_node_out(
    centre: Centre,
) -> None:
    own = centre.credentials(Role.NODE, "n1")
    channel = centre.channel(own)
    method = "/gpuwarden.wire.v1.FleetService/Attend"
    hello = pb.AttendRequest(hello=pb.Hello(schema_version=1, node="n1", boot_id="b", log_id="l"))
    garbage = [b"\xff" * 40, b"\x12\x80", b"\x0a\x05ab"]
    stream: Any = channel.stream_stream  # the stubs want serializers; these are bytes
    call = stream(method)(iter([hello.SerializeToString(), *garbage]))
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "no message of ours" in str(caught.value.details())
    assert centre.parts.counters()["malformed"] == 3
    channel.close()
