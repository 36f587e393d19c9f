"""The kernel log as messages and back."""

from typing import Any

from gpuwarden.model.kernel_record import KernelForgery, KernelRecord, KernelTrust
from gpuwarden.wire.fields import from_enum, from_pairs, known, text, to_enum, to_pairs
from gpuwarden.wire.v1 import node_pb2 as pb


def to_kernel_record(record: KernelRecord) -> pb.KernelRecord:
    return pb.KernelRecord(
        text=text(record.text),
        source=text(record.source),
        trust=to_enum(pb.KernelTrust, "KERNEL_TRUST", record.trust),
        seen_at=record.seen_at,
        sequence=record.sequence,
        boot_us=record.boot_us,
        facility=record.facility,
        level=record.level,
        is_backlog=record.is_backlog,
        continues=record.continues,
        details=to_pairs(record.details),
    )


def from_kernel_record(message: pb.KernelRecord) -> KernelRecord:
    return KernelRecord(
        text=message.text,
        source=message.source,
        trust=from_kernel_trust(message.trust),
        seen_at=message.seen_at,
        sequence=known(message, "sequence"),
        boot_us=known(message, "boot_us"),
        facility=known(message, "facility"),
        level=known(message, "level"),
        is_backlog=message.is_backlog,
        continues=known(message, "continues"),
        details=from_pairs(message.details),
    )


def from_kernel_trust(number: Any) -> KernelTrust:
    """An agent that does not speak of it reads none."""
    if number == pb.KERNEL_TRUST_UNSPECIFIED:
        return KernelTrust.NONE
    return from_enum(pb.KernelTrust, "KERNEL_TRUST", number, KernelTrust)


def to_kernel_forgery(forgery: KernelForgery | None) -> pb.KernelForgery | None:
    if forgery is None:
        return None
    return pb.KernelForgery(count=forgery.count, text=text(forgery.text), facility=forgery.facility)


def from_kernel_forgery(message: pb.KernelForgery | None) -> KernelForgery | None:
    if message is None:
        return None
    return KernelForgery(
        count=message.count, text=message.text, facility=known(message, "facility")
    )
