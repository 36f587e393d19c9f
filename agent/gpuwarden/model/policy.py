"""The fleet's policies: what one is, how far it has come, and where the nodes stand."""

from dataclasses import dataclass
from enum import StrEnum

from gpuwarden.model.finding import Severity
from gpuwarden.model.tenant import TenantClass


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyHead:
    """What is said of a policy beside its settings, under the same signature."""

    version: int
    """Greater than that of every policy before it."""
    fleet: str
    """The trust domain it is for."""
    groups: tuple[str, ...] = ()
    """Globs of node groups; empty: every group."""
    issued_wall: float
    not_after_wall: float
    note: str = ""
    restores: int = 0
    """The version whose settings it brings back; 0: nobody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy whose signature was checked. ``bundle`` are the bytes that travel."""

    head: PolicyHead
    settings: str
    digest: str
    bundle: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRefusal:
    """A policy that a node would not take. ``version`` 0: it could not even be read."""

    version: int
    why: str
    wall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReport:
    """What a node has in force; ``version`` 0: no policy of the fleet."""

    version: int = 0
    digest: str = ""
    not_after_wall: float = 0.0
    is_expired: bool = False
    refusals: tuple[PolicyRefusal, ...] = ()
    """Newest last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLayer:
    """What of a policy goes into an agent's configuration."""

    version: int
    settings: str
    is_safe_set: bool = False
    """Nobody stands behind it any more: its quotas are judged by, and nothing acts."""
    is_lost: bool = False
    """There was one, and what it said cannot be had: always a safe set."""


class RolloutState(StrEnum):
    """How a roll-out is."""

    RUNNING = "running"
    HALTED = "halted"
    DONE = "done"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Nodes of these groups (globs; empty: all the policy is for), so many of a hundred."""

    groups: tuple[str, ...] = ()
    percent: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What a node reported before it was given a policy."""

    node: str
    findings: int
    withheld: int
    has_refused: bool = False
    """It had refused this very policy when its roll-out was resumed: it is given its time once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How far a policy has come. ``released`` stages have it; wall times are the aggregator's."""

    version: int
    stages: tuple[Stage, ...]
    released: int
    released_wall: float
    soak_s: float
    settled_wall: float | None = None
    """Since when every node of the released stages that is heard has it; None: not yet."""
    state: RolloutState = RolloutState.RUNNING
    why: str = ""
    before: tuple[Before, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyStanding:
    """What a roll-out judges one node by. Counts are None where the node has not reported."""

    node: str
    group: str
    is_connected: bool
    report: PolicyReport
    is_lost: bool = False
    """Silent, or blind: it was heard or saw before."""
    findings: int | None = None
    withheld: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A node that is not where it should be: behind, ahead, refused, expired or foreign."""

    node: str
    group: str
    version: int
    wanted: int
    state: str
    why: str
    severity: Severity = Severity.WARNING


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one tenant holds on one device, as its node last reported; None: not known."""

    tenant: str
    name: str
    tenant_class: TenantClass
    device_index: int
    used_bytes: int
    hard_bytes: int | None = None
    facts: tuple[tuple[str, str], ...] = ()
    """What an entry of a policy may match: image, name, unit, user, account, runtime, comm, service."""
    claims: tuple[tuple[str, str], ...] = ()
    """What its labels claim of class and memory, as they stand there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One node's tenants, as it last reported."""

    node: str
    group: str
    mode: str
    held: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """A tenant that a policy would treat differently, and why."""

    node: str
    held: Held
    reasons: tuple[str, ...]
    is_protected: bool
    is_evictable: bool
    """Over its quota under the policy, on a node that enforces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One setting; values as TOML, empty: not said."""

    path: str
    before: str
    after: str
