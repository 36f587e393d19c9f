"""What stores write and read back, as rows: the same in each."""

import json
from collections.abc import Sequence
from typing import Any

from gpuwarden.aggregator.store import Entry, KeptIncident, KeptPermit
from gpuwarden.model.fleet import Greeting, Permit, Told

_GREETING = (
    *("node", "boot_id", "log_id", "agent_version", "policy_version", "api_address", "group"),
    "metrics_address",
)
_PERMIT = ("id", "node", "boot_id", "ask", "kind", "subject", "group", "granted_wall", "epoch")


def greeting_text(greeting: Greeting) -> str:
    said = {name: getattr(greeting, name) for name in _GREETING}
    return json.dumps({**said, "domains": greeting.domains})


def permit_text(permit: Permit) -> str:
    said = {name: getattr(permit, name) for name in _PERMIT}
    return json.dumps({**said, "ttl_s": ttl_of(permit)})


def ttl_of(permit: Permit) -> float:
    """For how long it was given."""
    return max(0.0, permit.expires_at - permit.granted_at)


def permit_row(permit: Permit) -> tuple[Any, ...]:
    """For PostgreSQL."""
    said = (permit.id, permit.node, permit.granted_wall, permit_text(permit))
    return (*said, permit.epoch, ttl_of(permit))


def kept_permit(text: str, age_s: float, left_s: float | None = None) -> KeptPermit:
    """``left_s`` None: it follows from the age."""
    said = json.loads(text)
    ttl_s = said.pop("ttl_s", 0.0)
    left_s = ttl_s - age_s if left_s is None else left_s
    return KeptPermit(permit=Permit(**said), age_s=age_s, left_s=left_s)


OLD_INCIDENT = (
    "closed_wall < {} AND NOT EXISTS "
    "(SELECT 1 FROM event WHERE event.node = incident.node AND event.key = incident.id)"
)
"""By the node's clock, which may be months behind: so only once nothing that was heard of it is young."""
OUT_OF_USE = "SELECT node FROM state WHERE cordoned > 0 AND cordoned >= devices"


def state_row(entry: Entry) -> tuple[Any, ...]:
    report = entry.report
    assert report is not None
    worst = None if report.worst is None else int(report.worst)
    # All of a cordoned node is out of use: ``out_of_use`` reads this after a restart.
    cordoned = max(1, report.devices) if report.is_cordoned else report.cordoned
    return (
        *(entry.node, entry.wall, report.wall, report.mode, report.devices, report.unseen),
        *(cordoned, worst, ",".join(report.faults), report.incidents_open),
    )


def shared_state_row(entry: Entry) -> tuple[Any, ...]:
    """With what another aggregator needs to judge the node."""
    report = entry.report
    assert report is not None
    degraded = json.dumps(report.degraded)
    return (*state_row(entry), entry.stream, report.sequence, report.is_cordoned, degraded)


def event_row(entry: Entry, event: Told) -> tuple[Any, ...]:
    # The body of an incident is kept once, with the incident.
    payload = b"" if event.kind == "incident" else event.payload or event.summary.encode()
    return (
        *(entry.node, entry.log_id, event.sequence, event.wall, entry.wall),
        *(event.kind, event.key, payload),
    )


def incident_rows(told: Sequence[tuple[str, Told]]) -> list[tuple[Any, ...]]:
    return [
        (node, e.key, e.rule, e.opened_wall, e.closed_wall, e.payload)
        for node, e in told
        if e.kind == "incident"
    ]


def incident_of(row: tuple[Any, ...]) -> KeptIncident:
    node, name, rule, opened_wall, closed_wall, payload = row
    return KeptIncident(
        node=node,
        id=name,
        rule=rule,
        opened_wall=opened_wall,
        closed_wall=closed_wall,
        payload=payload,
    )


def greeting_of(said: dict[str, Any]) -> Greeting:
    domains = tuple((str(name), str(text)) for name, text in said.pop("domains"))
    return Greeting(**said, domains=domains)
