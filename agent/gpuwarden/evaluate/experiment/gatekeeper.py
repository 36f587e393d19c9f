"""A/B -> bandit -> all: when an experiment goes one stage on, and what holds it."""

from dataclasses import dataclass
from enum import StrEnum

from gpuwarden.evaluate.experiment.ab_test import Finding


class Stage(StrEnum):
    """Of one experiment; ``OVER`` keeps the control."""

    AB = "ab"
    BANDIT = "bandit"
    ALL = "all"
    OVER = "over"


class Signal(StrEnum):
    """What speaks at one moment, the strongest of several."""

    BREACH = "breach"  # a guardrail of the candidate is red
    MISMATCH = "mismatch"  # the sample ratio is wrong: no reading counts
    FROZEN = "frozen"  # peak day, or the environment changes sharply
    WORSE = "worse"
    TOO_EARLY = "too_early"  # too few units, or too short a time
    UNDECIDED = "undecided"
    BETTER = "better"


STEPS: dict[tuple[Stage, Signal], Stage] = {
    **{(stage, signal): stage for stage in Stage for signal in Signal},
    (Stage.AB, Signal.BREACH): Stage.OVER,
    (Stage.BANDIT, Signal.BREACH): Stage.OVER,
    (Stage.ALL, Signal.BREACH): Stage.OVER,
    (Stage.AB, Signal.WORSE): Stage.OVER,
    (Stage.BANDIT, Signal.WORSE): Stage.OVER,
    (Stage.AB, Signal.BETTER): Stage.BANDIT,
    (Stage.BANDIT, Signal.BETTER): Stage.ALL,
}
"""Every pair has its stage; what is not named stays where it is. A breach ends even a frozen one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that the gatekeeper looks at; ``bandit_best`` is the candidate's chance of being best."""

    finding: Finding
    is_breached: bool
    is_mismatched: bool
    is_frozen: bool
    stage_age_s: float
    bandit_best: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """A stage lasts at least a week, so that every weekday has had its say."""

    min_stage_s: float = 7 * 86_400.0
    min_probability_best: float = 0.95  # of the candidate, to go from bandit to all


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The stage from now on, and the signal that decided."""

    stage: Stage
    signal: Signal


def signal(stage: Stage, evidence: Evidence, settings: GateSettings) -> Signal:
    """The strongest signal; harm first, then what makes readings void, then readings."""
    if evidence.is_breached:
        return Signal.BREACH
    if evidence.is_mismatched:
        return Signal.MISMATCH
    if evidence.is_frozen:
        return Signal.FROZEN
    if evidence.finding == "worse":
        return Signal.WORSE
    if evidence.finding == "not_enough" or evidence.stage_age_s < settings.min_stage_s:
        return Signal.TOO_EARLY
    if evidence.finding == "undecided":
        return Signal.UNDECIDED
    if stage is Stage.BANDIT and (evidence.bandit_best or 0.0) < settings.min_probability_best:
        return Signal.UNDECIDED
    return Signal.BETTER


def step(stage: Stage, evidence: Evidence, settings: GateSettings = GateSettings()) -> Gate:
    """One look of the gatekeeper."""
    heard = signal(stage, evidence, settings)
    return Gate(stage=STEPS[stage, heard], signal=heard)
