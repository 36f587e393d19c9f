"""No arm's share moves further in a day than its limit, whoever asks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DAY_S = 86_400.0
LIMIT = 0.20
ROUNDING = 1e-9
"""Shares that differ by less are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """Shares from a moment on (seconds of one clock that survives restarts, so wall time)."""

    since_s: float
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Where the shares may go now; ``is_cut`` when that is not all the way."""

    shares: Mapping[str, float]
    is_cut: bool


def allowed(
    history: Sequence[InForce],
    wanted: Mapping[str, float],
    *,
    now_s: float,
    limit: float = LIMIT,
    within_s: float = DAY_S,
) -> Allowed:
    """The shares furthest towards ``wanted`` that no arm's limit forbids.

    Within any span of ``within_s`` an arm's highest and lowest share differ by at most ``limit``; all arms
    move together, so shares keep their sum. ``history`` is ascending, in wall time; a clock set back
    makes entries of the future, which count as of now. Without history the first shares are free.
    """
    target = _whole(wanted)
    if not 0 < limit <= 1 or within_s <= 0:
        raise ValueError("limit: expected above 0 and at most 1, within_s above 0")
    if not history:
        return Allowed(shares=target, is_cut=False)
    recent = _recent(history, now_s - within_s)
    now = recent[-1]
    reach = 1.0
    for arm in {*target, *(name for shares in recent for name in shares)}:
        seen = [shares.get(arm, 0.0) for shares in recent]
        here, step = now.get(arm, 0.0), target.get(arm, 0.0) - now.get(arm, 0.0)
        if step > ROUNDING:
            reach = min(reach, (min(seen) + limit - here) / step)
        elif step < -ROUNDING:
            reach = min(reach, (max(seen) - limit - here) / step)
    reach = max(0.0, reach)
    if reach >= 1 - ROUNDING:
        return Allowed(shares=target, is_cut=False)
    arms = sorted({*target, *now})
    moved = {a: now.get(a, 0.0) + reach * (target.get(a, 0.0) - now.get(a, 0.0)) for a in arms}
    return Allowed(shares=moved, is_cut=True)


def _recent(history: Sequence[InForce], since_s: float) -> list[Mapping[str, float]]:
    """All shares in force at some time after ``since_s``, normalised; never empty."""
    last_before = 0
    for index, entry in enumerate(history):
        if entry.since_s <= since_s:
            last_before = index
    return [_whole(entry.shares) for entry in history[last_before:]]


def _whole(shares: Mapping[str, float]) -> dict[str, float]:
    total = sum(shares.values())
    if not shares or min(shares.values()) < 0 or abs(total - 1) > 1e-6:
        raise ValueError(f"shares: expected numbers of 0 or more that sum to 1, got {total:g}")
    return {arm: share / total for arm, share in shares.items()}
