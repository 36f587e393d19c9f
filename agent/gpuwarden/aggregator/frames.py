"""Messages at the edge: a node's as bytes, of which some may wait a moment, and what it is answered."""

from collections.abc import Sequence
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


def samples_alone(message: pb.AttendRequest) -> Sequence[pb.Sample] | None:
    """Its samples, not too many, where nothing else is in it: nearly all messages are so, and this asks once
    what would else be asked of each part."""
    if message.WhichOneof("body") != "batch":
        return None
    fields = message.batch.ListFields()
    if len(fields) != 1 or fields[0][0].number != pb.Batch.SAMPLES_FIELD_NUMBER:
        return None
    samples: Sequence[pb.Sample] = fields[0][1]
    return samples if len(samples) <= check.SAMPLES_MAX else None


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
