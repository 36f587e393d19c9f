"""The red line "accuracy has dropped by five points", on labels as they arrive.

A CUSUM of log likelihood ratios (Page 1954): the fastest there is for a given rate of false alarms
(Moustakides 1986). It adds counts of labels and mistakes, so delayed, merged and reordered labels of one
window change nothing. Its unit is nats of evidence.

How late it is follows from how rarely it may be wrong: five points off an accuracy of 0.97 carry 30 nats in
1,000 labels, off 0.95 21, off 0.90 only 12. So what is set is a budget of false alarms per day, and each
service's limit follows from it, its accuracy and its labels a day.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum


class AccuracyFinding(StrEnum):
    """``NO_DATA`` is never green: too little reference to say what accuracy was."""

    NO_DATA = "no_data"
    GOOD = "good"
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracySettings:
    """One setting for every service; the reference accuracy is each service's own."""

    drop: float = 0.05  # of accuracy, the least that is red
    false_alarms_per_day: float = 5e-5  # of one service: 0.15 in 30 days of 100 services
    least_limit_nats: float = 6.0
    min_reference_labels: int = 1000
    reference_z: float = 1.0
    recovery_labels: int = 500  # labels in a row without evidence of a drop, to be good again
    error_floor: float = 0.002  # a reference without mistakes still makes one in 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyState:
    """What is kept between batches of labels."""

    evidence_nats: float = 0.0
    labels: int = 0
    is_red: bool = False
    quiet_labels: int = 0  # since the evidence was last above half the limit


def reference_error(labels: int, wrong: int, settings: AccuracySettings) -> float | None:
    """The share of mistakes to hold against; None where the reference is too small to know it.

    ``reference_z`` standard errors above what was counted: a reference that happens to be too good would cry
    wolf for as long as it stands.
    """
    if not 0 <= wrong <= labels:
        raise ValueError(f"reference: {wrong} wrong of {labels} labels")
    if labels < settings.min_reference_labels:
        return None
    share = max(wrong / labels, settings.error_floor)
    share += settings.reference_z * math.sqrt(share * (1 - min(share, 1.0)) / labels)
    return min(share, 1 - settings.drop - 1e-6)


def labels_to_false_alarm(reference: float, limit_nats: float, drop: float) -> float:
    """Average labels until a false alarm at this limit (Siegmund's approximation of a CUSUM's run).

    (exp(h') - h' - 1)/KL(before, after), h' the limit and 1.166 standard deviations of one label's
    evidence, by which the sum overshoots both ends.
    """
    p0, p1 = reference, reference + drop
    up, down = math.log(p1 / p0), math.log((1 - p0) / (1 - p1))
    kl = (1 - p0) * down - p0 * up
    h = limit_nats + 1.166 * (up + down) * math.sqrt(p0 * (1 - p0))
    return (math.exp(h) - h - 1) / kl


def limit(reference: float, labels_per_day: float, settings: AccuracySettings) -> float:
    """Nats at which a service of this reference and so many labels a day is red, by the budget.

    Within 0.01 nats; ``labels_per_day`` is what is usual, not what came today.
    """
    if not labels_per_day >= 0:
        raise ValueError(f"labels_per_day: expected 0 or more, got {labels_per_day:g}")
    wanted = labels_per_day / settings.false_alarms_per_day
    low, high = settings.least_limit_nats, 60.0
    while high - low > 0.01:
        middle = (low + high) / 2
        if labels_to_false_alarm(reference, middle, settings.drop) < wanted:
            low = middle
        else:
            high = middle
    return high


def step(
    state: AccuracyState,
    labels: int,
    wrong: int,
    *,
    reference: float,
    limit_nats: float,
    settings: AccuracySettings,
) -> AccuracyState:
    """State after a batch of ``labels``, ``wrong`` of them mistakes; ``reference`` is the error before.

    Mistakes add ln(p1/p0), the others subtract ln((1-p0)/(1-p1)), p1 = p0 + drop, never below 0. Red at
    the limit; good again after ``recovery_labels`` in which it stayed below half of it.
    """
    if not 0 <= wrong <= labels:
        raise ValueError(f"{wrong} wrong of {labels} labels")
    if not labels:
        return state
    p0, p1 = reference, reference + settings.drop
    gain = wrong * math.log(p1 / p0) - (labels - wrong) * math.log((1 - p0) / (1 - p1))
    evidence = max(0.0, state.evidence_nats + gain)
    if state.is_red:
        evidence = min(evidence, limit_nats)  # a long red time must not delay its end
    is_quiet = evidence < limit_nats / 2
    quiet = state.quiet_labels + labels if is_quiet else 0
    is_red = evidence >= limit_nats or (state.is_red and quiet < settings.recovery_labels)
    return replace(
        state,
        evidence_nats=evidence,
        labels=state.labels + labels,
        is_red=is_red,
        quiet_labels=quiet,
    )


def finding(state: AccuracyState, reference: float | None) -> AccuracyFinding:
    """What the state says now; ``reference`` is that of ``reference_error``."""
    if reference is None:
        return AccuracyFinding.NO_DATA
    return AccuracyFinding.RED if state.is_red else AccuracyFinding.GOOD
