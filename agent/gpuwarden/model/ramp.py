"""How the fleet's traffic is shared out among versions of a service, and what is being found out by that."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmShare:
    """One arm of a service. The shares of all its arms sum to 1."""

    arm: str
    version: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What the operator's router is told. Every one that was ever told is kept: the cap is judged by that."""

    service: str
    arms: tuple[ArmShare, ...]
    steady_s: float = 0.0
    """By the fleet's steady clock (``Steady``), which no wall clock moves."""
    why: str = ""

    def of(self, arm: str) -> float:
        """0 for one that is not there."""
        return next((each.share for each in self.arms if each.arm == arm), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """Seconds in which an aggregator led this fleet, ever. Time nobody led does not count, a wall clock that is set
    does not either: so it never runs faster than the world, and what is allowed a day stays so."""

    steady_s: float = 0.0


class Way(StrEnum):
    """How a version gets its share."""

    CANARY = "canary"
    """5 %, then step by step to all."""
    GATEKEEPER = "gatekeeper"
    """5 %, an A/B test that has to say it is no worse, a bandit, then all."""


class Stage(StrEnum):
    """Where a rollout stands."""

    CANARY = "canary"
    GATE = "gate"
    """The A/B test."""
    BANDIT = "bandit"
    CLIMB = "climb"
    """Step by step to all."""
    DONE = "done"
    BREACHED = "breached"
    """A guardrail is red or the test says worse: its share is frozen, and the GPUs are looked at first."""
    EXCUSED = "excused"
    """The GPUs explain the breach: that is acted on, its share stays frozen until it is over."""
    WAITING = "waiting"
    """For a person: the policy does not allow a rollback, or it failed."""
    UNDOING = "undoing"
    """Its containers go back to the version before."""
    UNDONE = "undone"


ACTIVE = frozenset({Stage.CANARY, Stage.GATE, Stage.BANDIT, Stage.CLIMB})
"""In these its share may move."""
OVER = frozenset({Stage.DONE, Stage.UNDONE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """One version on its way to all of a service's traffic."""

    id: str
    service: str
    version: str
    base: str
    """The version before."""
    way: Way = Way.CANARY
    stage: Stage = Stage.CANARY
    before: Stage = Stage.CANARY
    """Where it stood when the breach began."""
    since_s: float = 0.0
    """When its stage, or its share, last changed; steady seconds."""
    held_s: float = 0.0
    """How long since then nothing spoke against it, and numbers were there to say so."""
    looked_s: float = 0.0
    """Of the last look; steady seconds."""
    is_paused: bool = False
    paused_by: str = ""
    may_undo: bool = False
    """Whether the policy lets it be rolled back without a person."""
    is_wanted_back: bool = False
    """A person aborts it."""
    why: str = ""
    """What it waits for, or what ended it."""
    cause: str = ""
    """What was found on the GPUs."""
    campaign: str = ""
    """Id of the rollback of its containers."""
    share: float = 0.0
    """As it was told at the last look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Nobody moves shares: not a bandit, not a rollout, not a hand; only away from what is in breach. Unlike a
    pause it is of the whole environment (``service`` empty) or one service, and ends by itself."""

    service: str = ""
    is_on: bool = False
    by: str = ""
    """A person, or ``environment``."""
    why: str = ""
    since_s: float = 0.0
    until_s: float = 0.0
    """Steady seconds; 0: until somebody ends it."""
    usual: float | None = None
    """Of the environment's own: requests a second that were usual when it began; None: it was not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCount:
    """What one arm of an experiment was counted with."""

    arm: str
    share: float
    """As the split was meant at its begin; 0: it is to get nothing."""
    units: float = 0.0
    expected: float = 0.0
    """Sum over periods of (traffic of the period x the share then in force): what a moving split promised."""
    errors: float = 0.0
    total_s: float = 0.0
    """Sum of latencies."""
    square_s: float = 0.0
    timed: float = 0.0
    """Requests with a latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCount:
    """Units of one arm in one segment: where a mismatch comes from."""

    segment: str
    arm: str
    units: float
    expected: float


class Trust(StrEnum):
    """Whether an experiment's readings may be read."""

    OPEN = "open"
    WITHHELD = "withheld"
    """The split is not what it should be: nothing is read, nothing decided."""
    RELEASED = "released"
    """It was withheld; somebody has looked, and takes the word for it."""
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Who gets which version, and what has been counted. Its counts are of windows up to ``upto_wall``, each once."""

    id: str
    service: str
    arms: tuple[ArmCount, ...]
    salt: str = ""
    trust: Trust = Trust.OPEN
    since_wall: float = 0.0
    upto_wall: float = 0.0
    segments: tuple[SegmentCount, ...] = ()
    p_value: float | None = None
    """Of the split; None: too few to tell."""
    hints: tuple[str, ...] = ()
    """Where the mismatch seems to come from."""
    released_by: str = ""
    released_why: str = ""
    released_units: float = 0.0
    """How many had been counted then: what comes after is judged afresh."""
    is_frozen: bool = False
    late: float = 0.0
    """Units in windows that came after theirs had been counted."""
    looks: int = 0


class Turn(StrEnum):
    """Where one node of a campaign stands."""

    WAITING = "waiting"
    ORDERED = "ordered"
    DONE = "done"
    FAILED = "failed"
    """It said no, or its new start failed: the version that ran there runs on."""
    LOST = "lost"
    """It has not answered in its time, and is not heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTurn:
    node: str
    turn: Turn = Turn.WAITING
    order: str = ""
    """Id of the order: the same again is the same order."""
    since_wall: float = 0.0
    incident: str = ""
    detail: str = ""


class CampaignState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    HALTED = "halted"
    """Too many nodes failed: those that are left stay as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A service goes back to another version on the nodes that carry it, batch by batch."""

    id: str
    service: str
    version: str
    """Empty: each node's last good one."""
    how: str = ""
    by: str = ""
    reason: str = ""
    state: CampaignState = CampaignState.RUNNING
    since_wall: float = 0.0
    nodes: tuple[NodeTurn, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """What an alias of a model registry points to, or pointed to."""

    model: str
    alias: str
    version: str
    by: str = ""
    rollout: str = ""
    """Id of the rollout that ended with it."""
