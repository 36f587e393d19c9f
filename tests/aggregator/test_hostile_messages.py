"""Cases 34 and 35: what a node that was taken over may send. Nothing but a refusal comes of it, and little memory."""

from __future__ import annotations

import random
import resource
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from gpuwarden.errors import Refused
from gpuwarden.wire import convert_fleet as convert
from gpuwarden.wire import convert_fleet_node as convert_node
from gpuwarden.wire.convert_policy import from_policy_report
from gpuwarden.wire.fleet_check import MESSAGE_MAX_BYTES
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from tests.aggregator.centre import Centre, event, sample
from tests.sample_view import incident, view

SEED = 34


def honest() -> list[bytes]:
    """Messages as a real node writes them: what is changed in them is still close to what is expected."""
    told = view()
    full = convert_node.to_sample(told, 1, 0)
    batch = pb.Batch(
        samples=[full],
        events=[
            pb.FleetEvent(sequence=1, wall=1.7e9, note="hello"),
            event(2, node.Incident(id="inc-1", rule="quota", summary="over", opened_wall=1.7e9)),
            pb.FleetEvent(sequence=3, wall=1.7e9, order=pb.OrderResult(order="o", is_done=True)),
        ],
        asks=[pb.PermitAsk(id="a", kind="cordon", subject="node", age_s=1.0)],
        policy=pb.PolicyReport(version=3),
    )
    hello = pb.Hello(schema_version=1, node="n1", boot_id="b", log_id="l", wall=1.7e9)
    return [
        pb.AttendRequest(batch=batch).SerializeToString(),
        pb.AttendRequest(hello=hello).SerializeToString(),
    ]


