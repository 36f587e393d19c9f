"""What the join asks of tenants, as messages and back: who grew, who uses the cores."""

from gpuwarden.model.growth import CoreShare, Growth
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.wire.fields import known, text, text_or_none
from gpuwarden.wire.v1 import node_pb2 as pb


def to_growth(growth: Growth) -> pb.Growth:
    return pb.Growth(
        device=text(growth.device),
        tenant=text_or_none(growth.tenant),
        watched_since=growth.watched_since,
        stirred_at=growth.stirred_at,
        own_bytes=growth.own_bytes,
        rose_at=growth.rose_at,
    )


def from_growth(message: pb.Growth) -> Growth:
    return Growth(
        device=DeviceId(message.device),
        tenant=known(message, "tenant"),
        watched_since=message.watched_since,
        stirred_at=message.stirred_at,
        own_bytes=message.own_bytes,
        rose_at=known(message, "rose_at"),
    )


def to_share(share: CoreShare) -> pb.CoreShare:
    return pb.CoreShare(
        tenant=text(share.tenant), device=text(share.device), sm_ratio=share.sm_ratio, at=share.at
    )


def from_share(message: pb.CoreShare) -> CoreShare:
    return CoreShare(
        tenant=TenantId(message.tenant),
        device=DeviceId(message.device),
        sm_ratio=message.sm_ratio,
        at=message.at,
    )
