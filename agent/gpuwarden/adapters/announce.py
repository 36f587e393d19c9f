"""Says in the log what the board shows: one line a state change, none a tick."""

from collections.abc import Mapping, Sequence

from gpuwarden.log import Logger
from gpuwarden.model.action import Outcome, Result
from gpuwarden.model.decision import Decision, Incident, NoteKind
from gpuwarden.model.snapshot import Gap, Snapshot
from gpuwarden.ports import Status

_EVENTS: Mapping[NoteKind, str] = {
    NoteKind.OPENED: "incident_opened",
    NoteKind.EVIDENCE: "incident_evidence",
    NoteKind.DECIDED: "incident_confirmed",
    NoteKind.JOINED: "incident_joined",
    NoteKind.RUNG: "incident_rung",
    NoteKind.CLOSED: "incident_closed",
}


class AnnouncedStatus:
    """A ``Status`` that logs what is new and hands everything on."""

    def __init__(self, board: Status, log: Logger) -> None:
        self._board = board
        self._log = log
        self._outcomes: list[Outcome] = []
        self._gaps: frozenset[tuple[str, str, str]] = frozenset()
        self._gpus: int | None = None

    def publish(
        self,
        snapshot: Snapshot,
        decision: Decision,
        outcomes: Sequence[Outcome],
        incidents: tuple[Incident, ...],
    ) -> None:
        """Log the tick's notes, orders, what was withheld, and gaps that were not there before."""
        for note in decision.incidents:
            say = self._log.info if note.kind is NoteKind.CLOSED else self._log.warning
            say(
                _EVENTS[note.kind],
                incident=note.incident,
                text=note.text,
                rule=note.rule or None,
                tenant=note.tenant,
                device=note.device,
            )
        for action in decision.actions:
            self._log.warning(
                "action_ordered",
                action=action.id,
                incident=action.incident,
                tenant=action.target.tenant if action.target is not None else None,
                kind=action.kind.value,
                target=action.target.name if action.target is not None else None,
                device=action.device,
                why=action.why,
            )
        for held in decision.withheld:
            self._log.warning(
                "action_withheld",
                incident=held.incident,
                tenant=held.tenant,
                device=held.device,
                kind=held.kind.value,
                budget=held.budget,
                detail=held.detail,
            )
        self._say_outcomes()
        self._say_gaps(snapshot.gaps)
        self._say_gpus(snapshot)
        self._board.publish(snapshot, decision, outcomes, incidents)

    def _say_gaps(self, gaps: Sequence[Gap]) -> None:
        now = frozenset((g.source, g.subject, g.kind.value) for g in gaps)
        if now == self._gaps:
            return
        for gap in gaps:
            if (gap.source, gap.subject, gap.kind.value) not in self._gaps:
                self._log.warning(
                    "gap_opened",
                    source=gap.source,
                    subject=gap.subject,
                    kind=gap.kind.value,
                    detail=gap.detail,
                )
        for source, subject, kind in sorted(self._gaps - now):
            self._log.info("gap_closed", source=source, subject=subject, kind=kind)
        self._gaps = now

    def _say_gpus(self, snapshot: Snapshot) -> None:
        """Once that there is none, and once how many there are when that changes. Before the driver has said
        either, nothing."""
        gpus = sum(1 for device in snapshot.devices if device.parent is None)
        why = [g.detail for g in snapshot.gaps if (g.source, g.subject) == ("nvml", "driver")]
        if gpus == self._gpus or not (gpus or why or snapshot.driver is not None):
            return
        if gpus:
            self._log.info("gpus_found", count=gpus)
        else:
            self._log.warning(
                "no_gpus",
                why="; ".join(why) or "the driver lists none",
                next="looked for again at least once a minute; nothing is guarded until then",
            )
        self._gpus = gpus

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        """Keep outcomes for the log until the tick is published: its orders stand above them."""
        self._outcomes += [o for o in outcomes if o.result is not Result.STARTED]
        self._board.conclude(outcomes)

    def _say_outcomes(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        for outcome in outcomes:
            say = self._log.info if outcome.result is Result.DONE else self._log.warning
            say(
                "action_concluded",
                action=outcome.action,
                kind=outcome.kind.value,
                result=outcome.result.value,
                detail=outcome.detail,
            )
