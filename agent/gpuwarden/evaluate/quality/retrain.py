"""Whether a model should be trained again, how, and on what evidence. Nothing is started here.

Three policies, which can stand together: by the calendar, by a trigger (accuracy lost, features drifted), and in small
steps when enough new labels have come. A frozen model (a rollout that is judged, a split that is broken) waits, with its
reasons kept; so does one that is being trained, or has just been.
"""

import math
from dataclasses import dataclass
from enum import StrEnum


class Training(StrEnum):
    """What should be done."""

    NONE = "none"
    INCREMENTAL = "incremental"
    """Go on from the model that is there, with the new labels."""
    FULL = "full"


class Reason(StrEnum):
    """What speaks for it."""

    SCHEDULED = "scheduled"
    ACCURACY = "accuracy"
    DRIFT = "drift"
    LABELS = "labels"


class Hold(StrEnum):
    """What speaks against it now."""

    FROZEN = "frozen"
    RUNNING = "running"
    COOLDOWN = "cooldown"
    TOO_FEW_LABELS = "too-few-labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainPolicy:
    """None: that policy is off."""

    every_s: float | None = None
    accuracy_drop: float | None = 0.05
    """Absolute, against the baseline; the whole interval has to be beyond it."""
    drifted_share: float | None = 0.3
    """Of the features."""
    incremental_labels: int | None = None
    """New labels that make a step."""
    full_drop: float = 0.10
    """A step does not mend more than this, nor drift: then all is trained anew."""
    labels_min: int = 200
    """Fewer new labels than this are not worth a full training that a trigger asks for."""
    cooldown_s: float = 86_400.0
    """After a training, whatever asks for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """What is known of a model. None: not known, which triggers nothing."""

    trained_wall: float | None = None
    accuracy_baseline: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    """Interval of the accuracy now."""
    features: int = 0
    drifted: tuple[str, ...] = ()
    """Names of features whose drift is confirmed."""
    new_labels: int = 0
    """Since the last training."""
    is_frozen: bool = False
    is_running: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A number and the limit it is beyond."""

    reason: Reason
    value: float
    limit: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainDecision:
    """``evidence`` is there also where something holds it back."""

    training: Training
    evidence: tuple[Evidence, ...] = ()
    holds: tuple[Hold, ...] = ()
    wanted: Training = Training.NONE
    """What it would be, were nothing in the way."""
    next_wall: float | None = None
    """When the calendar or the cooldown is over, where that is all that is waited for."""


def decide(policy: RetrainPolicy, state: ModelState, now_wall: float) -> RetrainDecision:
    """At ``now_wall`` (Unix seconds). A clock that went back trains nothing: time since then counts as none."""
    evidence = tuple(
        each
        for each in (
            _scheduled(policy, state, now_wall),
            _accuracy(policy, state),
            _drift(policy, state),
            _labels(policy, state),
        )
        if each is not None
    )
    wanted = _wanted(policy, state, evidence)
    if wanted is Training.NONE:
        return RetrainDecision(
            training=Training.NONE, evidence=evidence, next_wall=_next(policy, state)
        )
    holds = _holds(policy, state, evidence, now_wall)
    over = None
    if holds == (Hold.COOLDOWN,) and state.trained_wall is not None:
        over = state.trained_wall + policy.cooldown_s
    return RetrainDecision(
        training=Training.NONE if holds else wanted,
        evidence=evidence,
        holds=holds,
        wanted=wanted,
        next_wall=over,
    )


def _scheduled(policy: RetrainPolicy, state: ModelState, now_wall: float) -> Evidence | None:
    if policy.every_s is None or state.trained_wall is None:
        return None
    age_s = now_wall - state.trained_wall
    if not age_s >= policy.every_s:
        return None
    return Evidence(reason=Reason.SCHEDULED, value=age_s, limit=policy.every_s, detail="s")


def _drop(state: ModelState) -> float | None:
    """At least so much was lost: the baseline less the upper end of the interval."""
    if state.accuracy_baseline is None or state.accuracy_high is None:
        return None
    drop = state.accuracy_baseline - state.accuracy_high
    return drop if math.isfinite(drop) else None


def _accuracy(policy: RetrainPolicy, state: ModelState) -> Evidence | None:
    drop = _drop(state)
    if policy.accuracy_drop is None or drop is None or not drop > policy.accuracy_drop:
        return None
    return Evidence(reason=Reason.ACCURACY, value=drop, limit=policy.accuracy_drop)


def _drift(policy: RetrainPolicy, state: ModelState) -> Evidence | None:
    if policy.drifted_share is None or state.features <= 0:
        return None
    share = len(set(state.drifted)) / state.features
    if not share >= policy.drifted_share or not state.drifted:
        return None
    names = ", ".join(sorted(set(state.drifted))[:20])
    return Evidence(reason=Reason.DRIFT, value=share, limit=policy.drifted_share, detail=names)


def _labels(policy: RetrainPolicy, state: ModelState) -> Evidence | None:
    wanted = policy.incremental_labels
    if wanted is None or state.new_labels < max(1, wanted):
        return None
    return Evidence(reason=Reason.LABELS, value=float(state.new_labels), limit=float(wanted))


def _wanted(policy: RetrainPolicy, state: ModelState, evidence: tuple[Evidence, ...]) -> Training:
    reasons = {each.reason for each in evidence}
    if Reason.SCHEDULED in reasons or Reason.DRIFT in reasons:
        return Training.FULL
    if Reason.ACCURACY in reasons:
        drop = _drop(state) or 0.0
        is_small = drop <= policy.full_drop and Reason.LABELS in reasons
        return Training.INCREMENTAL if is_small else Training.FULL
    return Training.INCREMENTAL if Reason.LABELS in reasons else Training.NONE


def _holds(
    policy: RetrainPolicy,
    state: ModelState,
    evidence: tuple[Evidence, ...],
    now_wall: float,
) -> tuple[Hold, ...]:
    holds = []
    if state.is_frozen:
        holds.append(Hold.FROZEN)
    if state.is_running:
        holds.append(Hold.RUNNING)
    if state.trained_wall is not None and now_wall - state.trained_wall < policy.cooldown_s:
        holds.append(Hold.COOLDOWN)
    is_triggered = not {each.reason for each in evidence} <= {Reason.SCHEDULED, Reason.LABELS}
    is_planned = any(each.reason is Reason.SCHEDULED for each in evidence)
    if is_triggered and not is_planned and state.new_labels < policy.labels_min:
        holds.append(Hold.TOO_FEW_LABELS)
    return tuple(holds)


def _next(policy: RetrainPolicy, state: ModelState) -> float | None:
    if policy.every_s is None or state.trained_wall is None:
        return None
    return state.trained_wall + policy.every_s