def changed(chance: random.Random, data: bytes) -> bytes:
    """Some bytes flipped, put in, taken out or said again; now and then cut short."""
    raw = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(raw)) if raw else 0
        kind = chance.randrange(5)
        if kind == 0 and raw:
            raw[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            raw[at:at] = chance.randbytes(chance.randint(1, 8))
        elif kind == 2:
            del raw[at : at + chance.randint(1, 8)]
        elif kind == 3:
            raw[at:at] = raw[at : at + chance.randint(1, 64)]
        else:
            raw[at : at + 1] = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"  # the largest number
    return bytes(raw[: chance.randint(0, len(raw))] if chance.random() < 0.1 else raw)


STRANGE: dict[int, tuple[object, ...]] = {
    FieldDescriptor.CPPTYPE_STRING: ("", "x" * 5000, "\0", "a\nb", "\u202eab", "n1", "inc-1"),
    FieldDescriptor.CPPTYPE_DOUBLE: (float("nan"), float("inf"), -1.0, 1e300, 5e-324),
    FieldDescriptor.CPPTYPE_FLOAT: (float("nan"), float("inf"), -1.0),
    FieldDescriptor.CPPTYPE_UINT64: (0, 1, 2**64 - 1, 2**63),
    FieldDescriptor.CPPTYPE_UINT32: (0, 1, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (0, -1, 2**63 - 1, -(2**63)),
    FieldDescriptor.CPPTYPE_INT32: (0, -1, 2**31 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 99),
    FieldDescriptor.CPPTYPE_BOOL: (True, False),
}


def mistaken(chance: random.Random, data: bytes) -> bytes:
    """The same message with one field, anywhere in it, that says something else, or says it too often."""
    message: Any = pb.AttendRequest.FromString(data)
    whole = message
    while True:
        field = chance.choice(message.DESCRIPTOR.fields)
        value = getattr(message, field.name)
        is_message = field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
        if field.is_repeated:
            if is_message and len(value) and chance.random() < 0.7:
                message = chance.choice(value)
                continue
            if is_message:
                for _ in range(chance.choice((1, 40, 500))):
                    value.add()
            elif field.cpp_type in STRANGE:
                value.extend(list(STRANGE[field.cpp_type]) * chance.choice((1, 40)))
        elif is_message:
            if message.HasField(field.name) and chance.random() < 0.9:
                message = value
                continue
            message.ClearField(field.name)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            setattr(message, field.name, chance.randbytes(chance.choice((0, 10, 5000))))
        else:
            setattr(message, field.name, chance.choice(STRANGE[field.cpp_type]))
        return bytes(whole.SerializeToString())


def taken(data: bytes) -> str:
    """What becomes of a message, by everything that reads one; anything but these words is a crash."""
    try:
        message = pb.AttendRequest.FromString(data)
    except DecodeError:
        return "unreadable"
    try:
        if message.WhichOneof("body") == "hello":
            convert.from_hello(message.hello, "n1")
            return "taken"
        batch = message.batch
        convert.check_batch(batch)
        if batch.HasField("policy"):
            from_policy_report(batch.policy)
        for ask in batch.asks:
            convert.from_ask(ask)
        last = 0
        for each in batch.events:
            last = convert.from_event(each, last).sequence
        last = 0
        for shown in batch.samples:
            last = convert.from_sample(shown, last).sequence
            convert.check_shown(shown)
    except Refused:
        return "refused"
    return "taken"


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_case_34_changed_messages_are_refused_and_crash_nothing(count: int) -> None:
    chance, originals = random.Random(SEED), honest()
    assert [taken(each) for each in originals] == ["taken", "taken"]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = Counter(
        taken(chance.choice((changed, mistaken))(chance, chance.choice(originals)))
        for _ in range(count)
    )
    assert min(found[word] for word in ("unreadable", "refused", "taken")) > count // 100, found
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 50 * 1024


def amplified() -> dict[str, bytes]:
    """As large as a message may be, and as much in it as fits."""
    most = MESSAGE_MAX_BYTES - 64
    deep = b""
    while len(deep) < 5000:  # a field of unknown number, in itself, in itself
        deep = b"\xfa\x3f" + _length(len(deep)) + deep
    empty = b"\x12\x00"
    names = b"\n\x01x" * (most // 3)
    return {
        "empty samples": _batch(2, b"\x00" * 0, most),
        "empty events": _batch(1, b"", most),
        "empty asks": _batch(3, b"", most),
        "unknown fields": b"\x12" + _length(most // 4 * 4) + b"\xfa\x3f\x01x" * (most // 4),
        "one unknown field of all": b"\x12"
        + _length(most)
        + b"\xfa\x3f"
        + _length(most - 5)
        + b"x" * (most - 5),
        "depth": b"\x12" + _length(len(deep)) + deep,
        "bodies": empty * (most // 2),
        "names": b"\n" + _length(len(names)) + names,
    }


def _length(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _batch(field: int, body: bytes, most: int) -> bytes:
    piece = bytes([field << 3 | 2]) + _length(len(body)) + body
    inner = piece * (most // len(piece))
    return b"\x12" + _length(len(inner)) + inner


@pytest.mark.parametrize("name", amplified())
def test_case_35_the_largest_messages_take_little_memory(name: str) -> None:
    data = amplified()[name]
    assert len(data) <= MESSAGE_MAX_BYTES
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5):
        assert taken(data) in ("unreadable", "refused", "taken")
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 25 * 1024


def test_case_34_a_node_gone_mad_is_kept_out_and_the_others_are_served(tmp_path: Path) -> None:
    with Centre(tmp_path, ingest={"commit_s": 0.01, "malformed_max": 3}) as centre:
        mad, honest_one = centre.line("mad"), centre.line("n2")
        for number in range(6):
            mad.batch(samples=[sample(sequence=5 - number)])
        assert mad.ended() is grpc.StatusCode.INVALID_ARGUMENT
        honest_one.batch(samples=[sample()], events=[event(1)])
        honest_one.until_acked(1)
        assert centre.parts.ingest.streams.quarantines == 1
        honest_one.close()


def test_incidents_as_nodes_tell_them_are_read_back() -> None:
    """The changes above start from what is taken whole."""
    told = replace(incident(), steps=())
    message = pb.FleetEvent(sequence=1, wall=told.opened_wall)
    assert (
        taken(pb.AttendRequest(batch=pb.Batch(events=[message])).SerializeToString()) == "refused"
    )
