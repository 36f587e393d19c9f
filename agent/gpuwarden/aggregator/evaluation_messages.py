"""Services as their readers get them."""

import math
from collections.abc import Sequence

from gpuwarden.aggregator.service_causes import Explained
from gpuwarden.model.evaluation import Colour
from gpuwarden.model.fitness import Standing
from gpuwarden.policy.fleet.cause import Cause
from gpuwarden.policy.fleet.parts import Part
from gpuwarden.wire.convert_window import to_verdict
from gpuwarden.wire.fields import text
from gpuwarden.wire.v1 import evaluation_pb2 as pb

PARTS_SHOWN = 50


def to_standing(standing: Standing) -> pb.ServiceStanding:
    return pb.ServiceStanding(
        service=text(standing.service),
        colour=standing.colour.value,
        why=text(standing.why),
        since_wall=standing.since_wall,
        age_s=standing.age_s,
        versions=[text(each) for each in standing.versions],
        nodes=standing.nodes,
        requests_per_s=standing.requests_per_s,
        queue_length=standing.queue_length,
        gpu_utilization=standing.gpu_utilization,
        red=standing.count(Colour.RED),
        unknown=standing.count(Colour.UNKNOWN),
        green=standing.count(Colour.GREEN),
    )


def to_report(explained: Explained) -> pb.VerdictReport:
    cause = explained.cause
    return pb.VerdictReport(
        verdict=to_verdict(explained.verdict),
        nodes=_to_parts(explained.parts),
        cause=None if cause is None else _to_cause(cause),
        said_by=sorted(explained.said_by),
        narrative=text(explained.narrative),
    )


def _to_parts(parts: Sequence[Part]) -> list[pb.NodePart]:
    return [
        pb.NodePart(
            node=each.node,
            value=each.value if each.value is not None and math.isfinite(each.value) else None,
            requests=each.requests,
            is_bad=bool(each.is_bad),
        )
        for each in parts[:PARTS_SHOWN]
    ]


def _to_cause(cause: Cause) -> pb.GpuCause:
    return pb.GpuCause(
        kind=cause.kind.value,
        summary=text(cause.summary),
        node=cause.node,
        device=text(cause.device),
        incident=text(cause.incident),
        tenant=text(cause.tenant),
        is_whole=cause.is_whole,
    )
