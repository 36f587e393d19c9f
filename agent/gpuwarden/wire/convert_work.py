"""The agent's work as messages and back: findings, cases, debts, outcomes, incidents."""

from gpuwarden.model.action import Kind, Outcome, Result, Target, Withheld
from gpuwarden.model.decision import Incident, IncidentStep
from gpuwarden.model.finding import Finding, Scope, Severity
from gpuwarden.model.ids import DeviceId, IncidentId, TenantId
from gpuwarden.model.memory import Case, Debt, Rung, Tombstone
from gpuwarden.wire.convert_fault import word
from gpuwarden.wire.fields import (
    from_cgroup,
    from_enum,
    from_pairs,
    from_pids,
    known,
    text,
    text_or_none,
    to_cgroup,
    to_enum,
    to_pairs,
    to_pids,
)
from gpuwarden.wire.v1 import node_pb2 as pb


def to_finding(finding: Finding) -> pb.Finding:
    return pb.Finding(
        rule=text(finding.rule),
        key=text(finding.key),
        severity=to_enum(pb.Severity, "SEVERITY", finding.severity),
        summary=text(finding.summary),
        tenant=text_or_none(finding.tenant),
        device=text_or_none(finding.device),
        service=text_or_none(finding.service),
        is_confirmed=finding.is_confirmed,
        used_bytes=finding.used_bytes,
        limit_bytes=finding.limit_bytes,
        evidence=to_pairs(finding.evidence),
        fault=text(finding.fault),
        scope="" if finding.scope is None else finding.scope.value,
    )


def from_finding(message: pb.Finding) -> Finding:
    return Finding(
        rule=message.rule,
        key=message.key,
        severity=from_enum(pb.Severity, "SEVERITY", message.severity, Severity),
        summary=message.summary,
        tenant=known(message, "tenant"),
        device=known(message, "device"),
        service=known(message, "service"),
        is_confirmed=message.is_confirmed,
        used_bytes=known(message, "used_bytes"),
        limit_bytes=known(message, "limit_bytes"),
        evidence=from_pairs(message.evidence),
        fault=message.fault,
        scope=word(Scope, message.scope) if message.scope else None,
    )


def to_withheld(withheld: Withheld) -> pb.Withheld:
    return pb.Withheld(
        kind=to_enum(pb.ActionKind, "ACTION_KIND", withheld.kind),
        incident=text(withheld.incident),
        tenant=text_or_none(withheld.tenant),
        device=text_or_none(withheld.device),
        budget=text(withheld.budget),
        detail=text(withheld.detail),
    )


def from_withheld(message: pb.Withheld) -> Withheld:
    return Withheld(
        kind=from_enum(pb.ActionKind, "ACTION_KIND", message.kind, Kind),
        incident=IncidentId(message.incident),
        tenant=known(message, "tenant"),
        device=known(message, "device"),
        budget=message.budget,
        detail=message.detail,
    )


def to_outcome(outcome: Outcome) -> pb.Outcome:
    return pb.Outcome(
        action=text(outcome.action),
        kind=to_enum(pb.ActionKind, "ACTION_KIND", outcome.kind),
        incident=text(outcome.incident),
        tenant=text_or_none(outcome.tenant),
        device=text_or_none(outcome.device),
        result=to_enum(pb.ActionResult, "ACTION_RESULT", outcome.result),
        at=outcome.at,
        wall=outcome.wall,
        detail=text(outcome.detail),
        old=to_pairs(outcome.old),
    )


def from_outcome(message: pb.Outcome) -> Outcome:
    return Outcome(
        action=message.action,
        kind=from_enum(pb.ActionKind, "ACTION_KIND", message.kind, Kind),
        incident=IncidentId(message.incident),
        tenant=known(message, "tenant"),
        device=known(message, "device"),
        result=from_enum(pb.ActionResult, "ACTION_RESULT", message.result, Result),
        at=message.at,
        wall=message.wall,
        detail=message.detail,
        old=from_pairs(message.old),
    )


def _to_target(target: Target) -> pb.Target:
    return pb.Target(
        tenant=text(target.tenant),
        runtime=text(target.runtime),
        cgroup=to_cgroup(target.cgroup),
        pids=to_pids(target.pids),
        name=text(target.name),
    )


def _from_target(message: pb.Target) -> Target:
    return Target(
        tenant=TenantId(message.tenant),
        runtime=message.runtime,
        cgroup=from_cgroup(known(message, "cgroup")),
        pids=from_pids(message.pids),
        name=message.name,
    )


def to_case(case: Case) -> pb.Case:
    return pb.Case(
        incident=text(case.incident),
        tenant=text(case.tenant),
        device=text(case.device),
        rung=to_enum(pb.Rung, "RUNG", case.rung),
        since=case.since,
        opened_at=case.opened_at,
        reason=text(case.reason),
        is_emergency=case.is_emergency,
        target=_to_target(case.target),
        grace_s=case.grace_s,
        bytes_at_open=case.bytes_at_open,
        limit_bytes=case.limit_bytes,
        frozen_since=case.frozen_since,
        began_at=case.began_at,
        is_throttled=case.is_throttled,
        is_restart_settled=case.is_restart_settled,
        is_restart_off=case.is_restart_off,
        old_restart=text_or_none(case.old_restart),
        is_mps=case.is_mps,
        is_still_attached=not case.is_detached,
        is_unsure=case.is_unsure,
        is_paused=case.is_paused,
        owner_key=text_or_none(case.owner_key),
        acted=[text(kind) for kind in case.acted],
        withheld=[text(entry) for entry in case.withheld],
        devices=[text(device) for device in case.devices],
        held=[pb.Unattributed(device=text(device), bytes=size) for device, size in case.held],
        nobodys=[pb.Unattributed(device=text(device), bytes=size) for device, size in case.nobodys],
    )


