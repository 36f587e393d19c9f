"""The fleet as its readers get it, and the marks of pages."""

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gpuwarden.errors import Refused
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import FleetClaim, FleetView, NodeStanding, NodeState
from gpuwarden.wire.convert_fleet import SCHEMA_VERSION
from gpuwarden.wire.convert_policy import to_policy_report
from gpuwarden.wire.fields import text, to_enum
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node

TOKEN_MAX_CHARS = 1024


def to_status(
    view: FleetView,
    *,
    version: str,
    started_wall: float,
    incidents_open: int | None,
    counters: Mapping[str, int],
    others: Sequence[str] = (),
    store_fault: str = "",
) -> pb.StatusResponse:
    counts = Counter(each.state for each in view.nodes)
    claims = view.claims
    if store_fault:
        summary = f"the store does not answer, nothing is acknowledged: {store_fault}"
        claims = (FleetClaim(key="store", severity=Severity.CRITICAL, summary=summary), *claims)
    return pb.StatusResponse(
        schema_version=SCHEMA_VERSION,
        version=version,
        epoch=view.epoch,
        started_wall=started_wall,
        wall=view.wall,
        states=[
            pb.StateCount(state=to_state(state), count=counts[state])
            for state in NodeState
            if counts[state]
        ],
        findings=[
            pb.FleetFinding(
                key=text(claim.key),
                severity=to_enum(node.Severity, "SEVERITY", claim.severity),
                summary=text(claim.summary),
            )
            for claim in claims
        ],
        incidents_open=incidents_open,
        permits_held=view.permits_held,
        permits_frozen=text(view.frozen),
        counters=[node.Counter(name=name, total=total) for name, total in counters.items()],
        is_leader=view.is_leader,
        leader=text(view.leader),
        leader_unknown=text(view.leader_unknown),
        others=others,
        freezes=[text(each) for each in view.freezes],
    )


def to_state(state: NodeState) -> Any:
    return to_enum(pb.NodeState, "NODE_STATE", state)


def from_state(number: int) -> NodeState | None:
    """None for one that is not said or not known."""
    try:
        return NodeState[pb.NodeState.Name(number).removeprefix("NODE_STATE_")]  # type: ignore[arg-type]  # any number may come
    except (KeyError, ValueError):
        return None


def to_node(standing: NodeStanding, now: float, sample: pb.Sample | None) -> pb.FleetNode:
    greeting, report = standing.greeting, standing.report
    return pb.FleetNode(
        node=greeting.node,
        state=to_state(standing.state),
        why=text(standing.why),
        group=greeting.group,
        domains=[node.NamedText(name=name, text=value) for name, value in greeting.domains],
        boot_id=greeting.boot_id,
        agent_version=text(greeting.agent_version),
        mode="" if report is None else report.mode,
        is_connected=standing.is_connected,
        heard_s=None if standing.heard_at is None else max(0.0, now - standing.heard_at),
        devices=0 if report is None else report.devices,
        incidents_open=0 if report is None else report.incidents_open,
        policy_version=greeting.policy_version
        if standing.policy is None
        else standing.policy.version,
        events_dropped=standing.events_dropped,
        wall_offset_s=standing.wall_offset_s,
        sample=sample,
        policy=None if standing.policy is None else to_policy_report(standing.policy),
    )


def page_size(asked: int, usual: int = 100, most: int = 1000) -> int:
    """How many a page holds."""
    return min(asked, most) if asked else usual


def page_token(*place: object) -> str:
    """Where the next page begins; opaque to whoever gets it."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def page_place(token: str, *kinds: type) -> tuple[object, ...] | None:
    """The place of a token; None where it is empty. ``Refused`` for one that we did not make."""
    if not token:
        return None
    try:
        if len(token) > TOKEN_MAX_CHARS:
            raise ValueError
        place = json.loads(base64.urlsafe_b64decode(token))
        is_ours = isinstance(place, list) and [type(p) for p in place] == list(kinds)
    except ValueError as error:
        raise Refused("page_token: not one of ours") from error
    if not is_ours:
        raise Refused("page_token: not one of ours")
    return tuple(place)
