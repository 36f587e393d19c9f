"""What nodes send, field by field: validated, and cut down to what the fleet judges by.

Readings of a sample are checked and counted here, without an object for each of them: this is the hot path.
"""

from collections.abc import Iterable, Sequence

from gpuwarden.errors import Refused
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import Ask, Greeting, Report, Told
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import SEVERITIES, HandOver
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.convert_policy import from_policy_report
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node

SCHEMA_VERSION = 1
ASKED_KINDS = frozenset({"cordon", "restart-services", "reset-gpu", "reload-driver", "reboot"})
_SEVERITIES = {
    node.SEVERITY_INFO: Severity.INFO,
    node.SEVERITY_WARNING: Severity.WARNING,
    node.SEVERITY_ERROR: Severity.ERROR,
    node.SEVERITY_CRITICAL: Severity.CRITICAL,
}
_MODES = frozenset({"observe", "enforce"})
COUNT_MAX = 100_000
_POWER_MAX_W = 10_000.0
_SIGHT_OK = node.SIGHT_OK
_SIGHT_BAD = frozenset({node.SIGHT_BLIND, node.SIGHT_LOST})
_TEMPERATURE_MAX_C = 300.0


def from_hello(message: pb.Hello, certified: str) -> Greeting:
    """Who speaks; ``Refused`` when it is not who the certificate says, or speaks a newer schema."""
    if message.schema_version != SCHEMA_VERSION:
        raise Refused(
            f"schema {message.schema_version}: this aggregator speaks {SCHEMA_VERSION}; upgrade the older side"
        )
    if check.node_name(message.node) != certified:
        raise Refused(f"hello: node {message.node} under the certificate of {certified}")
    check.length("hello.domains", message.domains, 16)
    return Greeting(
        node=message.node,
        boot_id=check.identifier("hello.boot_id", message.boot_id),
        log_id=check.identifier("hello.log_id", message.log_id),
        agent_version=check.text("hello.agent_version", message.agent_version, 64),
        policy_version=message.policy_version,
        api_address=check.text("hello.api_address", message.api_address, 256),
        group=check.identifier("hello.group", message.group or "default"),
        domains=tuple(
            (
                check.identifier("hello.domains.name", entry.name),
                check.identifier("hello.domains.text", entry.text),
            )
            for entry in message.domains
        ),
        epoch=check.count("hello.epoch", message.epoch, check.SEQUENCE_MAX),
        wall=check.wall("hello.wall", message.wall),
        metrics_address=check.text("hello.metrics_address", message.metrics_address, 256),
        policy=from_policy_report(message.policy) if message.HasField("policy") else None,
    )


def check_batch(message: pb.Batch) -> None:
    """Not more of anything than one message may hold."""
    is_fine = (
        len(message.samples) <= check.SAMPLES_MAX
        and len(message.events) <= check.EVENTS_MAX
        and len(message.asks) <= check.ASKS_MAX
    )
    if is_fine:
        return
    check.length("batch.events", message.events, check.EVENTS_MAX)
    check.length("batch.samples", message.samples, check.SAMPLES_MAX)
    check.length("batch.asks", message.asks, check.ASKS_MAX)


def from_sample(message: pb.Sample, before: int) -> Report:
    """What counts of a sample that comes after number ``before`` of its stream. What is only shown is looked
    at when it is shown (``check_shown``): decoding every name of every tenant would double the cost."""
    devices, findings, degraded = message.devices, message.findings, message.degraded
    many = len(devices)
    if (
        many > check.DEVICES_MAX
        or len(message.tenants) > check.TENANTS_MAX
        or len(findings) > check.FINDINGS_MAX
        or len(degraded) > check.DEGRADED_MAX
    ):
        _refuse_lengths(message)
    mode = message.mode
    if mode not in _MODES:
        raise Refused(f"sample.mode: {mode[:32]!r}")
    for line in degraded:
        check.text("sample.degraded", line)
    unseen = cordoned = 0
    for device in devices:
        sight = device.sight
        if sight != _SIGHT_OK:
            if sight not in _SIGHT_BAD:
                raise Refused(f"device.sight: {sight}")
            unseen += 1
        if device.is_cordoned:
            cordoned += 1
    worst, faults = _findings(findings) if findings else (None, ())
    sequence, wall = message.sequence, message.wall
    incidents_open, withheld = message.incidents_open, message.withheld_actions
    # Asked in one breath, for nearly always all of it is fine; NaN is in no range.
    if not (
        before < sequence <= check.SEQUENCE_MAX
        and 0.0 <= wall <= check.WALL_MAX
        and incidents_open <= COUNT_MAX
        and withheld <= COUNT_MAX
    ):
        _refuse_numbers(message, before)
    return Report(
        sequence,
        wall,
        mode,
        many,
        unseen,
        cordoned,
        message.is_cordoned,
        worst,
        faults,
        tuple(degraded) if degraded else (),
        incidents_open,
        len(findings),
        withheld,
    )


