"""The board readers look at: one immutable picture, replaced by every tick."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gpuwarden.errors import Unavailable
from gpuwarden.model.action import Outcome, Result, Withheld
from gpuwarden.model.decision import Decision, Incident, NoteKind
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import Memory
from gpuwarden.model.oncall import OncallState
from gpuwarden.model.service import Fitness
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.model.status import AgentInfo, View
from gpuwarden.policy import ready

RECENT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the board asks for at each publication, beside what the tick hands it."""

    agent: Callable[[], AgentInfo]
    details: Callable[[], Mapping[DeviceId, Mapping[str, float | str | None]]]
    counters: Callable[[], Mapping[tuple[str, str], int]]
    durations: Callable[[], Mapping[str, float]]
    oncall: Callable[[], OncallState] = OncallState


@dataclass(slots=True)
class Board:
    """Written by the loop's thread, read by any."""

    sources: Sources
    _view: View | None = None
    _memory: Memory = field(default_factory=Memory)
    _fresh: threading.Condition = field(default_factory=threading.Condition)
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _recent: deque[Outcome] = field(default_factory=lambda: deque(maxlen=RECENT))
    _standing: frozenset[str] = frozenset()
    _held: tuple[Withheld, ...] = ()

    def publish(
        self,
        snapshot: Snapshot,
        decision: Decision,
        outcomes: Sequence[Outcome],
        incidents: tuple[Incident, ...],
    ) -> None:
        """Replace the picture and wake who waits for it."""
        self._count(snapshot, decision)
        self._held = still_withheld(self._held, decision)
        memory = decision.memory
        view = View(
            serial=self._view.serial + 1 if self._view is not None else 1,
            at=snapshot.at,
            agent=replace(self.sources.agent(), kernel_log=snapshot.kernel_log.value),
            # What only this look's own decision needed is not what readers are told.
            snapshot=replace(snapshot, named={}) if snapshot.named else snapshot,
            findings=decision.findings,
            withheld=self._held,
            cases=tuple(memory.cases.values()),
            debts=memory.debts,
            tombstones=tuple(memory.tombstones.values()),
            faults=tuple(memory.faults.values()),
            repairs=tuple(memory.repairs.values()),
            incidents=incidents,
            outcomes=tuple(self._recent),
            device_details=self.sources.details(),
            counters={**self._counts, **self.sources.counters()},
            durations=self.sources.durations(),
            oncall=self.sources.oncall(),
        )
        with self._fresh:
            self._view, self._memory = view, memory
            self._fresh.notify_all()

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        """Count outcomes as they come (those of workers come ticks later)."""
        for outcome in outcomes:
            if outcome.result is not Result.STARTED:
                self._recent.append(outcome)
                self._counts["actions", f"{outcome.kind}/{outcome.result}"] += 1

    def view(self) -> View:
        """The newest picture; ``Unavailable`` before the first."""
        if self._view is None:
            raise Unavailable("the agent has not finished its first look yet")
        return self._view

    def fitness(self, name: str, now: float) -> Fitness | None:
        """Whether an instance may be sent work, as of the newest picture; ``None``: nobody is called so."""
        with self._fresh:
            view, memory = self._view, self._memory
        if view is None:
            raise Unavailable("the agent has not finished its first look yet")
        return ready.judge(view.snapshot, memory, name, now)

    def wait_newer(self, serial: int, timeout_s: float) -> View | None:
        """The newest as soon as its serial is greater, or ``None`` when the time is over."""
        with self._fresh:
            self._fresh.wait_for(
                lambda: self._view is not None and self._view.serial > serial, timeout_s
            )
            view = self._view
        return view if view is not None and view.serial > serial else None

    def _count(self, snapshot: Snapshot, decision: Decision) -> None:
        self._counts["ticks", ""] += 1
        keys = frozenset(f.key for f in decision.findings)
        for finding in decision.findings:
            if finding.key not in self._standing:
                self._counts["findings", finding.rule] += 1
        self._standing = keys
        for held in decision.withheld:
            self._counts["withheld", held.budget] += 1
        for event in snapshot.events:
            self._counts["driver_events", f"{event.kind}/{event.code}"] += 1
            if event.kind == "xid":
                self._counts["xid_events", f"{event.device}/{event.code}"] += 1
                self._counts["xid_last_wall_s", f"{event.device}/{event.code}"] = int(snapshot.wall)
        for gap in snapshot.gaps:
            self._counts["gaps", f"{gap.source}/{gap.kind}"] += 1
        for note in decision.incidents:
            if note.kind is NoteKind.OPENED:
                self._counts["incidents", "opened"] += 1
            elif note.kind is NoteKind.CLOSED:
                self._counts["incidents", "closed"] += 1


def still_withheld(before: tuple[Withheld, ...], decision: Decision) -> tuple[Withheld, ...]:
    """What is withheld now. A decision names it once, when it begins; it stands until the action is
    ordered after all or its incident is closed.
    """
    is_open = frozenset(decision.memory.open_incidents.values())
    ordered = {(action.incident, action.kind) for action in decision.actions}
    standing = {
        (held.incident, held.kind, held.tenant, held.device, held.budget): held
        for held in (*before, *decision.withheld)
        if held.incident in is_open and (held.incident, held.kind) not in ordered
    }
    return tuple(standing.values())
