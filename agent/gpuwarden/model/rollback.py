"""Versions of services as they ran on this node, and one service's way back to an earlier one."""

from dataclasses import dataclass, replace
from enum import StrEnum

from gpuwarden.model.action import Kind, Outcome, Result, Target
from gpuwarden.model.ids import IncidentId, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One version of a service in one place of this node, of which the whole specification is on disk. What it
    holds of secrets is there alone: nothing of it stands here."""

    service: str
    place: str
    """The container's name: what takes over from it gets the same one."""
    version: str
    """Its label ``gpuwarden.version``; without one, the beginning of its image's digest."""
    image: str = ""
    """As its creator named it. Untrusted text."""
    digest: str = ""
    recorded_wall: float = 0.0
    """When it was seen first; seen again with another specification, then."""
    good_wall: float | None = None
    """When it had held its guardrails for its probation; None: it has not."""
    tenant: TenantId | None = None
    """Who runs it now; None: nobody."""


class BackPhase(StrEnum):
    """Where a service's way back stands."""

    NEXT = "next"
    """The next of its places is to be seen to."""
    ACTING = "acting"
    DONE = "done"
    FAILED = "failed"
    """One place failed: what runs there is what ran before, and the places after it are left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Back:
    """One service on its way to another version, place by place."""

    service: str
    phase: BackPhase
    incident: IncidentId
    by: str
    reason: str = ""
    since: float
    places: tuple[tuple[str, str, str], ...]
    """Of each: its name, the version that ran there, the version it is to get."""
    at_place: int = 0
    target: Target | None = None
    """Who ran there when it was ordered."""
    ordered: str = ""
    """Id of the action that is under way."""
    result: str = ""
    """What became of it; empty: under way."""
    detail: str = ""
    is_unsure: bool = False
    """The agent ended before it knew: ordered once more for the same container, which finishes what was begun."""


def after(back: Back, outcome: Outcome) -> Back:
    """A way back with what became of the action it waits for."""
    if outcome.kind is not Kind.ROLL_BACK or outcome.action != back.ordered:
        return back
    if back.phase is not BackPhase.ACTING or outcome.result is Result.STARTED:
        return back
    return replace(
        back,
        result=outcome.result.value,
        detail=outcome.detail,
        is_unsure=outcome.result is Result.UNKNOWN,
    )
