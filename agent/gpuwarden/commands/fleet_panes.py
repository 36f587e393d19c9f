"""What the verbs of the fleet show."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from gpuwarden.adapters.fleet_client import state_word
from gpuwarden.commands.output import Cell, Column, Out, Part, Styled
from gpuwarden.commands.words import clock, size, span
from gpuwarden.model.decision import Incident
from gpuwarden.wire.v1 import fleet_pb2 as pb

STYLES = {
    "healthy": "green",
    "degraded": "yellow",
    "cordoned": "cyan",
    "silent": "bold red",
    "blind": "red",
    "unknown": "dim",
}


def as_data(message: Message) -> Any:
    """A message for JSON, under the names of the wire format."""
    return MessageToDict(message, preserving_proto_field_name=True)


def status_parts(said: pb.StatusResponse, out: Out) -> list[Part]:
    """Who answers, how many nodes are how, and what is wrong with the whole."""
    up_s = said.wall - said.started_wall
    counts = [f"{each.count} {state_word(each.state)}" for each in said.states]
    total = sum(each.count for each in said.states)
    parts: list[Part] = [
        Styled(f"gpuwarden {said.version}  epoch {said.epoch}  up {span(up_s)}", "bold"),
        f"{total} nodes: {', '.join(counts) or 'none has joined'}",
        f"{said.incidents_open if said.HasField('incidents_open') else '?'} incidents open, {said.permits_held} permits held",
    ]
    if said.others or not said.is_leader:
        here = "this one leads" if said.is_leader else f"{said.leader or 'nobody known'} leads"
        others = ", ".join(said.others) or "none that is alive"
        parts.append(f"{here}; other aggregators: {others}")
    if said.leader_unknown:
        why = f"it is not known who leads, no permits come from here: {said.leader_unknown}"
        parts.append(Styled(why, "bold red"))
    if said.permits_frozen:
        parts.append(Styled(f"no permits are given: {said.permits_frozen}", "bold red"))
    parts += [Styled(each, "red") for each in said.freezes]
    parts += [Styled(each.summary, "red") for each in said.findings]
    return [*parts, *_on_call(said)]


def _on_call(said: pb.StatusResponse) -> list[Part]:
    """Who told people of what nodes reported; nothing before there was anything."""
    totals = {each.name: each.total for each in said.counters}
    told, folded = totals.get("node_pages_told", 0), totals.get("node_pages_folded", 0)
    alone, twice = totals.get("node_pages_alone", 0), totals.get("node_pages_twice", 0)
    if not told + folded + alone:
        return []
    line = f"pages of nodes: {told} sent here, {folded} told as part of a mass, {alone} sent by nodes that did not hear this in time"
    parts: list[Part] = [line]
    if twice:
        parts.append(Styled(f"{twice} sent by both, under one key", "yellow"))
    return parts


def node_table(nodes: Sequence[pb.FleetNode], out: Out) -> Part:
    """One row a node."""
    columns = (
        Column("NODE"),
        Column("STATE"),
        Column("GPUS", is_number=True),
        Column("MODE"),
        Column("OPEN", is_number=True),
        Column("HEARD", is_number=True),
        Column("GROUP", from_width=100),
        Column("WHY", may_wrap=True),
    )
    return out.table(columns, [_node_row(node) for node in nodes])


def _node_row(node: pb.FleetNode) -> list[Cell]:
    state = state_word(node.state)
    heard = f"{span(node.heard_s)} ago" if node.HasField("heard_s") else "never"
    return [
        node.node,
        Styled(state, STYLES[state]),
        str(node.devices),
        node.mode or "?",
        str(node.incidents_open),
        heard,
        node.group,
        node.why,
    ]


def incident_table(found: Sequence[tuple[str, Incident]], out: Out) -> Part:
    """One row an incident."""
    columns = (
        Column("WHEN"),
        Column("NODE"),
        Column("INCIDENT"),
        Column("RULE"),
        Column("OUTCOME", may_wrap=True, max_width=30),
        Column("WHAT", may_wrap=True),
    )
    rows: list[list[Cell]] = [
        [
            clock(each.opened_wall),
            node,
            each.id,
            each.rule,
            Styled(each.outcome, "red" if each.closed_at is None else ""),
            each.summary,
        ]
        for node, each in found
    ]
    return out.table(columns, rows)


def tenant_table(nodes: Sequence[pb.FleetNode], limit: int, out: Out) -> Part:
    """The largest tenants of all nodes."""
    columns = (
        Column("NODE"),
        Column("GPU", is_number=True),
        Column("TENANT"),
        Column("CLASS"),
        Column("MEMORY", is_number=True),
        Column("QUOTA", is_number=True),
    )
    found = [(tenant, node) for node in nodes for tenant in node.sample.tenants]
    found.sort(key=lambda each: -each[0].used_bytes)
    return out.table(columns, [_tenant_row(tenant, node) for tenant, node in found[:limit]])


def _tenant_row(tenant: pb.TenantSample, node: pb.FleetNode) -> list[Cell]:
    from gpuwarden.wire.v1 import node_pb2

    word = node_pb2.TenantClass.Name(tenant.tenant_class).removeprefix("TENANT_CLASS_")
    hard = tenant.hard_bytes if tenant.HasField("hard_bytes") else None
    is_over = hard is not None and tenant.used_bytes > hard
    return [
        node.node,
        str(node.sample.devices[tenant.device].index),
        tenant.name or tenant.tenant,
        word.lower().replace("_", "-"),
        Styled(size(tenant.used_bytes), "red" if is_over else ""),
        size(hard),
    ]


def query_table(said: pb.QueryResponse, out: Out) -> Part:
    """One row a node: what it said, in short, or why it did not."""
    columns = (Column("NODE"), Column("ANSWER", may_wrap=True))
    return out.table(columns, [[each.node, _answer(each)] for each in said.answers])


def _answer(answer: pb.QueryAnswer) -> Cell:
    if answer.error:
        return Styled(f"no answer: {answer.error}", "red")
    if answer.HasField("view"):
        view = answer.view
        devices, tenants = len(view.snapshot.devices), len(view.snapshot.tenants)
        return f"{view.agent.mode}: {devices} devices, {tenants} tenants, {len(view.findings)} findings"
    still = sum(1 for each in answer.incidents.incidents if not each.HasField("closed_at"))
    return f"{len(answer.incidents.incidents)} incidents, {still} open"
