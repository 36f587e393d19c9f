"""What is remembered of the fleet, and how what arrives changes it: in any order, twice, or with gaps.

A node's newest stream is the one with the highest number; what an older one still brings is left out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from gpuwarden.model.fleet import Ask, FleetIncident, Greeting, Permit, Report
from gpuwarden.model.policy import PolicyReport
from gpuwarden.policy.fleet.freeze import Freeze, Thaw


class NodeMemory(NamedTuple):
    """One node. Times are monotonic seconds of the aggregator."""

    greeting: Greeting
    stream: int = 0
    is_connected: bool = False
    heard_at: float | None = None
    """None: not since the aggregator started."""
    report: Report | None = None
    sick_since: float | None = None
    is_out: bool = False
    """Out of use by its last word on that: it may have been silent, blind or rebooted since."""
    events_dropped: int = 0
    wall_offset_s: float | None = None
    asks: tuple[Ask, ...] = ()
    """What it wants leave for now."""
    asked_at: float = 0.0
    policy: PolicyReport | None = None
    """What it has in force of the fleet's policies; None: not said since the aggregator started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetMemory:
    """The whole. ``ledger`` holds what was granted, as long as a budget counts it."""

    started_at: float
    decided_at: float
    """When the fleet was last judged."""
    resumed_at: float
    """Since when the aggregator has listened without a break."""
    nodes: Mapping[str, NodeMemory] = field(default_factory=dict)
    ledger: tuple[Permit, ...] = ()
    incidents: tuple[FleetIncident, ...] = ()
    """What stands about the fleet as a whole, by key."""
    freezes: Mapping[str, Freeze] = field(default_factory=dict)
    """Groups of which too many turned sick at once, until that is over."""
    thaws: Mapping[str, Thaw] = field(default_factory=dict)
    """Groups for which an operator took it upon himself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A stream has begun."""

    at: float
    stream: int
    greeting: Greeting
    wall_offset_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A stream has ended."""

    at: float
    stream: int
    node: str


class Heard(NamedTuple):
    """A message of a stream: perhaps a report, and what leave is wanted for (None: not said)."""

    at: float
    stream: int
    node: str
    report: Report | None = None
    asks: tuple[Ask, ...] | None = None
    events_dropped: int = 0
    policy: PolicyReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """An operator's word that a node is gone for good."""

    at: float
    node: str


Arrival = Joined | Left | Heard | Forgotten


def fold(memory: FleetMemory, arrivals: Iterable[Arrival]) -> FleetMemory:
    """The fleet after these."""
    nodes = dict(memory.nodes)
    for arrival in arrivals:
        name = arrival.greeting.node if isinstance(arrival, Joined) else arrival.node
        known = nodes.get(name)
        if isinstance(arrival, Joined):
            if known is None or arrival.stream > known.stream:
                nodes[name] = _joined(known, arrival)
        elif isinstance(arrival, Forgotten):
            if known is not None and not known.is_connected:
                del nodes[name]
        elif known is not None and arrival.stream == known.stream:
            nodes[name] = (
                known._replace(is_connected=False, asks=())
                if isinstance(arrival, Left)
                else _heard(known, arrival)
            )
    return replace(memory, nodes=nodes)


def _joined(known: NodeMemory | None, arrival: Joined) -> NodeMemory:
    before = known or NodeMemory(greeting=arrival.greeting)
    is_same_boot = before.greeting.boot_id == arrival.greeting.boot_id
    return before._replace(
        greeting=arrival.greeting,
        stream=arrival.stream,
        is_connected=True,
        heard_at=arrival.at,
        # Another boot is another life: what was wrong with the old one is not said of the new.
        report=before.report._replace(sequence=0) if before.report and is_same_boot else None,
        sick_since=before.sick_since if is_same_boot else None,
        asks=(),
        wall_offset_s=arrival.wall_offset_s,
        policy=arrival.greeting.policy or before.policy,
    )


def is_out(report: Report, *, before: bool) -> bool:
    """Whether a node is out of use. What sees no device does not say that its devices are back."""
    if report.is_cordoned or (report.devices and report.cordoned >= report.devices):
        return True
    return before and not report.devices


def _heard(known: NodeMemory, arrival: Heard) -> NodeMemory:
    report = arrival.report
    if report is not None and known.report is not None:
        report = report if report.sequence > known.report.sequence else None
    is_later = arrival.at >= known.asked_at and arrival.asks is not None
    # Written out: ``replace`` takes twice as long, and this is done for every node every second.
    return NodeMemory(
        greeting=known.greeting,
        stream=known.stream,
        is_connected=known.is_connected,
        heard_at=max(arrival.at, known.heard_at or arrival.at),
        report=report or known.report,
        sick_since=known.sick_since,
        is_out=known.is_out if report is None else is_out(report, before=known.is_out),
        events_dropped=max(arrival.events_dropped, known.events_dropped),
        wall_offset_s=known.wall_offset_s,
        asks=arrival.asks if is_later and arrival.asks is not None else known.asks,
        asked_at=arrival.at if is_later else known.asked_at,
        policy=arrival.policy or known.policy,
    )
