"""Messages at the edge: a node's as bytes, of which some may wait a moment, and what it is answered."""

from typing import Any

import grpc
from google.protobuf.message import DecodeError

from gpuwarden.errors import Refused
from gpuwarden.model.fleet import Denial, Permit
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1.fleet_pb2_grpc import FleetServiceServicer

SAMPLES_MIN_BYTES = 16
LENGTH_BYTES_MAX = 5
BATCH_TAG = pb.AttendRequest.BATCH_FIELD_NUMBER << 3 | 2
SAMPLES_TAG = pb.Batch.SAMPLES_FIELD_NUMBER << 3 | 2
SEQUENCE_TAG = pb.Sample.SEQUENCE_FIELD_NUMBER << 3
NUMBER_BYTES_MAX = 9
"""As they are written: number and wire type of a field."""


def parsed(data: bytes) -> pb.AttendRequest:
    """What it says; ``Refused`` when that cannot be read."""
    try:
        return pb.AttendRequest.FromString(data)
    except DecodeError as error:
        raise Refused("this is no message of ours") from error


def is_of_samples(data: bytes) -> bool:
    """Whether the first thing in a message is a sample: nothing in it is urgent. Events are written before
    samples, and nodes send wishes apart from them; a message that does not is only looked at later."""
    place = 1
    if len(data) < SAMPLES_MIN_BYTES or data[0] != BATCH_TAG:
        return False
    while data[place] & 0x80 and place < LENGTH_BYTES_MAX:
        place += 1
    return data[place + 1] == SAMPLES_TAG


def samples_alone(data: bytes) -> tuple[list[int], pb.Sample] | None:
    """The numbers of a message's older samples and its newest, where nothing but samples is in it, not too many:
    nearly all messages are so, and only the newest has to be read. None: parse the message; ``Refused`` when a sample
    cannot be read."""
    places = _samples(data)
    if not places:
        return None
    *older, newest = places
    return [_sequence(sample) for sample in older], _read(newest)


def _samples(data: bytes) -> list[memoryview] | None:
    """Each as it is written; None: it is not like that."""
    try:
        end, place = _number(data, 1)
        if end + place != len(data) or data[0] != BATCH_TAG:
            return None
        found: list[memoryview] = []
        view = memoryview(data)
        while place < len(data):
            if data[place] != SAMPLES_TAG or len(found) == check.SAMPLES_MAX:
                return None
            size, place = _number(data, place + 1)
            found.append(view[place : place + size])
            place += size
    except IndexError:
        return None
    return found if place == len(data) else None


def _sequence(sample: memoryview) -> int:
    """Its number, without reading the rest of it where that is written first, as nodes write it."""
    if len(sample) > NUMBER_BYTES_MAX and sample[0] == SEQUENCE_TAG:
        return _number(sample, 1)[0]
    return _read(sample).sequence


def _read(sample: memoryview) -> pb.Sample:
    try:
        return pb.Sample.FromString(sample)  # type: ignore[arg-type]  # any buffer will do
    except DecodeError as error:
        raise Refused("this is no message of ours") from error


def _number(data: bytes | memoryview, place: int) -> tuple[int, int]:
    """A number as it is written (base 128, lowest digit first), and the place behind it."""
    value = shift = 0
    while (digit := data[place]) & 0x80:
        value |= (digit & 0x7F) << shift
        shift += 7
        place += 1
        if shift >= 7 * NUMBER_BYTES_MAX:
            raise IndexError
    return value | digit << shift, place + 1


def answer_of(permits: list[Permit], denials: list[Denial], now: float) -> pb.Directive:
    """What became of what a node asked, as it is told."""
    return pb.Directive(
        permits=[
            pb.Permit(
                id=permit.id,
                ask=permit.ask,
                kind=permit.kind,
                subject=permit.subject,
                boot_id=permit.boot_id,
                ttl_s=max(0.0, permit.expires_at - now),
            )
            for permit in permits
        ],
        refusals=[
            pb.PermitRefusal(ask=denial.ask, budget=denial.budget, detail=denial.detail)
            for denial in denials
        ],
    )


def add_to_server(ingest: FleetServiceServicer, server: Any) -> None:
    """The service with its stream as bytes: parsing is a part of looking at messages together, and what
    cannot be parsed is the node's mistake, counted as one."""
    handlers = {
        "Attend": grpc.stream_stream_rpc_method_handler(
            ingest.Attend, response_serializer=pb.AttendResponse.SerializeToString
        ),
        "Renew": grpc.unary_unary_rpc_method_handler(
            ingest.Renew,
            request_deserializer=pb.RenewRequest.FromString,
            response_serializer=pb.RenewResponse.SerializeToString,
        ),
    }
    name = pb.DESCRIPTOR.services_by_name["FleetService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
