"""How far an arm's share may move: 20 points within any day, by whomever, judged by everything that was told."""

import math
from collections.abc import Iterable, Mapping, Sequence

from gpuwarden.model.ramp import ArmShare, Shares

CAP = 0.2
"""Points a day (as a share): nobody's mistake, and no bandit's luck, turns a service over in one."""
DAY_S = 86_400.0
SLACK = 1e-9
"""Of sums of floats."""


def faults(arms: Sequence[ArmShare]) -> list[str]:
    """What is wrong with a split, in words."""
    found = []
    names = [each.arm for each in arms]
    if not arms:
        return ["no arms"]
    if len(set(names)) != len(names):
        found.append("an arm is there twice")
    for each in arms:
        if not each.arm or not each.version:
            found.append("an arm without a name or a version")
        if not (math.isfinite(each.share) and 0.0 <= each.share <= 1.0):
            found.append(f"{each.arm}: expected a share from 0 to 1")
    total = sum(each.share for each in arms)
    if not found and abs(total - 1.0) > 1e-6:
        found.append(f"the shares sum to {total:.6f}, not to 1")
    return found


def bounds(
    told: Iterable[Shares], arms: Iterable[str], now_s: float, cap: float = CAP
) -> dict[str, tuple[float, float]]:
    """Between which shares each arm may be now. ``told``: every split, in any order; those that were in force at
    any time of the last day count, the one before the day's begin as well. What claims to be of later than now
    counts too: a clock that is behind excuses nothing."""
    known = sorted(told, key=lambda each: each.steady_s)
    recent = [each for each in known if each.steady_s > now_s - DAY_S]
    older = [each for each in known if each.steady_s <= now_s - DAY_S]
    in_force = [*older[-1:], *recent]
    found = {}
    for arm in arms:
        had = [each.of(arm) for each in in_force]
        found[arm] = (max(0.0, max(had) - cap), min(1.0, min(had) + cap)) if had else (0.0, 1.0)
    return found


def too_far(
    told: Sequence[Shares], wanted: Sequence[ArmShare], now_s: float, cap: float = CAP
) -> list[str]:
    """Which arms would move too far, in words; empty: the split may be told."""
    names = _names(told, wanted)
    new = {each.arm: each.share for each in wanted}
    said = []
    for arm, (low, high) in bounds(told, names, now_s, cap).items():
        share = new.get(arm, 0.0)
        if not low - SLACK <= share <= high + SLACK:
            said.append(
                f"{arm}: {share:.1%} is more than {cap * 100:g} points from what it had within a day; "
                f"{low:.1%} to {high:.1%} may be told now"
            )
    return said


def toward(
    told: Sequence[Shares], wanted: Mapping[str, float], now_s: float, cap: float = CAP
) -> dict[str, float]:
    """As far from the present split towards the wanted one as the cap lets every arm go; all arms go the same part
    of their way, so that the sum stays 1."""
    if not told:
        return dict(wanted)
    present = max(told, key=lambda each: each.steady_s)
    names = list(dict.fromkeys((*(each.arm for each in present.arms), *wanted)))
    part = 1.0
    for arm, (low, high) in bounds(told, names, now_s, cap).items():
        here = present.of(arm)
        step = wanted.get(arm, 0.0) - here
        if step > SLACK:
            part = min(part, (high - here) / step)
        elif step < -SLACK:
            part = min(part, (low - here) / step)
    part = max(0.0, min(1.0, part))
    return {arm: present.of(arm) + part * (wanted.get(arm, 0.0) - present.of(arm)) for arm in names}


def _names(told: Sequence[Shares], wanted: Sequence[ArmShare]) -> list[str]:
    names = [each.arm for each in wanted]
    if told:
        names += [each.arm for each in max(told, key=lambda s: s.steady_s).arms]
    return list(dict.fromkeys(names))