def _refuse_numbers(message: pb.Sample, before: int) -> None:
    """Say which of them is not what it must be."""
    check.rising("sample.sequence", before, message.sequence)
    check.wall("sample.wall", message.wall)
    check.count("sample.incidents_open", message.incidents_open, COUNT_MAX)
    check.count("sample.withheld_actions", message.withheld_actions, COUNT_MAX)


def _refuse_lengths(message: pb.Sample) -> None:
    """Say which of them is too long."""
    check.length("sample.devices", message.devices, check.DEVICES_MAX)
    check.length("sample.tenants", message.tenants, check.TENANTS_MAX)
    check.length("sample.findings", message.findings, check.FINDINGS_MAX)
    check.length("sample.degraded", message.degraded, check.DEGRADED_MAX)


def check_shown(message: pb.Sample) -> None:
    """Everything else of a sample that ``from_sample`` has taken: before anybody is shown it. What is absent
    reads 0, which every range holds; NaN is in none."""
    check.number("sample.cpu_ratio", message.cpu_ratio, 0.0, 1.0)
    check.count("sample.memory_available_bytes", message.memory_available_bytes, check.BYTES_MAX)
    ids = set()
    for device in message.devices:
        ids.add(check.identifier("device.id", device.id))
        check.text("device.name", device.name, check.NAME_MAX_CHARS)
        check.count("device.total_bytes", device.total_bytes, check.BYTES_MAX)
        check.count("device.used_bytes", device.used_bytes, device.total_bytes)
        check.count("device.index", device.index, check.DEVICES_MAX - 1)
        check.number("device.utilization_ratio", device.utilization_ratio, 0.0, 1.0)
        check.number("device.temperature_c", device.temperature_c, -60.0, _TEMPERATURE_MAX_C)
        check.number("device.power_w", device.power_w, 0.0, _POWER_MAX_W)
    if len(ids) != len(message.devices):
        raise Refused("device.id: the same device twice")
    for tenant in message.tenants:
        check.text("tenant.tenant", tenant.tenant, check.NAME_MAX_CHARS)
        check.text("tenant.name", tenant.name, check.NAME_MAX_CHARS)
        check.count("tenant.device", tenant.device, len(message.devices) - 1)
        check.count("tenant.used_bytes", tenant.used_bytes, check.BYTES_MAX)
        check.count("tenant.hard_bytes", tenant.hard_bytes, check.BYTES_MAX)
        check.text("tenant.claimed_class", tenant.claimed_class, check.CLAIM_MAX_CHARS)
        check.text("tenant.claimed_memory", tenant.claimed_memory, check.CLAIM_MAX_CHARS)
        for name in ("runtime", "image", "user", "account", "unit", "command", "service"):
            check.text(f"tenant.{name}", getattr(tenant, name), check.NAME_MAX_CHARS)
    for finding in message.findings:
        check.text("finding.key", finding.key, check.NAME_MAX_CHARS)
        check.text("finding.summary", finding.summary)


def _findings(
    findings: Sequence[pb.FindingSample],
) -> tuple[Severity | None, tuple[str, ...]]:
    """The worst, cordons left out, and the classes of faults."""
    worst: Severity | None = None
    faults: dict[str, None] = {}
    for finding in findings:
        rule = check.text("finding.rule", finding.rule, check.NAME_MAX_CHARS)
        severity = _SEVERITIES.get(finding.severity)
        if severity is None:
            raise Refused(f"finding.severity: {finding.severity}")
        if fault := finding.fault:
            faults[check.text("finding.fault", fault, 64)] = None
        if rule != "cordon" and (worst is None or severity > worst):
            worst = severity
    return worst, tuple(faults)