def from_case(message: pb.Case) -> Case:
    return Case(
        incident=IncidentId(message.incident),
        tenant=TenantId(message.tenant),
        device=DeviceId(message.device),
        rung=from_enum(pb.Rung, "RUNG", message.rung, Rung),
        since=message.since,
        opened_at=message.opened_at,
        reason=message.reason,
        is_emergency=message.is_emergency,
        target=_from_target(message.target),
        grace_s=message.grace_s,
        bytes_at_open=message.bytes_at_open,
        limit_bytes=message.limit_bytes,
        frozen_since=known(message, "frozen_since"),
        began_at=known(message, "began_at"),
        is_throttled=message.is_throttled,
        is_restart_settled=message.is_restart_settled,
        is_restart_off=message.is_restart_off,
        old_restart=known(message, "old_restart"),
        is_mps=message.is_mps,
        is_detached=not message.is_still_attached,
        is_unsure=message.is_unsure,
        is_paused=message.is_paused,
        owner_key=known(message, "owner_key"),
        acted=tuple(message.acted),
        withheld=tuple(message.withheld),
        devices=tuple(DeviceId(device) for device in message.devices),
        held=tuple((DeviceId(entry.device), entry.bytes) for entry in message.held),
        nobodys=tuple((DeviceId(entry.device), entry.bytes) for entry in message.nobodys),
    )


def to_debt(debt: Debt) -> pb.Debt:
    return pb.Debt(
        tenant=text(debt.tenant),
        kind=to_enum(pb.ActionKind, "ACTION_KIND", debt.kind),
        target=_to_target(debt.target),
        incident=text(debt.incident),
        device=text_or_none(debt.device),
        old=to_pairs(debt.old),
        since_wall=debt.since_wall,
        due_wall=debt.due_wall,
        ordered=text(debt.ordered),
    )


def from_debt(message: pb.Debt) -> Debt:
    return Debt(
        tenant=TenantId(message.tenant),
        kind=from_enum(pb.ActionKind, "ACTION_KIND", message.kind, Kind),
        target=_from_target(message.target),
        incident=IncidentId(message.incident),
        device=known(message, "device"),
        old=from_pairs(message.old),
        since_wall=message.since_wall,
        due_wall=known(message, "due_wall"),
        ordered=message.ordered,
    )


def to_tombstone(tombstone: Tombstone) -> pb.Tombstone:
    return pb.Tombstone(
        owner_key=text(tombstone.owner_key),
        evicted_wall=tombstone.evicted_wall,
        held_until_wall=tombstone.held_until_wall,
        is_paged=tombstone.is_paged,
        bystanders=[text(tenant) for tenant in tombstone.bystanders],
    )


def from_tombstone(message: pb.Tombstone) -> Tombstone:
    return Tombstone(
        owner_key=message.owner_key,
        evicted_wall=tuple(message.evicted_wall),
        held_until_wall=known(message, "held_until_wall"),
        is_paged=message.is_paged,
        bystanders=tuple(TenantId(tenant) for tenant in message.bystanders),
    )


def to_incident(incident: Incident) -> pb.Incident:
    return pb.Incident(
        id=text(incident.id),
        rule=text(incident.rule),
        summary=text(incident.summary),
        opened_at=incident.opened_at,
        opened_wall=incident.opened_wall,
        tenant=text_or_none(incident.tenant),
        tenant_name=text(incident.tenant_name),
        tenant_class=text(incident.tenant_class),
        runtime=text(incident.runtime),
        device=text_or_none(incident.device),
        quota_bytes=incident.quota_bytes,
        peak_bytes=incident.peak_bytes,
        noticed_at=incident.noticed_at,
        decided_at=incident.decided_at,
        closed_at=incident.closed_at,
        closed_wall=incident.closed_wall,
        outcome=text(incident.outcome),
        mode=text(incident.mode),
        kernel_log=text(incident.kernel_log),
        advice=[text(line) for line in incident.advice],
        harmed=[text(line) for line in incident.harmed],
        evidence=to_pairs(incident.evidence),
        points=[pb.SizePoint(at=at, bytes=size) for at, size in incident.points],
        steps=[_to_step(step) for step in incident.steps],
    )


def from_incident(message: pb.Incident) -> Incident:
    return Incident(
        id=IncidentId(message.id),
        rule=message.rule,
        summary=message.summary,
        opened_at=message.opened_at,
        opened_wall=message.opened_wall,
        tenant=known(message, "tenant"),
        tenant_name=message.tenant_name,
        tenant_class=message.tenant_class,
        runtime=message.runtime,
        device=known(message, "device"),
        quota_bytes=known(message, "quota_bytes"),
        peak_bytes=known(message, "peak_bytes"),
        noticed_at=known(message, "noticed_at"),
        decided_at=known(message, "decided_at"),
        closed_at=known(message, "closed_at"),
        closed_wall=known(message, "closed_wall"),
        outcome=message.outcome,
        mode=message.mode,
        kernel_log=message.kernel_log,
        advice=tuple(message.advice),
        harmed=tuple(message.harmed),
        evidence=from_pairs(message.evidence),
        points=tuple((point.at, point.bytes) for point in message.points),
        steps=tuple(_from_step(step) for step in message.steps),
    )


def _to_step(step: IncidentStep) -> pb.IncidentStep:
    return pb.IncidentStep(
        at=step.at,
        wall=step.wall,
        kind=text(step.kind),
        text=text(step.text),
        result=text(step.result),
        action=text(step.action),
    )


def _from_step(message: pb.IncidentStep) -> IncidentStep:
    return IncidentStep(
        at=message.at,
        wall=message.wall,
        kind=message.kind,
        text=message.text,
        result=message.result,
        action=message.action,
    )
