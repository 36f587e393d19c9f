"""The node's side of the fleet's messages: what it tells of its newest picture, and what it is told."""

from collections.abc import Sequence

from gpuwarden.errors import Refused, Unsupported
from gpuwarden.model.action import Outcome
from gpuwarden.model.decision import Incident
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.fleet import Ask, Denial, Greeting, Order, Permit
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.oncall import HandOver
from gpuwarden.model.status import View
from gpuwarden.model.tenant import Tenant, Use
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.convert_fleet import SCHEMA_VERSION
from gpuwarden.wire.convert_policy import to_policy_report
from gpuwarden.wire.convert_work import to_incident, to_outcome
from gpuwarden.wire.fields import text, text_or_none, to_enum
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node

TENANTS_TOLD = 64
FINDINGS_TOLD = 32
TEXT_TOLD_CHARS = 400
WHO_BYTES = 16 * 1024
TTL_MAX_S = 600.0
NODE_SUBJECT = "node"
HAND_OVER_CHARS = {
    **dict.fromkeys(("page", "incident", "severity", "subject", "device", "fault", "pci"), 256),
    "summary": TEXT_TOLD_CHARS,
    "own": 256,
    "acked_by": 256,
    "silenced_by": 256,
}


def to_hello(greeting: Greeting) -> pb.Hello:
    return pb.Hello(
        schema_version=SCHEMA_VERSION,
        node=greeting.node,
        boot_id=text(greeting.boot_id),
        log_id=greeting.log_id,
        agent_version=text(greeting.agent_version),
        policy_version=greeting.policy_version,
        api_address=text(greeting.api_address),
        group=text(greeting.group),
        domains=[node.NamedText(name=text(n), text=text(t)) for n, t in greeting.domains],
        epoch=greeting.epoch,
        wall=greeting.wall,
        metrics_address=text(greeting.metrics_address),
        policy=None if greeting.policy is None else to_policy_report(greeting.policy),
    )


def to_hand_over(word: HandOver, at: float, wall: float) -> pb.FleetEvent:
    said = {n: text(getattr(word, n)[:size]) for n, size in HAND_OVER_CHARS.items()}
    message = pb.HandOver(wall=word.wall, silenced_until_wall=word.silenced_until_wall, **said)
    return pb.FleetEvent(at=at, wall=wall, page=message)


def from_page_words(messages: Sequence[pb.PageWord]) -> tuple[list[str], list[str]]:
    """Pages that were taken, and those of them of which people were told."""
    return [each.page for each in messages], [each.page for each in messages if each.is_told]


def to_sample(view: View, sequence: int, withheld: int) -> pb.Sample:
    """A picture in short: every device, the largest tenants, the worst findings."""
    snapshot = view.snapshot
    cordoned = cordons(view)
    places = {device.id: number for number, device in enumerate(snapshot.devices)}
    tenants = {tenant.id: tenant for tenant in snapshot.tenants}
    uses = sorted(
        (use for use in snapshot.uses if use.tenant in tenants and use.device in places),
        key=lambda use: -use.used_bytes,
    )
    findings = sorted(view.findings, key=lambda finding: -finding.severity)
    host = snapshot.host
    return pb.Sample(
        sequence=sequence,
        at=view.at,
        wall=snapshot.wall,
        mode=text(view.agent.mode),
        devices=[_device(device, device.id in cordoned) for device in snapshot.devices],
        tenants=_tenants(
            [(use, tenants[use.tenant], places[use.device]) for use in uses[:TENANTS_TOLD]]
        ),
        findings=[
            pb.FindingSample(
                rule=_short(finding.rule),
                key=_short(finding.key),
                severity=to_enum(node.Severity, "SEVERITY", finding.severity),
                summary=text(finding.summary[:TEXT_TOLD_CHARS]),
                device=text_or_none(finding.device),
                tenant=text_or_none(finding.tenant),
                fault=text(finding.fault),
            )
            for finding in findings[:FINDINGS_TOLD]
        ],
        degraded=[text(line[:TEXT_TOLD_CHARS]) for line in view.agent.degraded[:32]],
        incidents_open=sum(1 for i in view.incidents if i.closed_at is None),
        withheld=withheld,
        is_cordoned=NODE_SUBJECT in cordoned,
        left_out=max(0, len(uses) - TENANTS_TOLD) + max(0, len(findings) - FINDINGS_TOLD),
        cpu_ratio=None if host is None else host.cpu_ratio,
        memory_available_bytes=None if host is None else host.memory_available_bytes,
        withheld_actions=len(view.withheld),
    )


def _tenants(held: Sequence[tuple[Use, Tenant, int]]) -> list[pb.TenantSample]:
    """The largest first. Who they are is told of as many as fit: a sample is one of several in a message."""
    told, left_bytes = [], WHO_BYTES
    for use, tenant, place in held:
        sample = pb.TenantSample(
            tenant=_short(use.tenant),
            name=_short(tenant.name),
            tenant_class=to_enum(node.TenantClass, "TENANT_CLASS", tenant.cls),
            device=place,
            used_bytes=use.used_bytes,
            hard_bytes=tenant.hard_bytes,
        )
        who = _who(tenant)
        left_bytes -= who.ByteSize()
        if left_bytes >= 0:
            sample.MergeFrom(who)
        told.append(sample)
    return told


