"""Probes and fitness as messages and back."""

from gpuwarden.model.ids import TenantId
from gpuwarden.model.service import Fitness, ProbeKind, ProbeReading
from gpuwarden.wire.convert_fault import word
from gpuwarden.wire.fields import known, text, text_or_none
from gpuwarden.wire.v1 import node_pb2 as pb


def to_probe(reading: ProbeReading) -> pb.ProbeReading:
    return pb.ProbeReading(
        service=text(reading.service),
        kind=reading.kind.value,
        tenant=text_or_none(reading.tenant),
        is_well=reading.is_well,
        since=reading.since,
        failures=reading.failures,
        limit=reading.limit,
        every_s=reading.every_s,
        at=reading.at,
        detail=text(reading.detail),
    )


def from_probe(message: pb.ProbeReading) -> ProbeReading:
    return ProbeReading(
        service=message.service,
        kind=word(ProbeKind, message.kind),
        tenant=known(message, "tenant"),
        is_well=known(message, "is_well"),
        since=message.since,
        failures=message.failures,
        limit=message.limit,
        every_s=message.every_s,
        at=known(message, "at"),
        detail=message.detail,
    )


def to_ready(fitness: Fitness, schema_version: int) -> pb.ReadyResponse:
    return pb.ReadyResponse(
        schema_version=schema_version,
        name=text(fitness.name),
        is_fit=fitness.is_fit,
        service=text(fitness.service),
        tenant=text_or_none(fitness.tenant),
        reasons=[text(reason) for reason in fitness.reasons],
    )


def from_ready(message: pb.ReadyResponse) -> Fitness:
    tenant = known(message, "tenant")
    return Fitness(
        name=message.name,
        is_fit=message.is_fit,
        service=message.service,
        tenant=None if tenant is None else TenantId(tenant),
        reasons=tuple(message.reasons),
    )