def from_events(
    messages: Iterable[pb.FleetEvent],
) -> tuple[tuple[Told, ...], int, list[tuple[int, str]]]:
    """Events of one message in the order of their log, the number of the last, and those that are not what they
    must be, each with why: they take no other along."""
    told: list[Told] = []
    refused: list[tuple[int, str]] = []
    last = 0
    for message in messages:
        sequence = check.rising("event.sequence", last, message.sequence)
        try:
            told.append(from_event(message, last))
        except Refused as error:
            refused.append((sequence, str(error)))
        last = sequence
    return tuple(told), last, refused


def from_event(message: pb.FleetEvent, before: int) -> Told:
    """An event that comes after number ``before`` of its log."""
    kind = message.WhichOneof("body")
    sequence = check.rising("event.sequence", before, message.sequence)
    at = check.wall("event.wall", message.wall)
    if kind == "incident":
        return _told_incident(message.incident, sequence, at)
    if kind == "outcome":
        key = check.identifier("outcome.action", message.outcome.action)
        payload = message.outcome.SerializeToString()
        return Told(sequence=sequence, wall=at, kind=kind, key=key, payload=payload)
    if kind == "order":
        order = message.order
        return Told(
            sequence=sequence,
            wall=at,
            kind=kind,
            key=check.identifier("order.order", order.order),
            summary=check.text("order.text", order.text),
            is_done=order.is_done,
            payload=order.SerializeToString(),
        )
    if kind == "note":
        return Told(
            sequence=sequence, wall=at, kind=kind, summary=check.text("event.note", message.note)
        )
    if kind == "page":
        word = from_hand_over(message.page)
        payload = message.page.SerializeToString()
        return Told(sequence=sequence, wall=at, kind=kind, key=word.incident, payload=payload)
    raise Refused("event: no body that this aggregator knows")


def _told_incident(incident: node.Incident, sequence: int, at: float) -> Told:
    for name in ("summary", "outcome", "tenant_name", "runtime"):
        check.text(f"incident.{name}", getattr(incident, name))
    check.length("incident.steps", incident.steps, 2000)
    check.length("incident.points", incident.points, 4000)
    check.length("incident.evidence", incident.evidence, 500)
    closed = None
    if incident.HasField("closed_wall"):
        closed = check.wall("incident.closed_wall", incident.closed_wall)
    return Told(
        sequence=sequence,
        wall=at,
        kind="incident",
        key=check.identifier("incident.id", incident.id),
        rule=check.text("incident.rule", incident.rule, 64),
        summary=incident.summary,
        opened_wall=check.wall("incident.opened_wall", incident.opened_wall),
        closed_wall=closed,
        payload=incident.SerializeToString(),
    )


def from_hand_over(message: pb.HandOver) -> HandOver:
    if message.severity not in SEVERITIES:
        raise Refused(f"page.severity: {message.severity[:32]!r}")
    return HandOver(
        page=check.text("page.page", message.page, check.NAME_MAX_CHARS),
        incident=IncidentId(check.identifier("page.incident", message.incident)),
        severity=message.severity,
        summary=check.text("page.summary", message.summary),
        wall=check.wall("page.wall", message.wall),
        subject=check.text("page.subject", message.subject, check.NAME_MAX_CHARS),
        device=check.text("page.device", message.device, check.NAME_MAX_CHARS),
        fault=check.text("page.fault", message.fault, check.NAME_MAX_CHARS),
        pci=check.text("page.pci", message.pci, check.NAME_MAX_CHARS),
        own=check.text("page.own", message.own, check.NAME_MAX_CHARS),
        acked_by=check.text("page.acked_by", message.acked_by, check.NAME_MAX_CHARS),
        silenced_by=check.text("page.silenced_by", message.silenced_by, check.NAME_MAX_CHARS),
        silenced_until_wall=check.wall("page.silenced_until_wall", message.silenced_until_wall),
    )


def from_ask(message: pb.PermitAsk) -> Ask:
    """A wish for a permit."""
    if message.kind not in ASKED_KINDS:
        raise Refused(f"ask.kind: {message.kind[:32]!r}")
    return Ask(
        id=check.identifier("ask.id", message.id),
        kind=message.kind,
        subject=check.identifier("ask.subject", message.subject),
        incident=check.text("ask.incident", message.incident, check.NAME_MAX_CHARS),
        age_s=check.number("ask.age_s", message.age_s, 0.0, 10 * 365 * 86_400.0),
    )
