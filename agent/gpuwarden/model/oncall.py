"""On-call: what people are told of an incident, through which sink, and why. Times are Unix seconds: what
is remembered here outlasts reboots."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gpuwarden.model.ids import IncidentId


class Reason(StrEnum):
    """Why something is sent, or held back."""

    FIRST = "first"
    ESCALATED = "escalated"
    """Nobody acknowledged it in time, or it became worse."""
    REPEAT = "repeat"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    STORM_FOLDED = "storm-folded"
    """One notice stands for many."""
    FLAP_SUPPRESSED = "flap-suppressed"
    SILENCED = "silenced"
    MAINTENANCE = "maintenance"
    HANDED_OVER = "handed-over"
    """The fleet's aggregator tells people of it."""
    REFRESH = "refresh"
    """The receiver forgets what is not said again."""
    TEST = "test"


HOLDS = frozenset({Reason.FLAP_SUPPRESSED, Reason.SILENCED, Reason.MAINTENANCE, Reason.HANDED_OVER})
"""Reasons to hold back."""

SEVERITIES = ("info", "warning", "error", "critical")
"""As pages say them, mildest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """An order to wake somebody. ``id`` is its action's: the same page is taken once."""

    id: str
    incident: IncidentId
    severity: str
    summary: str
    wall: float
    device: str = ""
    fault: str = ""
    """Class of the fault, where there is one: chooses the first steps."""
    pci: str = ""
    """The device's address, for commands that need it."""
    node: str = ""
    """At the aggregator: whose incident it is; empty: the fleet's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """What a node tells the aggregator of an incident that people are to be woken by; a later one replaces it."""

    page: str
    """Of the newest page."""
    incident: IncidentId
    severity: str
    summary: str
    wall: float
    subject: str = ""
    device: str = ""
    fault: str = ""
    pci: str = ""
    own: str = ""
    """Why the node wakes people itself; empty: the aggregator is to."""
    acked_by: str = ""
    silenced_by: str = ""
    """Who, on the node, wants nobody woken by it, and why; empty: nobody."""
    silenced_until_wall: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """How far the aggregator has an incident in hand."""

    page: str
    """The newest that was offered."""
    since_wall: float
    is_taken: bool = False
    is_told: bool = False
    """Somebody was told, or nobody is to be."""
    own: str = ""
    """Why this node wakes people itself after all; empty: it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """What is told of an incident. All text may be a stranger's: each sink escapes it its own way."""

    incident: IncidentId
    summary: str
    """What happened, in one sentence."""
    opened_wall: float
    rule: str = ""
    fault: str = ""
    subject: str = ""
    """What it is about where that is neither a tenant nor a device (``service/risk``)."""
    device: str = ""
    pci: str = ""
    tenant: str = ""
    tenant_name: str = ""
    tenant_class: str = ""
    runtime: str = ""
    evidence: tuple[tuple[str, str], ...] = ()
    done: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    closed_wall: float | None = None
    outcome: str = ""
    node: str = ""
    """At the aggregator: whose incident it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message for one sink.

    ``id`` names this message: one that is sent again after a crash has the same. ``key`` names what
    it is about, stable from the first message to the last.
    """

    id: str
    key: str
    sink: str
    reason: Reason
    severity: str
    severities: tuple[str, ...]
    """All it was told with so far, this one last."""
    host: str
    brief: Brief
    wall: float
    first_steps: tuple[str, ...] = ()
    number: int = 1
    """How often it was repeated, or on which escalation step."""
    acked_by: str = ""
    is_news: bool = True
    """Whether this sink has not told of it before."""
    is_flapping: bool = False
    folded: tuple[str, ...] = ()
    """One line an incident, of those that a storm notice stands for; bounded."""
    folded_count: int = 0

    @property
    def is_resolved(self) -> bool:
        return self.reason is Reason.RESOLVED

    @property
    def more(self) -> str:
        """The command that shows more."""
        if self.folded_count:
            return "gpuwarden incidents"
        if self.brief.rule == "fleet":
            return "gpuwarden fleet status"
        if self.brief.node:
            name = self.brief.incident.partition("/")[2]
            return f"gpuwarden fleet explain {name} --node {self.brief.node}"
        return (
            "gpuwarden status"
            if self.reason is Reason.TEST
            else f"gpuwarden explain {self.brief.incident}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a sink says of a message it took."""

    text: str = ""
    missed: str = ""
    """Replicas or recipients that did not take it, and why; empty: all did."""


class Result(StrEnum):
    """What became of a message."""

    DELIVERED = "delivered"
    FAILED = "failed"
    """Not this time; it is tried again."""
    REFUSED = "refused"
    """Said no; it is not repeated."""
    HELD = "held"
    FOLDED = "folded"
    """A storm notice stands for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One line of what an incident tells of its messages; a newer one of the same ``id`` replaces it."""

    id: str
    incident: IncidentId
    sink: str
    reason: Reason
    result: Result
    wall: float
    detail: str = ""


class State(StrEnum):
    """Where a message stands."""

    DUE = "due"
    SENT = "sent"
    REFUSED = "refused"
    FOLDED = "folded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """The newest message of one sink about one thing. An older one that was not sent is part of it."""

    sink: str
    reason: Reason
    serial: int
    """Grows with each message to this sink about this."""
    state: State = State.DUE
    ordered_wall: float = 0.0
    tried: int = 0
    done_wall: float | None = None
    repeats: int = 0
    is_reached: bool = False
    """Whether any message about this has been taken by the sink: then its end is told too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """Somebody has it in hand."""

    who: str
    wall: float
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """Which incidents: every given field must match (shell globs)."""

    tenant: str = ""
    """Its id or its name."""
    device: str = ""
    rule: str = ""
    """A rule, or the class of a fault."""
    incident: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Somebody wants to hear nothing of these until then."""

    id: str
    matcher: Matcher
    author: str
    reason: str
    since_wall: float
    until_wall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One incident that people are told of, and how far that has come."""

    incident: IncidentId
    brief: Brief
    severity: str
    paged_wall: float
    severities: tuple[str, ...] = ()
    """All severities it was paged with, in order, each once."""
    pages: tuple[str, ...] = ()
    """Ids of the newest pages taken; bounded."""
    is_message: bool = False
    """No incident stands behind it: told once, and then forgotten."""
    begun_wall: float | None = None
    """Since when it is not held back: escalation counts from here."""
    step: int = -1
    """The last escalation step that has begun."""
    posts: tuple[Post, ...] = ()
    ack: Ack | None = None
    held: Reason | None = None
    held_why: str = ""
    is_flapping: bool = False
    """Told for the last time before further ones of its kind are held back."""
    relay: Relay | None = None
    """None: nobody was asked to tell of it in this host's place."""
    is_worst_yet: bool = False
    """Worse than those of its kind before it: told even while they are held back."""
    log: tuple[Delivery, ...] = ()
    """Newest last, bounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """Many incidents that one sink tells of in one message."""

    key: str
    since_wall: float
    members: tuple[IncidentId, ...]
    told: int = 0
    """How many changes of it the last message knew."""
    changes: int = 0
    """How many incidents were folded into it, or became worse in it."""
    last_wall: float = 0.0
    """When one was folded last."""
    severity: str = "info"
    """The worst in it."""
    post: Post


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkBook:
    """What is remembered of a sink."""

    name: str
    fails: int = 0
    """In a row."""
    retry_wall: float = 0.0
    ok_wall: float | None = None
    failing_wall: float | None = None
    """Since when it has taken nothing; ``None``: the last message was taken, or none was sent."""
    detail: str = ""
    sent: tuple[float, ...] = ()
    """When it woke somebody lately; bounded."""
    storm: Storm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flap:
    """How often the same thing has come lately."""

    walls: tuple[float, ...]
    severity: str
    """The worst that was told of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """All that on-call remembers. Mappings are replaced, never changed in place."""

    entries: Mapping[IncidentId, Entry] = field(default_factory=dict)
    silences: Mapping[str, Silence] = field(default_factory=dict)
    sinks: Mapping[str, SinkBook] = field(default_factory=dict)
    flaps: Mapping[str, Flap] = field(default_factory=dict)
    refreshed: Mapping[str, float] = field(default_factory=dict)
    """``sink incident`` -> when it was last said again; not kept on disk."""
    serial: int = 0
    """Of silences."""
    dropped: int = 0
    """Pages there was no room for."""
    dropped_wall: float = 0.0
    """When that was last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkState:
    """A sink as readers see it."""

    name: str
    kind: str
    due: int = 0
    """Messages that wait."""
    ok_wall: float | None = None
    failing_wall: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OncallState:
    """On-call as readers see it."""

    sinks: tuple[SinkState, ...] = ()
    silences: tuple[Silence, ...] = ()
    unreached: tuple[IncidentId, ...] = ()
    """Incidents of which nobody has been told who should have been."""
    dropped: int = 0
