"""What stores write and read back, as rows: the same in each."""

import json
from collections.abc import Sequence
from typing import Any

from gpuwarden.aggregator.store import Entry, KeptIncident
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
    return json.dumps({name: getattr(permit, name) for name in _PERMIT})


def state_row(entry: Entry) -> tuple[Any, ...]:
    report = entry.report
    assert report is not None
    worst = None if report.worst is None else int(report.worst)
    return (
        *(entry.node, entry.wall, report.wall, report.mode, report.devices, report.unseen),
        *(report.cordoned, worst, ",".join(report.faults), report.incidents_open),
    )


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
