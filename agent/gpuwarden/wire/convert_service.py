"""Probes and fitness as messages and back."""

from gpuwarden.model.ids import TenantId
from gpuwarden.model.rollback import Recorded
from gpuwarden.model.service import Fitness, ProbeKind, ProbeReading
from gpuwarden.model.snapshot import Health, ServiceState
from gpuwarden.wire.convert_fault import word
from gpuwarden.wire.fields import from_enum, known, text, text_or_none, to_enum
from gpuwarden.wire.v1 import node_pb2 as pb


def to_service(state: ServiceState) -> pb.ServiceState:
    return pb.ServiceState(
        service=text(state.service),
        tenant=text_or_none(state.tenant),
        health=to_enum(pb.Health, "HEALTH", state.health),
        since=state.since,
        p99_s=state.p99_s,
        limit_s=state.limit_s,
        at=state.at,
        late_since=state.late_since,
    )


def from_service(message: pb.ServiceState) -> ServiceState:
    return ServiceState(
        service=message.service,
        tenant=known(message, "tenant"),
        health=from_enum(pb.Health, "HEALTH", message.health, Health),
        since=message.since,
        p99_s=known(message, "p99_s"),
        limit_s=known(message, "limit_s"),
        at=known(message, "at"),
        late_since=known(message, "late_since"),
    )


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


def to_version(each: Recorded) -> pb.RecordedVersion:
    return pb.RecordedVersion(
        service=text(each.service),
        place=text(each.place),
        version=text(each.version),
        image=text(each.image),
        digest=text(each.digest),
        recorded_wall=each.recorded_wall,
        good_wall=each.good_wall,
        tenant=text_or_none(each.tenant),
    )


def from_version(message: pb.RecordedVersion) -> Recorded:
    tenant = known(message, "tenant")
    return Recorded(
        service=message.service,
        place=message.place,
        version=message.version,
        image=message.image,
        digest=message.digest,
        recorded_wall=message.recorded_wall,
        good_wall=known(message, "good_wall"),
        tenant=None if tenant is None else TenantId(tenant),
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
