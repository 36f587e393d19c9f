"""A version's way to all of a service's traffic: no step without numbers that speak for it, back on a breach.

A breach freezes the share where it is. Then the GPUs are looked at: what explains the breach is acted on instead.
Where they are ruled out the containers of the version go back to the one before, if the policy allows; the share of
the arm does not jump for that, for behind it runs the old version then.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from gpuwarden.config_ramp import RampConfig
from gpuwarden.model.ramp import ACTIVE, OVER, Ramp, Stage, Way

GAP_MAX_S = 120.0
"""Between two looks longer apart nobody was looking: that time does not count as held."""
SURE = 0.95
"""How probably the better one a version has to be before the bandit ends."""


class Word(StrEnum):
    """What the guardrails of the version say, taken together."""

    GREEN = "green"
    RED = "red"
    UNKNOWN = "unknown"
    """Not enough numbers. Never a step."""


class Trial(StrEnum):
    """What the always-valid test of the version against the one before says."""

    OPEN = "open"
    NO_WORSE = "no-worse"
    WORSE = "worse"


class Back(StrEnum):
    """How the rollback of its containers fares."""

    NONE = "none"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is known now."""

    now_s: float
    """Steady seconds."""
    word: Word = Word.UNKNOWN
    why: str = ""
    """Which guardrail, or which number is missing."""
    test: Trial = Trial.OPEN
    is_trusted: bool = True
    """False while the split is not what it should be: then test and bandit are not read."""
    weights: Mapping[str, float] | None = None
    """The bandit's, with its floor; None: it has none yet."""
    sure: float | None = None
    """How probably the version is the better one."""
    is_gpu: bool | None = None
    """Whether the GPUs explain the breach; None: not known yet."""
    cause: str = ""
    back: Back = Back.NONE
    is_frozen: bool = False
    share: float = 0.0
    """The version's, as it was told last."""


class Event(StrEnum):
    """What can happen to a rollout."""

    NOTHING = "nothing"
    HELD = "held"
    """The canary held long enough."""
    HELD_FOR_GATE = "held-for-gate"
    PASSED = "passed"
    WON = "won"
    ALL = "all"
    """It has all traffic, and held it."""
    RED = "red"
    EXCUSED = "excused"
    BLAMED = "blamed"
    """The GPUs are ruled out, and it may be rolled back."""
    ASK = "ask"
    """They are ruled out, or nobody can tell, and only a person may."""
    BORNE = "borne"
    """What the GPUs did is over, and so is the breach."""
    ABORT = "abort"
    BACK = "back"
    BACK_FAILED = "back-failed"


S, E = Stage, Event
TABLE: dict[tuple[Stage, Event], Stage] = {
    (S.CANARY, E.HELD): S.CLIMB,
    (S.CANARY, E.HELD_FOR_GATE): S.GATE,
    (S.GATE, E.PASSED): S.BANDIT,
    (S.BANDIT, E.WON): S.CLIMB,
    (S.CLIMB, E.ALL): S.DONE,
    **{(stage, E.RED): S.BREACHED for stage in ACTIVE},
    **{(stage, E.ABORT): S.UNDOING for stage in (*ACTIVE, S.BREACHED, S.EXCUSED, S.WAITING)},
    (S.BREACHED, E.EXCUSED): S.EXCUSED,
    (S.BREACHED, E.BLAMED): S.UNDOING,
    (S.BREACHED, E.ASK): S.WAITING,
    (S.UNDOING, E.BACK): S.UNDONE,
    (S.UNDOING, E.BACK_FAILED): S.WAITING,
}
"""``(EXCUSED, BORNE)`` leads back to where it stood: ``Ramp.before``."""


def moved(stage: Stage, event: Event, before: Stage) -> Stage:
    """The next stage; an event that says nothing to a stage leaves it."""
    if (stage, event) == (S.EXCUSED, E.BORNE):
        return before
    return TABLE.get((stage, event), stage)


def step(cfg: RampConfig, ramp: Ramp, look: Look) -> Ramp:
    """One look at a rollout."""
    if ramp.stage in OVER:
        return ramp
    is_moved = abs(look.share - ramp.share) > 1e-9
    held_s = 0.0 if is_moved else _held(ramp, look)
    ramp = replace(ramp, held_s=held_s, looked_s=look.now_s, share=look.share)
    event, why = _event(cfg, ramp, look)
    stage = moved(ramp.stage, event, ramp.before)
    if stage is ramp.stage:
        return replace(ramp, why=why, cause=look.cause or ramp.cause)
    before = ramp.stage if ramp.stage in ACTIVE else ramp.before
    return replace(
        ramp,
        stage=stage,
        before=before,
        since_s=look.now_s,
        held_s=0.0,
        why=why,
        cause=look.cause if stage in (S.EXCUSED, S.UNDOING, S.WAITING) else ramp.cause,
        is_wanted_back=False if stage in OVER else ramp.is_wanted_back,
    )


