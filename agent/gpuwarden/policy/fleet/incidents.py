"""What befalls the fleet as a whole, as incidents: folded by key, paged once, over slowly.

However many nodes a claim speaks of, and however often the number changes, it is one incident and one page.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gpuwarden.config_aggregator import SightConfig
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import FleetClaim, FleetIncident

# guardrail chat/v2 latency-p99: what a service is called is others' choice
_ODD = re.compile(r"[^A-Za-z0-9._]+")
PAGED = Severity.ERROR
"""Milder ones stand in the status alone ..."""
TOLD = ("policy drift", "policy ends", "certificates")
TOLD_KINDS = ("guardrail ", "silent service ")
"""... but these, which end in nodes that only observe, or are not heard: told as the warnings they are, to whoever
wants to hear of warnings (``min_severity`` of each sink). Keys that begin like ``TOLD_KINDS`` likewise: what
services say of themselves is somebody's to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """``standing``: what is remembered; ``changed``: what began, grew or ended; ``pages``: tell people now."""

    standing: tuple[FleetIncident, ...] = ()
    changed: tuple[FleetIncident, ...] = ()
    pages: tuple[FleetIncident, ...] = ()


def follow(
    cfg: SightConfig,
    before: Sequence[FleetIncident],
    claims: Iterable[FleetClaim],
    now: float,
    wall: float,
    *,
    may_page: bool = True,
) -> Followed:
    """The incidents after this pass. An ended one is in ``changed`` a last time, its ``gone_at`` set. Who may not
    page, because another leads, has paged nothing: when it leads, it does."""
    known = {incident.key: incident for incident in before}
    standing: list[FleetIncident] = []
    changed: list[FleetIncident] = []
    pages: list[FleetIncident] = []
    for claim in claims:
        old = known.pop(claim.key, None)
        incident = _opened(claim, now, wall) if old is None else _claimed(old, claim, now)
        if may_page and _is_due(cfg, incident, now):
            incident = replace(incident, is_paged=True)
            pages.append(incident)
        standing.append(incident)
        if old is None or (incident.count, incident.is_paged) != (old.count, old.is_paged):
            changed.append(incident)
    for incident in known.values():
        gone = incident if incident.gone_at is not None else replace(incident, gone_at=now)
        is_over = now - (gone.gone_at or now) >= cfg.over_s
        (changed if is_over else standing).append(gone)
    return Followed(standing=tuple(standing), changed=tuple(changed), pages=tuple(pages))


def adopted(
    mine: Iterable[FleetIncident], kept: Iterable[FleetIncident]
) -> tuple[FleetIncident, ...]:
    """Who begins to lead goes on with what the leader before has told, under its names; what that one has not
    told, though it stood, is still to be told."""
    told = {each.key: each for each in kept}
    found = []
    for each in mine:
        before = told.pop(each.key, None)
        found.append(
            replace(each, is_paged=False)
            if before is None
            else replace(each, id=before.id, opened_wall=before.opened_wall, is_paged=True)
        )
    return (*found, *told.values())


def is_over(incident: FleetIncident, standing: Iterable[FleetIncident]) -> bool:
    """Whether one that has changed has ended with it."""
    return incident.gone_at is not None and all(each.id != incident.id for each in standing)


def _opened(claim: FleetClaim, now: float, wall: float) -> FleetIncident:
    return FleetIncident(
        id=f"fleet-{_ODD.sub('-', claim.key)}-{int(wall):x}",
        key=claim.key,
        severity=claim.severity,
        summary=claim.summary,
        opened_at=now,
        opened_wall=wall,
        count=claim.count,
        grown_at=now,
    )


def _claimed(old: FleetIncident, claim: FleetClaim, now: float) -> FleetIncident:
    """Still so: it keeps its name, and the most it ever spoke of."""
    has_grown = claim.count > old.count
    return replace(
        old,
        severity=max(old.severity, claim.severity),
        summary=claim.summary if claim.count >= old.count else old.summary,
        count=max(old.count, claim.count),
        grown_at=now if has_grown else old.grown_at,
        gone_at=None,
    )


def _is_due(cfg: SightConfig, incident: FleetIncident, now: float) -> bool:
    """Whether people are told now: it grows no more, or has grown for long enough."""
    is_warning = incident.severity is Severity.WARNING and incident.key.startswith(TOLD_KINDS)
    is_told = incident.severity >= PAGED or incident.key in TOLD or is_warning
    if incident.is_paged or not is_told:
        return False
    return now - incident.grown_at >= cfg.fold_s or now - incident.opened_at >= cfg.fold_max_s
