"""What befalls the fleet as a whole, told to on-call: the same pages, sinks and record as at a node."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from gpuwarden.errors import Unavailable, Unsupported
from gpuwarden.log import get_log
from gpuwarden.model.decision import Incident
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import FleetIncident
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import SEVERITIES, Book, Page
from gpuwarden.policy.fleet import incidents
from gpuwarden.policy.fleet.decide import FleetDecision
from gpuwarden.ports_oncall import Pager

RULE = "fleet"


class Reigns(Protocol):
    """On-call that goes from leader to leader: implemented by ``reign.Reign``."""

    def begin(self, epoch: int) -> Book: ...

    def end(self) -> None: ...


class FleetOncall:
    """The fleet's thread only. A page that could not be taken is tried again with every tick."""

    def __init__(self, pager: Pager, reign: Reigns | None = None) -> None:
        """``reign``: what begins with an epoch of ours."""
        self._pager = pager
        self._reign = reign
        self._untold: dict[str, Page] = {}
        self.pages = 0
        self.failures = 0

    def begin(self, epoch: int, now: float) -> tuple[FleetIncident, ...]:
        """From now on we tell people: what was open and told under the leader before. ``Unavailable``: that
        cannot be read, and nobody may lead who does not know it."""
        self._untold.clear()
        return () if self._reign is None else remembered(self._reign.begin(epoch), now)

    def end(self) -> None:
        """Another tells people."""
        if self._reign is not None:
            self._reign.end()

    def tell(self, decision: FleetDecision, now: float, wall: float) -> None:
        """What of this pass people hear of."""
        standing = decision.memory.incidents
        changed = [
            _incident(each, now if incidents.is_over(each, standing) else None, wall)
            for each in decision.incidents
        ]
        if changed:
            self._pager.follow(changed, _subjects(decision.incidents))
        for each in decision.pages:
            self._untold[each.id] = _page(each, wall)
        for name, page in list(self._untold.items()):
            if self._is_taken(page):
                del self._untold[name]
        self._pager.delivered()  # it stands in the sent-log; the aggregator keeps no incidents of its own

    def _is_taken(self, page: Page) -> bool:
        try:
            self._pager.send(page)
        except Unavailable as error:
            self.failures += 1
            get_log().error("fleet_page_failed", incident=page.incident, reason=str(error))
            return False
        except Unsupported:
            pass  # no sink is set: the log alone has it
        self.pages += 1
        get_log().warning("fleet_page", incident=page.incident, summary=page.summary)
        return True


def remembered(book: Book, now: float) -> tuple[FleetIncident, ...]:
    """What was open and paged when the leader before ended: it is not told a second time."""
    return tuple(
        FleetIncident(
            id=entry.incident,
            key=entry.brief.subject,
            severity=Severity[entry.severity.upper()],
            summary=entry.brief.summary,
            opened_at=now,
            opened_wall=entry.brief.opened_wall,
            count=0,
            grown_at=now,
            gone_at=now,
            is_paged=True,
        )
        for entry in book.entries.values()
        if entry.brief.closed_wall is None and entry.brief.rule == RULE and entry.brief.subject
    )


def _page(incident: FleetIncident, wall: float) -> Page:
    return Page(
        id=f"{incident.id}-page",
        incident=IncidentId(incident.id),
        severity=SEVERITIES[incident.severity],
        summary=incident.summary,
        wall=wall,
    )


def _subjects(found: Iterable[FleetIncident]) -> Mapping[IncidentId, str]:
    return {IncidentId(each.id): each.key for each in found}


def _incident(incident: FleetIncident, closed_at: float | None, wall: float) -> Incident:
    return Incident(
        id=IncidentId(incident.id),
        rule=RULE,
        summary=incident.summary,
        opened_at=incident.opened_at,
        opened_wall=incident.opened_wall,
        closed_at=closed_at,
        closed_wall=None if closed_at is None else wall,
        outcome="open" if closed_at is None else "it does not stand any more",
        evidence=(("nodes", str(incident.count)),),
    )
