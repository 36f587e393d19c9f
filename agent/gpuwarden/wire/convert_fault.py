"""Faults and repairs as messages and back."""

from enum import StrEnum
from typing import TypeVar

from gpuwarden.errors import Unsupported
from gpuwarden.model.ids import IncidentId, TenantId
from gpuwarden.model.repair import Attempt, Fault, FaultClass, Phase, Repair, Sign, Step
from gpuwarden.wire.fields import known, text, text_or_none
from gpuwarden.wire.v1 import node_pb2 as pb

Word = TypeVar("Word", bound=StrEnum)


def word(kind: type[Word], said: str) -> Word:
    """The member of that name; ``Unsupported`` when a newer agent says one that is not known here."""
    try:
        return kind(said)
    except ValueError as error:
        raise Unsupported(
            f"{said[:64]!r} is not known here: use the gpuwarden command of the agent's own version"
        ) from error


def _to_sign(sign: Sign) -> pb.Sign:
    return pb.Sign(
        code=text(sign.code),
        at=sign.at,
        scope=text(sign.scope),
        severity=text(sign.severity),
        action=text(sign.action),
        fault_class=sign.cls.value,
        device=text_or_none(sign.device),
        tenant=text_or_none(sign.tenant),
        pid=sign.pid,
        process=text(sign.process),
        caused_by=text_or_none(sign.caused_by),
        is_condition=sign.is_condition,
        is_trusted=sign.is_trusted,
        text=text(sign.text),
    )


def _from_sign(message: pb.Sign) -> Sign:
    return Sign(
        code=message.code,
        at=message.at,
        scope=message.scope,
        severity=message.severity,
        action=message.action,
        cls=word(FaultClass, message.fault_class),
        device=known(message, "device"),
        tenant=known(message, "tenant"),
        pid=known(message, "pid"),
        process=message.process,
        caused_by=known(message, "caused_by"),
        is_condition=message.is_condition,
        is_trusted=message.is_trusted,
        text=message.text,
    )


def to_fault(fault: Fault) -> pb.Fault:
    return pb.Fault(
        root=_to_sign(fault.root),
        first_at=fault.first_at,
        last_at=fault.last_at,
        first_wall=fault.first_wall,
        count=fault.count,
        followers=[pb.SignCount(code=text(code), count=count) for code, count in fault.followers],
        tenants=[text(tenant) for tenant in fault.tenants],
        accused=text_or_none(fault.accused),
        recovery=fault.recovery,
        is_excused=fault.is_excused,
        told_at=fault.told_at,
        repairs=fault.repairs,
    )


def from_fault(message: pb.Fault) -> Fault:
    return Fault(
        root=_from_sign(message.root),
        first_at=message.first_at,
        last_at=message.last_at,
        first_wall=message.first_wall,
        count=message.count,
        followers=tuple((entry.code, entry.count) for entry in message.followers),
        tenants=tuple(TenantId(tenant) for tenant in message.tenants),
        accused=known(message, "accused"),
        recovery=message.recovery,
        is_excused=message.is_excused,
        told_at=message.told_at,
        repairs=message.repairs,
    )


def to_repair(repair: Repair) -> pb.Repair:
    return pb.Repair(
        subject=text(repair.subject),
        device=text_or_none(repair.device),
        fault_class=repair.cls.value,
        incident=text(repair.incident),
        ladder=[step.value for step in repair.ladder],
        phase=repair.phase.value,
        rung=repair.rung,
        since=repair.since,
        opened_at=repair.opened_at,
        attempts=[_to_attempt(attempt) for attempt in repair.attempts],
        is_unsure=repair.is_unsure,
        boot_id=text(repair.boot_id),
        withheld=[text(mark) for mark in repair.withheld],
        is_polled=repair.is_polled,
        is_overdue=repair.is_overdue,
    )


def from_repair(message: pb.Repair) -> Repair:
    return Repair(
        subject=message.subject,
        device=known(message, "device"),
        cls=word(FaultClass, message.fault_class),
        incident=IncidentId(message.incident),
        ladder=tuple(word(Step, step) for step in message.ladder),
        phase=word(Phase, message.phase),
        rung=message.rung,
        since=message.since,
        opened_at=message.opened_at,
        attempts=tuple(_from_attempt(attempt) for attempt in message.attempts),
        is_unsure=message.is_unsure,
        boot_id=message.boot_id,
        withheld=tuple(message.withheld),
        is_polled=message.is_polled,
        is_overdue=message.is_overdue,
    )


def _to_attempt(attempt: Attempt) -> pb.Attempt:
    return pb.Attempt(
        step=attempt.step.value,
        wall=attempt.wall,
        result=text(attempt.result),
        fault_class=attempt.cls.value,
        detail=text(attempt.detail),
    )


def _from_attempt(message: pb.Attempt) -> Attempt:
    return Attempt(
        step=word(Step, message.step),
        wall=message.wall,
        result=message.result,
        cls=word(FaultClass, message.fault_class),
        detail=message.detail,
    )