def _held(ramp: Ramp, look: Look) -> float:
    """Time in which all was known to be well adds up; a pause, a freeze and want of numbers stop the clock."""
    since = look.now_s - ramp.looked_s
    counts = look.word is Word.GREEN and not ramp.is_paused and not look.is_frozen
    if not counts or not 0.0 <= since <= GAP_MAX_S:
        return ramp.held_s
    return ramp.held_s + since


def _event(cfg: RampConfig, ramp: Ramp, look: Look) -> tuple[Event, str]:
    if ramp.is_wanted_back and ramp.stage is not S.UNDOING:
        return E.ABORT, ramp.why
    if ramp.stage is S.BREACHED:
        return _judged(cfg, ramp, look)
    if ramp.stage is S.EXCUSED:
        is_over = look.word is Word.GREEN
        return (E.BORNE, "") if is_over else (E.NOTHING, f"held: {ramp.cause or look.cause}")
    if ramp.stage is S.UNDOING:
        if look.back is Back.DONE:
            return E.BACK, f"rolled back to {ramp.base}: {ramp.why}"
        return (E.BACK_FAILED, look.why) if look.back is Back.FAILED else (E.NOTHING, ramp.why)
    if ramp.stage is S.WAITING:
        return E.NOTHING, ramp.why
    if look.word is Word.RED:
        return E.RED, look.why
    if look.test is Trial.WORSE and look.is_trusted:
        return E.RED, f"the test says that {ramp.version} is worse than {ramp.base}"
    if ramp.is_paused:
        return E.NOTHING, f"paused by {ramp.paused_by}"
    if look.is_frozen:
        return E.NOTHING, "shares are frozen"
    if look.word is Word.UNKNOWN:
        return E.NOTHING, f"no step without numbers: {look.why}"
    return _forward(cfg, ramp, look)


def _judged(cfg: RampConfig, ramp: Ramp, look: Look) -> tuple[Event, str]:
    """What the GPUs have to do with a breach."""
    if look.is_gpu:
        return E.EXCUSED, f"not rolled back, the GPUs explain it: {look.cause}"
    if look.is_gpu is None and look.now_s - ramp.since_s < cfg.cause_s:
        return E.NOTHING, ramp.why
    if look.is_gpu is None:
        return E.ASK, f"{ramp.why}; whether the GPUs did it cannot be told: {look.cause}"
    return (
        (E.BLAMED, ramp.why) if ramp.may_undo else (E.ASK, f"{ramp.why}; the policy asks a person")
    )


def _forward(cfg: RampConfig, ramp: Ramp, look: Look) -> tuple[Event, str]:
    """The next step, where the present one was held long enough."""
    left_s = cfg.soak_s - ramp.held_s
    if left_s > 0:
        return E.NOTHING, f"has to hold for {left_s:.0f} s more"
    if ramp.stage is S.CANARY:
        return (E.HELD_FOR_GATE if ramp.way is Way.GATEKEEPER else E.HELD), ""
    if ramp.stage is S.CLIMB:
        return (E.ALL, "") if look.share >= 1.0 - 1e-9 else (E.NOTHING, "")
    if not look.is_trusted:
        return E.NOTHING, "the split is not what it should be: readings are withheld"
    if ramp.stage is S.GATE:
        return (E.PASSED, "") if look.test is Trial.NO_WORSE else (E.NOTHING, "the test is open")
    is_sure = look.sure is not None and look.sure >= SURE
    return (E.WON, "") if is_sure else (E.NOTHING, "the bandit is not sure yet")


def wanted(cfg: RampConfig, ramp: Ramp, look: Look) -> float | None:
    """The share that the version should have next; None: leave it. The cap is not thought of here: whoever tells the
    shares has it applied, to this as to a hand's wish."""
    if look.is_frozen or ramp.is_paused:
        return None
    if ramp.stage is S.UNDONE:
        return (
            0.0  # behind it runs the old version: the arm is let go at the pace that everything has
        )
    if ramp.stage is S.DONE:
        return 1.0
    if ramp.stage not in ACTIVE or look.word is not Word.GREEN:
        return None
    if ramp.stage is S.CANARY:
        return cfg.first
    if ramp.stage is S.GATE:
        return 0.5
    if ramp.stage is S.BANDIT:
        return None if look.weights is None or not look.is_trusted else look.weights.get("new")
    if ramp.held_s < cfg.soak_s and look.share > cfg.first:
        return None
    return next((s for s in cfg.steps if s > look.share + 1e-9), 1.0)
