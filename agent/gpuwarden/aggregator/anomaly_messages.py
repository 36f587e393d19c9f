"""Anomalies as their readers get them."""

from gpuwarden.model.anomaly import OddDevice, Oddity, ServiceOddities
from gpuwarden.policy.fleet import anomaly_claims
from gpuwarden.wire.fields import text
from gpuwarden.wire.v1 import drift_pb2 as pb


def to_service(each: ServiceOddities) -> pb.ServiceAnomalies:
    return pb.ServiceAnomalies(
        service=text(each.service),
        days=each.days,
        days_min=each.days_min,
        series=each.series,
        findings=[_to_anomaly(finding) for finding in each.findings],
        recent=[_to_anomaly(finding) for finding in each.recent],
    )


def to_device(each: OddDevice) -> pb.OddDevice:
    return pb.OddDevice(
        node=text(each.node),
        index=each.index,
        device=text(each.device),
        model=text(each.model),
        series=each.series,
        since_wall=each.since_wall,
        value=each.value,
        peers=each.peers,
        peer_count=each.count,
        sigmas=each.sigmas,
        summary=text(anomaly_claims.device(each)),
    )


def _to_anomaly(each: Oddity) -> pb.Anomaly:
    return pb.Anomaly(
        series=each.series,
        layer=each.layer.value,
        since_wall=each.since_wall,
        wall=each.wall,
        value=each.value,
        usual=each.usual,
        sigmas=each.sigmas,
        summary=text(anomaly_claims.oddity(each)),
    )
