"""An experiment's split as a hard interlock: is it not what it should be, nothing is read and nothing is decided."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gpuwarden.model.ramp import ArmCount, Experiment, SegmentCount, Trust

UNITS_MIN = 8
"""Of each arm that is to get some, by expectation: below it no test of a split says anything (GrowthBook: 8)."""
SEGMENTS_MAX = 256
HINTS_MAX = 5
Judge = Callable[[Sequence[int], Sequence[float]], float | None]
"""The p of counts against what was expected, valid at every look; None: nothing to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one arm was seen with in the windows that are new."""

    units: float = 0.0
    errors: float = 0.0
    total_s: float = 0.0
    square_s: float = 0.0
    timed: float = 0.0


def added(
    experiment: Experiment,
    period: Mapping[str, Counted],
    in_force: Mapping[str, float],
    segments: Mapping[tuple[str, str], float],
    upto_wall: float,
) -> Experiment:
    """With one more period. ``in_force``: the shares the router was told then. A period that ends no later than what
    was counted already adds nothing: twice is once."""
    if upto_wall <= experiment.upto_wall or experiment.trust is Trust.CLOSED:
        return experiment
    known = {each.arm for each in experiment.arms}
    strangers = [arm for arm in period if arm not in known]
    arms = [*experiment.arms, *(ArmCount(arm=arm, share=0.0) for arm in sorted(strangers))]
    traffic = sum(each.units for each in period.values())
    return replace(
        experiment,
        arms=tuple(
            _plus(arm, period.get(arm.arm), traffic * in_force.get(arm.arm, 0.0)) for arm in arms
        ),
        segments=_segments(experiment.segments, segments, in_force),
        upto_wall=upto_wall,
        looks=experiment.looks + 1,
    )


def _plus(arm: ArmCount, new: Counted | None, expected: float) -> ArmCount:
    new = new or Counted()
    return replace(
        arm,
        units=arm.units + new.units,
        expected=arm.expected + expected,
        errors=arm.errors + new.errors,
        total_s=arm.total_s + new.total_s,
        square_s=arm.square_s + new.square_s,
        timed=arm.timed + new.timed,
    )


def _segments(
    known: Sequence[SegmentCount],
    new: Mapping[tuple[str, str], float],
    in_force: Mapping[str, float],
) -> tuple[SegmentCount, ...]:
    found = {(each.segment, each.arm): each for each in known}
    traffic: dict[str, float] = {}
    for (segment, _), units in new.items():
        traffic[segment] = traffic.get(segment, 0.0) + units
    for segment, total in traffic.items():
        for arm in {*in_force, *(a for s, a in new if s == segment)}:
            old = found.get(
                (segment, arm), SegmentCount(segment=segment, arm=arm, units=0.0, expected=0.0)
            )
            if (segment, arm) not in found and len(found) >= SEGMENTS_MAX:
                continue
            units = old.units + new.get((segment, arm), 0.0)
            expected = old.expected + total * in_force.get(arm, 0.0)
            found[segment, arm] = replace(old, units=units, expected=expected)
    return tuple(found[key] for key in sorted(found))


def judged(experiment: Experiment, judge: Judge, alpha: float) -> Experiment:
    """With its split judged. Once withheld it stays so, whatever the counts become: a mismatch that grows small
    again was one. Only a person's word releases it, and what comes after that is judged afresh."""
    if experiment.trust is Trust.CLOSED:
        return experiment
    p, leak = measured(experiment.arms, judge)
    experiment = replace(experiment, p_value=p)
    is_bad = leak or (p is not None and p < alpha)
    if experiment.trust is Trust.RELEASED:
        grown = sum(each.units for each in experiment.arms) >= 2 * experiment.released_units
        if not (is_bad and grown):
            return experiment
    if not is_bad and experiment.trust is not Trust.WITHHELD:
        return experiment
    found = hints(experiment, judge, leak) or experiment.hints
    return replace(experiment, trust=Trust.WITHHELD, is_frozen=True, hints=found)


def measured(arms: Sequence[ArmCount], judge: Judge) -> tuple[float | None, bool]:
    """The p of the split, and whether an arm that was promised nothing has traffic."""
    promised = [each for each in arms if each.expected > 0]
    leak = any(each.units > 0 for each in arms if each.expected <= 0)
    few = not promised or min(each.expected for each in promised) < UNITS_MIN
    if few or len(promised) < 2:
        return None, leak
    counts = [math.floor(each.units) for each in promised]
    return judge(counts, [each.expected for each in promised]), leak


def hints(experiment: Experiment, judge: Judge, leak: bool) -> tuple[str, ...]:
    """Where a mismatch seems to come from, for people."""
    found = []
    if leak:
        names = ", ".join(a.arm for a in experiment.arms if a.expected <= 0 and a.units > 0)
        found.append(f"{names} gets traffic that it was not promised")
    ranked = []
    for segment in sorted({each.segment for each in experiment.segments}):
        mine = [
            each for each in experiment.segments if each.segment == segment and each.expected > 0
        ]
        if len(mine) < 2 or min(each.expected for each in mine) < UNITS_MIN:
            continue
        p = judge([math.floor(each.units) for each in mine], [each.expected for each in mine])
        if p is not None:
            worst = max(mine, key=lambda each: abs(each.units / each.expected - 1))
            ranked.append((p, segment, worst))
    ranked.sort(key=lambda each: each[0])
    clean = [segment for p, segment, _ in ranked if p >= 0.05]
    for p, segment, worst in ranked[:HINTS_MAX]:
        if p < 0.001:
            off = worst.units / worst.expected - 1
            found.append(
                f"segment {segment or 'unnamed'}: {worst.arm} has {off:+.1%} of what it should"
            )
    if found and clean and len(ranked) > 1:
        found.append(f"the split is right in {', '.join(clean[:HINTS_MAX])}")
    if not found:
        found.append("no segment stands out: look at the router's own configuration and at bots")
    return tuple(found[: HINTS_MAX + 2])


def released(experiment: Experiment, by: str, why: str) -> Experiment:
    """By a person's word, on record."""
    return replace(
        experiment,
        trust=Trust.RELEASED,
        is_frozen=False,
        released_by=by,
        released_why=why,
        released_units=sum(each.units for each in experiment.arms),
    )


def is_readable(experiment: Experiment) -> bool:
    """Whether its readings may be shown and decided by."""
    return experiment.trust is not Trust.WITHHELD
