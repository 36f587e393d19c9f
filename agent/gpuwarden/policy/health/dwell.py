"""Enter slowly, leave slowly: one sign's life, sample by sample and second by second."""

from dataclasses import replace

from gpuwarden.model.finding import Finding
from gpuwarden.model.health_memory import Sign

ENTERS_RATIO = 0.6
"""A sample lets a fault in for this share of the time it speaks: one period and a half of its class. A
sample that is overdue may still say that a fault stands, not that it has lasted."""


def shown(
    old: Sign | None,
    finding: Finding,
    *,
    at: float,
    grace_s: float,
    probation_s: float,
    speaks_s: float,
) -> Sign:
    """A sample shows it. One that has not been seen for longer than a sample speaks begins anew, unless
    it stands."""
    is_old = old is not None and (old.stands_since is not None or at - old.seen_at <= old.speaks_s)
    return Sign(
        finding=finding,
        since=old.since if old is not None and is_old else at,
        seen_at=at,
        looked_at=at,
        speaks_s=speaks_s,
        grace_s=grace_s,
        probation_s=probation_s,
        stands_since=old.stands_since if old is not None else None,
    )


def not_shown(old: Sign, at: float) -> Sign | None:
    """A sample that could have shown it does not. One that does not stand yet is forgotten."""
    if old.stands_since is None:
        return None
    clear = at if old.clear_since is None else old.clear_since
    return replace(old, looked_at=at, clear_since=clear)


def aged(old: Sign, now: float) -> Sign | None:
    """Time has passed: it stands once its grace is over, and is over once its probation is.

    Neither happens on a sample that does not speak for the present any more.
    """
    if old.stands_since is None:
        if now - old.seen_at > old.speaks_s:
            return None
        is_due = now - old.since >= old.grace_s
        is_recent = now - old.seen_at <= ENTERS_RATIO * old.speaks_s
        return replace(old, stands_since=now) if is_due and is_recent else old
    if old.clear_since is None or now - old.looked_at > old.speaks_s:
        return old
    return None if now - old.clear_since >= old.probation_s else old
