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

from gpuwarden.aggregator.frames import is_of_samples, parsed, samples_alone
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


@given(
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=64),
    st.integers(0, 40),
)
def test_of_several_samples_the_newest_is_read_and_of_the_others_their_numbers(
    sequences: list[int], devices: int
) -> None:
    made = [sample(sequence) for sequence in sequences]
    made[-1].devices.extend(pb.DeviceSample(id=f"GPU-{n}", index=n) for n in range(devices))
    assert samples_alone(written(samples=made)) == (sequences[:-1], made[-1])


def test_a_number_that_is_not_written_first_is_found_all_the_same() -> None:
    mode_first = pb.Sample(mode="enforce").SerializeToString() + b"\x08\x07"
    batch = b"\x12" + bytes([len(mode_first)]) + mode_first
    data = b"\x12" + bytes([2 * len(batch)]) + 2 * batch
    assert samples_alone(data) == ([7], pb.Sample(sequence=7, mode="enforce"))


@pytest.mark.parametrize(
    "data",
    [
        written(samples=[sample(1)], events_dropped=1),
        written(samples=[sample(1)], asks=[ASK]),
        written(samples=[sample(1)]) + written(events=[event(1)]),
        written(samples=[sample(n + 1) for n in range(65)]),
        written(samples=[sample(1)])[:-1],
        written(),
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x12\x02\x12\x05",
    ],
)
def test_what_holds_anything_else_is_parsed_whole(data: bytes) -> None:
    assert samples_alone(data) is None


@given(st.integers(0, 400), st.binary(max_size=3))
def test_damaged_samples_are_refused_or_read_as_the_parser_reads_them(
    place: int, damage: bytes
) -> None:
    whole = bytearray(written(samples=[sample(1), sample(2), sample(3)]))
    whole[place : place + len(damage)] = damage
    data = bytes(whole)
    with contextlib.suppress(Refused):  # and nothing else
        if (found := samples_alone(data)) is not None:
            assert found[1] == parsed(data).batch.samples[-1]
