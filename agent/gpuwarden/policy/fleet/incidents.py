"""What befalls the fleet as a whole, as incidents: folded by key, paged once, over slowly.

However many nodes a claim speaks of, and however often the number changes, it is one incident and one page.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gpuwarden.config_aggregator import SightConfig
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import FleetClaim, FleetIncident

PAGED = Severity.ERROR
"""Milder ones stand in the status alone."""


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
) -> Followed:
    """The incidents after this pass. An ended one is in ``changed`` a last time, its ``gone_at`` set."""
    known = {incident.key: incident for incident in before}
    standing: list[FleetIncident] = []
    changed: list[FleetIncident] = []
    pages: list[FleetIncident] = []
    for claim in claims:
        old = known.pop(claim.key, None)
        incident = _opened(claim, now, wall) if old is None else _claimed(old, claim, now)
        if _is_due(cfg, incident, now):
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


def is_over(incident: FleetIncident, standing: Iterable[FleetIncident]) -> bool:
    """Whether one that has changed has ended with it."""
    return incident.gone_at is not None and all(each.id != incident.id for each in standing)


def _opened(claim: FleetClaim, now: float, wall: float) -> FleetIncident:
    return FleetIncident(
        id=f"fleet-{claim.key.replace(' ', '-')}-{int(wall):x}",
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
    if incident.is_paged or incident.severity < PAGED:
        return False
    return now - incident.grown_at >= cfg.fold_s or now - incident.opened_at >= cfg.fold_max_s
