"""The life of the node on one screen: observe, decide, intend, act, conclude, publish."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gpuwarden.clock import Clock
from gpuwarden.config import Config
from gpuwarden.errors import Unavailable
from gpuwarden.model.action import Action, Outcome, Result, Withheld
from gpuwarden.model.decision import Decision, Incident
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.memory import Memory
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.node.act import Actor
from gpuwarden.node.observe import Observer
from gpuwarden.node.status import still_withheld
from gpuwarden.node.summary import summary
from gpuwarden.policy import archive, upkeep
from gpuwarden.policy.archive import Archive
from gpuwarden.policy.decide import decide
from gpuwarden.ports import Ports

JOURNAL_RETRY_S = 1.0
BEAT_S = 1.25
"""Longest time between two ticks: longer than the probe's beat of a second, which wakes the loop at rest."""


class Node:
    """One agent. ``tick`` is a whole pass; whoever calls it decides when (a loop, or a test)."""

    def __init__(
        self,
        cfg: Config,
        ports: Ports,
        clock: Clock,
        memory: Memory,
        incidents: tuple[Incident, ...] = (),
        again: Sequence[Action] = (),
    ) -> None:
        """``again``: actions whose intent is on disk and which the first tick carries out."""
        self.cfg = cfg
        self.ports = ports
        self.memory = memory
        self.archive = Archive(incidents=incidents)
        self.observer = Observer(cfg, ports)
        self.actor = Actor(ports, clock)
        self.journal_fault = ""
        """Why the journal cannot be written; empty while it can. Without it nothing harmful is done."""
        self.last: Decision | None = None
        self.durations: Mapping[str, float] = {}
        """Seconds the last tick took, by part."""
        self._clock = clock
        self._retry_at = 0.0
        self._unkept: dict[IncidentId, Incident] = {}
        self._open_actions = {a.id: a for a in again}
        self._again = tuple(again)
        self._held: tuple[Withheld, ...] = ()

    def adopt(self, cfg: Config) -> None:
        """Use a new configuration from the next tick on."""
        self.cfg = cfg
        self.observer.adopt(cfg)

    def tick(self, now: float, wall: float) -> Decision:
        """One pass."""
        started = self._clock.now()
        if self.last is None:
            self._follow(self.archive.incidents, is_all=True)
        self._conclude(self.ports.workers.finished())
        self._tell(now, wall)
        if self.journal_fault and now >= self._retry_at:
            self._find_journal(now)
        fault = self.journal_fault
        snapshot = self.observer.look(now, wall, self.memory, journal_fault=fault)
        observed = self._clock.now()
        decision = decide(self.cfg, self.memory, snapshot)
        decided = self._clock.now()
        decision = self._intend(snapshot, decision)
        self.memory = decision.memory
        if decision.answers:
            self.ports.commands.answer(decision.answers)
        self._open_actions.update((a.id, a) for a in decision.actions)
        again, self._again = self._again, ()
        outcomes = self.actor.act((*again, *decision.actions))
        if outcomes:
            self._conclude(outcomes)
        if decision.plan is not None:
            self.ports.probe.steer(decision.plan)
        self.last = replace(decision, memory=self.memory)
        self.durations = {
            "tick_wall_s": self._clock.now() - started,
            "observe_s": observed - started,
            "decide_s": decided - observed,
        }
        self.ports.status.publish(snapshot, self.last, outcomes, self.archive.incidents)
        self.ports.kernel_log.settle()
        self._held = still_withheld(self._held, decision)
        self.ports.watchdog.pet(summary(self.cfg, snapshot, decision, self._held))
        return self.last

    def _follow(self, incidents: Sequence[Incident], *, is_all: bool = False) -> None:
        """On-call hears of what changed; in the beginning, of everything."""
        if incidents or is_all:
            subjects = {i: subject for subject, i in self.memory.open_incidents.items()}
            self.ports.pager.follow(incidents, subjects, is_all=is_all)

    def _tell(self, now: float, wall: float) -> None:
        """What became of messages to people stands in their incidents."""
        deliveries = self.ports.pager.delivered()
        if deliveries:
            self.archive, changed = archive.delivered(self.archive, deliveries, now, wall)
            self._keep(changed)

    def let_go(self) -> None:
        """Before a clean end: whatever is held runs on."""
        self.memory, actions = upkeep.parting(self.memory)
        self._open_actions.update((a.id, a) for a in actions)
        self._conclude(self.actor.act(actions))

    def next_due(self, now: float) -> float:
        """When the next tick is due if nothing wakes the loop before: a beat; the first, now."""
        if self.last is None:
            return now
        wake, beat = self.last.wake_at, now + BEAT_S
        return beat if wake is None else max(now, min(beat, wake))

    def _intend(self, snapshot: Snapshot, decision: Decision) -> Decision:
        """Put a decision on disk. Where that fails, decide again knowing that it does: undo and
        pages
        remain, harm is withheld."""
        for action in decision.actions:
            self.ports.steps.reached(action, "deciding")
        if not self.journal_fault and decision.is_notable:
            try:
                self.ports.journal.intend(self.memory, snapshot, decision)
            except Unavailable as error:
                self.lose_journal(snapshot.at, error)
                decision = decide(self.cfg, self.memory, replace(snapshot, can_record=False))
        self.archive, changed = archive.decided(self.cfg, self.archive, snapshot, decision)
        self._keep(changed)
        self._follow(changed)
        return decision

    def _conclude(self, outcomes: Sequence[Outcome]) -> None:
        """Fold what became of actions into memory, journal and incidents."""
        if not outcomes:
            return
        self._reach("concluding", outcomes)
        self.actor.concluded(outcomes)
        self.memory = self.memory.after(tuple(outcomes))
        if not self.journal_fault:
            try:
                self.ports.journal.conclude(outcomes)
            except Unavailable as error:
                self.lose_journal(self._clock.now(), error)
        self._reach("concluded", outcomes)
        self.ports.status.conclude(outcomes)
        for outcome in outcomes:
            if outcome.result is not Result.STARTED:
                self._open_actions.pop(outcome.action, None)
        self.archive, changed = archive.concluded(self.archive, outcomes)
        if any(o.result is not Result.STARTED for o in outcomes):
            self._keep(changed)
            self._follow(changed)

    def _reach(self, phase: str, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            action = self._open_actions.get(outcome.action)
            if action is not None and outcome.result is not Result.STARTED:
                self.ports.steps.reached(action, phase)

    def _keep(self, incidents: Sequence[Incident]) -> None:
        if not incidents:
            return
        self._unkept.update((i.id, i) for i in incidents)
        if self.journal_fault:
            return
        try:
            self.ports.journal.keep(tuple(self._unkept.values()))
        except Unavailable as error:
            self.lose_journal(self._clock.now(), error)
        else:
            self._unkept.clear()

    def lose_journal(self, now: float, error: Unavailable) -> None:
        """The journal cannot be written: no harm until it can."""
        self.journal_fault = str(error)
        self._retry_at = now + JOURNAL_RETRY_S

    def _find_journal(self, now: float) -> None:
        """Try it again. What it missed is written first: a later start must know what stands."""
        self.journal_fault = ""
        try:
            self.ports.journal.remember(self.memory)
        except Unavailable as error:
            self.lose_journal(now, error)
        else:
            self._keep(tuple(self._unkept.values()))
