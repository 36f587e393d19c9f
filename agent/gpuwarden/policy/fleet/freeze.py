"""When too many of a group turn sick at once nobody of it gets leave, until they are seen to be well.

Time alone lifts nothing: what reports so many at once may be what is ill, and it is no better for being old. An
operator can take it upon himself, for a while and for those that are sick now.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

THAW_MAX_S = 3600.0
"""So long at most an operator's word holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """One group. ``sick``: who turned sick and has not been seen well since; silence is no health."""

    since: float
    sick: frozenset[str]
    well_since: float | None = None
    """Since when too few of them are sick for a freeze."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thaw:
    """An operator lets permits be given though a group is frozen."""

    at: float
    until: float
    by: str
    reason: str
    sick: frozenset[str]
    """Those he knew of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at one group: who is in it, turned sick within the window, is healthy; how many are too many."""

    members: Collection[str]
    fresh: Collection[str]
    healthy: Collection[str]
    threshold: int


def follow(
    before: Mapping[str, Freeze], looks: Mapping[str, Look], now: float, over_s: float, since: float
) -> dict[str, Freeze]:
    """The freezes after this look. ``over_s``: so long have most to be well; ``since``: when listening resumed,
    for what was not heard was not well."""
    after = {}
    for group, look in looks.items():
        old = before.get(group)
        if old is None:
            if len(look.fresh) >= look.threshold:
                after[group] = Freeze(since=now, sick=frozenset(look.fresh))
            continue
        sick = (old.sick & set(look.members)) - set(look.healthy) | set(look.fresh)
        if len(sick) >= look.threshold:
            after[group] = replace(old, sick=sick, well_since=None)
            continue
        well_since = now if old.well_since is None else max(old.well_since, since)
        if now - well_since < over_s:
            after[group] = replace(old, sick=sick, well_since=well_since)
    return after


def thaws_standing(
    thaws: Mapping[str, Thaw], freezes: Mapping[str, Freeze], looks: Mapping[str, Look], now: float
) -> dict[str, Thaw]:
    """Those that still hold: not run out, still of use, and no further mass of nodes that he did not know of."""
    return {
        group: thaw
        for group, thaw in thaws.items()
        if now < thaw.until
        and group in freezes
        and len(set(looks[group].fresh) - thaw.sick) < looks[group].threshold
    }


def thawed(freeze: Freeze, now: float, for_s: float, by: str, reason: str) -> Thaw:
    """An operator's word."""
    until = now + min(for_s, THAW_MAX_S)
    return Thaw(at=now, until=until, by=by, reason=reason, sick=freeze.sick)
