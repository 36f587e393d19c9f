"""The fleet: who speaks, what a node tells of itself, what it may do, and how it is seen from the centre."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from gpuwarden.model.finding import Severity
from gpuwarden.model.policy import PolicyReport


class Role(StrEnum):
    """What a certificate lets its holder do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    NODE = "node"
    AGGREGATOR = "aggregator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who calls, by the certificate: a role, and the name it was given to."""

    role: Role
    name: str


class NodeState(StrEnum):
    """How a node is, for the fleet."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CORDONED = "cordoned"
    SILENT = "silent"
    """It was heard, and is not any more."""
    BLIND = "blind"
    """It is heard, and cannot see its devices."""
    UNKNOWN = "unknown"
    """Not heard since the aggregator started, or the aggregator's own sight is in doubt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a node says of itself when it begins to speak."""

    node: str
    boot_id: str
    log_id: str
    """Names the numbering of its events."""
    agent_version: str = ""
    policy_version: int = 0
    api_address: str = ""
    group: str = "default"
    domains: tuple[tuple[str, str], ...] = ()
    """What fails together with it: ("rack", "r12")."""
    epoch: int = 0
    wall: float = 0.0
    metrics_address: str = ""
    """Where its metrics page is; empty: nowhere that others reach."""
    policy: PolicyReport | None = None
    """None: it did not say."""


class Report(NamedTuple):
    """What of a sample the fleet judges by. ``unseen``: devices whose sight is not ok.

    A named tuple, as is all that is made for every report: a frozen dataclass of this size takes five times as
    long to make.
    """

    sequence: int
    wall: float
    mode: str = ""
    devices: int = 0
    unseen: int = 0
    cordoned: int = 0
    is_cordoned: bool = False
    worst: Severity | None = None
    """Of the findings, cordons left out."""
    faults: tuple[str, ...] = ()
    """Classes of faults that stand, each once."""
    degraded: tuple[str, ...] = ()
    incidents_open: int = 0
    findings: int = 0
    withheld: int = 0
    """Actions that a rule wants and a mode or a budget holds back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One event of a node, as it is kept. ``kind``: incident, outcome, order or note."""

    sequence: int
    wall: float
    kind: str
    payload: bytes = b""
    """The event's body as it came."""
    key: str = ""
    """Id of the incident, the action or the order."""
    rule: str = ""
    summary: str = ""
    opened_wall: float = 0.0
    closed_wall: float | None = None
    is_done: bool = False
    """Of an order: whether it was obeyed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A harmful action that a node wants to take."""

    id: str
    kind: str
    subject: str
    incident: str = ""
    age_s: float = 0.0
    """Since the fault was noticed, by the node's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Leave for one action of one node. ``granted_wall`` is for people and budgets that span restarts."""

    id: str
    node: str
    boot_id: str
    ask: str
    kind: str
    subject: str
    group: str
    granted_wall: float
    granted_at: float = 0.0
    expires_at: float = 0.0
    """Monotonic seconds of whoever holds it, as ``granted_at`` is."""
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A permit that is not given, and the budget that stopped it."""

    node: str
    ask: str
    budget: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An operator's wish for one boot of one node."""

    id: str
    node: str
    boot_id: str
    verb: str
    subject: str
    reason: str
    by: str
    expires_at: float
    """Monotonic seconds of whoever holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetClaim:
    """A claim about the fleet as a whole."""

    key: str
    severity: Severity
    summary: str
    count: int = 1
    """Of how many nodes it speaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetIncident:
    """A claim about the fleet from when it was first made, folded: one, of however many nodes it speaks.

    Times are monotonic seconds of the aggregator, but ``opened_wall``.
    """

    id: str
    key: str
    severity: Severity
    summary: str
    """As the claim last read."""
    opened_at: float
    opened_wall: float
    count: int
    """The most nodes it spoke of."""
    grown_at: float
    gone_at: float | None = None
    """Since when nobody claims it any more; None: it is claimed."""
    is_paged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStanding:
    """One node as the fleet sees it."""

    greeting: Greeting
    state: NodeState
    why: str
    is_connected: bool
    heard_at: float | None = None
    """Monotonic seconds; None: not since the aggregator started."""
    report: Report | None = None
    events_dropped: int = 0
    wall_offset_s: float | None = None
    policy: PolicyReport | None = None
    """None: not since the aggregator started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """One picture of the fleet. ``serial`` grows with each."""

    serial: int
    at: float
    wall: float
    epoch: int
    nodes: Collection[NodeStanding] = ()
    claims: tuple[FleetClaim, ...] = ()
    frozen: str = ""
    """Why no permits are given; empty: they are."""
    freezes: tuple[str, ...] = ()
    """Of each frozen group: since when, of whom, and whose word lifts it."""
    permits_held: int = 0
    is_leader: bool = True
    """Whether this aggregator gives permits and wakes people: of several on one database one does."""
    leader: str = ""
    """Where the one is that does; empty: not known, or nobody else."""
    leader_unknown: str = ""
    """Why it is not known who leads; empty: it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """What the fleet lets a node do now. ``permits`` name a kind of action and a device, or ``node``."""

    is_required: bool = False
    permits: tuple[tuple[str, str], ...] = ()


def no_fleet(now: float) -> Leave:
    """A node alone needs nobody's leave."""
    return Leave()
