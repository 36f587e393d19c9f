"""What of a picture is news for the aggregator: incidents that changed, and outcomes that are new."""

from collections.abc import Iterator

from gpuwarden.model.action import Outcome
from gpuwarden.model.decision import Incident
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.status import View
from gpuwarden.wire.convert_fleet_node import to_incident_event, to_outcome_event
from gpuwarden.wire.v1 import fleet_pb2 as pb

GROWTH_S = 5.0
"""An incident of which only sizes are new is told again after this long."""
EVENT_MAX_BYTES = 96 * 1024
STEPS_TOLD = 200


class News:
    """Compares pictures. One thread."""

    def __init__(self) -> None:
        self._told: dict[IncidentId, Incident] = {}
        self._told_at: dict[IncidentId, float] = {}
        self._incidents: tuple[Incident, ...] = ()
        self._last: tuple[Outcome, ...] = ()

    def of(self, view: View) -> Iterator[pb.FleetEvent]:
        """Events for what has changed since the picture before; after a start, every incident there is: it may
        have been closed while nothing was told."""
        if view.incidents is not self._incidents:
            yield from self._changed(view)
        if view.outcomes and view.outcomes[-1:] != self._last[-1:]:
            known = {(o.action, o.at) for o in self._last}
            for outcome in view.outcomes:
                if (outcome.action, outcome.at) not in known:
                    yield to_outcome_event(outcome)
            self._last = view.outcomes

    def _changed(self, view: View) -> Iterator[pb.FleetEvent]:
        is_whole = True
        for incident in reversed(view.incidents):
            before = self._told.get(incident.id)
            if before is incident:
                continue
            told_at = self._told_at.get(incident.id, float("-inf"))
            if before is not None and _is_growth(before, incident) and view.at - told_at < GROWTH_S:
                is_whole = False
                continue
            self._told[incident.id], self._told_at[incident.id] = incident, view.at
            yield fitted(to_incident_event(incident, view.at, view.snapshot.wall))
        if is_whole:
            self._incidents = view.incidents
        listed = {incident.id for incident in view.incidents}
        for gone in self._told.keys() - listed:
            del self._told[gone], self._told_at[gone]


def _is_growth(before: Incident, now: Incident) -> bool:
    """Whether nothing but sizes has changed."""
    return (before.steps, before.closed_at, before.outcome, before.summary) == (
        now.steps,
        now.closed_at,
        now.outcome,
        now.summary,
    )


def fitted(event: pb.FleetEvent) -> pb.FleetEvent:
    """An event that fits a message: of a long incident the sizes go first, then the middle of its steps."""
    if event.WhichOneof("body") == "incident" and event.ByteSize() > EVENT_MAX_BYTES:
        incident = event.incident
        del incident.points[1:-1]
        if len(incident.steps) > STEPS_TOLD:
            del incident.steps[STEPS_TOLD // 2 : -STEPS_TOLD // 2]
        while event.ByteSize() > EVENT_MAX_BYTES and incident.steps:
            del incident.steps[len(incident.steps) // 2]
    return event