def _who(tenant: Tenant) -> pb.TenantSample:
    """What entries of a policy match, so that the centre can say beforehand whom one would touch."""
    known, claims = dict(tenant.identity), dict(tenant.claims)
    return pb.TenantSample(
        claimed_class=text(claims.get("class", "")[: check.CLAIM_MAX_CHARS]),
        claimed_memory=text(claims.get("memory", "")[: check.CLAIM_MAX_CHARS]),
        runtime=_short(tenant.runtime),
        image=_short(known.get("image", "")),
        user=_short(known.get("user", "")),
        account=_short(known.get("account", "")),
        unit=_short(known.get("unit", "")),
        command=_short(known.get("command", "")),
        service=_short(tenant.service or ""),
    )


def cordons(view: View) -> frozenset[str]:
    """Devices that are cordoned, and ``node``: each has a finding of the rule that says so."""
    return frozenset(
        finding.device or NODE_SUBJECT for finding in view.findings if finding.rule == "cordon"
    )


def _short(value: str) -> str:
    return text(value[: check.NAME_MAX_CHARS])


def _device(device: Device, is_cordoned: bool) -> pb.DeviceSample:
    vitals = device.health.vitals if device.health is not None else None
    is_seen = device.sight is Sight.OK
    used = device.used_bytes if is_seen else None
    return pb.DeviceSample(
        id=text(device.id),
        index=device.index,
        name=_short(device.name),
        sight=to_enum(node.Sight, "SIGHT", device.sight),
        total_bytes=device.total_bytes,
        used_bytes=None if used is None else min(used, device.total_bytes),
        utilization_ratio=None if vitals is None else vitals.utilization_ratio,
        temperature_c=None if vitals is None else vitals.temperature_c,
        power_w=None if vitals is None else vitals.power_w,
        is_cordoned=is_cordoned,
    )


def to_incident_event(incident: Incident, at: float, wall: float) -> pb.FleetEvent:
    return pb.FleetEvent(at=at, wall=wall, incident=to_incident(incident))


def to_outcome_event(outcome: Outcome) -> pb.FleetEvent:
    return pb.FleetEvent(at=outcome.at, wall=outcome.wall, outcome=to_outcome(outcome))


def to_order_event(
    order: str, is_done: bool, said: str, incident: str, at: float, wall: float
) -> pb.FleetEvent:
    result = pb.OrderResult(order=order, is_done=is_done, text=text(said), incident=text(incident))
    return pb.FleetEvent(at=at, wall=wall, order=result)


def to_asks(asks: Sequence[Ask]) -> list[pb.PermitAsk]:
    return [
        pb.PermitAsk(
            id=ask.id,
            kind=ask.kind,
            subject=text(ask.subject),
            incident=text(ask.incident),
            age_s=ask.age_s,
        )
        for ask in asks[: check.ASKS_MAX]
    ]


def from_permit(message: pb.Permit, node_name: str, epoch: int, now: float) -> Permit:
    """A permit as the node holds it: its time runs from its arrival."""
    return Permit(
        id=check.identifier("permit.id", message.id),
        node=node_name,
        boot_id=message.boot_id,
        ask=message.ask,
        kind=message.kind,
        subject=message.subject,
        group="",
        granted_wall=0.0,
        expires_at=now + check.number("permit.ttl_s", message.ttl_s, 0.0, TTL_MAX_S),
        epoch=epoch,
    )


def from_refusal(message: pb.PermitRefusal, node_name: str) -> Denial:
    return Denial(
        node=node_name,
        ask=message.ask,
        budget=check.text("refusal.budget", message.budget, 64),
        detail=check.text("refusal.detail", message.detail),
    )


def from_order(message: pb.Order, now: float) -> Order:
    """An order as the node holds it; ``Refused`` when a field is not what it may be."""
    return Order(
        id=check.identifier("order.id", message.id),
        node=message.node,
        boot_id=message.boot_id,
        verb=check.text("order.verb", message.verb, 32),
        subject=check.text("order.subject", message.subject, 256),
        reason=check.text("order.reason", message.reason, 1000),
        by=check.text("order.by", message.by, 256),
        expires_at=now + check.number("order.ttl_s", message.ttl_s, 0.0, TTL_MAX_S),
    )


def device_of(subject: str) -> DeviceId | None:
    """A subject as policy names it: None is the node."""
    return None if subject == NODE_SUBJECT else DeviceId(subject)


def check_answer(version: int) -> None:
    """``Unsupported`` for an aggregator that speaks a newer schema."""
    if version > SCHEMA_VERSION:
        raise Unsupported(f"the aggregator speaks schema {version}: upgrade gpuwarden here")


def accepted_epoch(epoch: int, seen: int) -> int:
    """``Refused`` when a newer aggregator has spoken already: this one has been replaced."""
    if epoch < seen:
        raise Refused(f"epoch {epoch} is over: {seen} was seen")
    return epoch
