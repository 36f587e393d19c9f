"""The life of the fleet on one screen: fold what arrived, decide, put on disk, publish, tell the nodes."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.lead import Lead, Leadership
from gpuwarden.aggregator.oncall import FleetOncall
from gpuwarden.clock import Clock
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.errors import GpuwardenError, Refused
from gpuwarden.log import get_log
from gpuwarden.model.fleet import Denial, FleetClaim, FleetView, Permit
from gpuwarden.policy.fleet import incidents
from gpuwarden.policy.fleet.decide import FleetDecision, decide
from gpuwarden.policy.fleet.fold import Arrival, FleetMemory, Forgotten, Heard, Joined, Left, fold
from gpuwarden.policy.fleet.freeze import Thaw, thawed

TICK_S = 1.0
COMMIT_S = 5.0
"""How long a permit may take to be on disk; then nobody hears of it."""
CHANGES_MAX = 100_000

Answers = Mapping[str, tuple[list[Permit], list[Denial]]]
"""By node, what became of what it asked."""


class Fleet:
    """One thread that owns the memory. ``hear`` is for any thread; ``view`` is the newest picture."""

    def __init__(
        self,
        cfg: AggregatorConfig,
        committer: Committer,
        clock: Clock,
        memory: FleetMemory,
        leadership: Leadership,
        recall: Callable[[float], tuple[Permit, ...]],
        tell: Callable[[Answers], None],
        oncall: FleetOncall,
        claims: Callable[[], tuple[FleetClaim, ...]] = tuple,
    ) -> None:
        """``recall``: what was granted before, by every leader there was, on this clock; asked with the time of day.
        ``claims``: what others claim about the whole."""
        self.cfg = cfg
        self._committer = committer
        self._clock = clock
        self._memory = memory
        self._leadership = leadership
        self._recall = recall
        self._led_epoch = 0
        """Of which the ledger is whole."""
        self._tell = tell
        self._oncall = oncall
        self._told: dict[tuple[str, str], tuple[float, str]] = {}
        """By node and ask, when it was asked that was answered last, and with what."""
        self._claims = claims
        self._wake = threading.Condition()
        self._changes: list[Joined | Left | Forgotten] = []
        self._heard: dict[str, Heard] = {}
        self._thaws: dict[str, Thaw] = {}
        self._is_urgent = False
        self._is_stopping = False
        self._published = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="gpuwarden-fleet", daemon=True)
        self.dropped = 0
        self.failures = 0
        self.view = FleetView(serial=0, at=clock.now(), wall=clock.wall(), epoch=0)

    def start(self) -> None:
        lead = self._leadership.lead()
        self.view = replace(
            self.view,
            epoch=lead.epoch,
            is_leader=lead.is_ours,
            leader=lead.address,
            leader_unknown=lead.why,
        )
        self._thread.start()

    def stop(self, within_s: float = 5.0) -> None:
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        self._thread.join(within_s)

    def hear(self, arrival: Arrival) -> None:
        """Something arrived; of reports of one node only the newest is kept until the next tick."""
        with self._wake:
            if isinstance(arrival, Heard):
                self._heard[arrival.node] = _merged(self._heard.get(arrival.node), arrival)
                if not arrival.asks:
                    return
            elif len(self._changes) >= CHANGES_MAX:
                self.dropped += 1
                return
            else:
                self._changes.append(arrival)
            self._is_urgent = True
            self._wake.notify()

    def is_frozen(self, group: str) -> bool:
        """Whether too many of it turned sick at once, whatever anybody has said of that. Any thread."""
        return group in self._memory.freezes

    def thaw(self, group: str, for_s: float, by: str, reason: str) -> float:
        """From the next tick on, for so many seconds (returned). ``Refused`` when the group is not frozen."""
        freeze = self._memory.freezes.get(group)
        if freeze is None:
            raise Refused(f"group {group} is not frozen")
        now = self._clock.now()
        word = thawed(freeze, now, for_s, by, reason)
        with self._wake:
            self._thaws[group] = word
            self._is_urgent = True
            self._wake.notify()
        return word.until - now

    def wait_newer(self, serial: int, timeout_s: float) -> FleetView:
        """The newest picture, as soon as it is newer than this one or the time is over."""
        with self._published:
            self._published.wait_for(lambda: self.view.serial > serial, timeout_s)
            return self.view

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._is_urgent or self._is_stopping, TICK_S)
                if self._is_stopping:
                    return
                arrivals = (*self._changes, *self._heard.values())
                self._changes, self._heard, self._is_urgent = [], {}, False
            try:
                self.tick(arrivals)
            except Exception as error:  # noqa: BLE001  the boundary: the next tick sees the same again
                self.failures += 1
                get_log().error("fleet_tick_failed", reason=repr(error))

    def tick(self, arrivals: tuple[Arrival, ...]) -> FleetDecision:
        """One pass."""
        now, wall = self._clock.now(), self._clock.wall()
        self._memory = fold(self._memory, arrivals)
        with self._wake:
            thaws, self._thaws = self._thaws, {}
        self._memory = replace(self._memory, thaws={**self._memory.thaws, **thaws})
        lead = self._led(self._leadership.lead(), now, wall)
        epoch = lead.epoch if lead.is_ours else None
        decision = decide(self.cfg, self._memory, now, wall, epoch, self._claims())
        decision = self._intend(decision)
        self._memory = decision.memory
        self._publish(decision, lead, now, wall)
        answers = self._fresh(decision)
        if answers:
            self._tell(answers)
        if not lead.is_ours and lead.epoch > self._led_epoch:
            self._oncall.end()
        if lead.is_ours:  # one of the aggregators on a database wakes people
            self._oncall.tell(decision, now, wall)
        return decision

    def _fresh(self, decision: FleetDecision) -> Answers:
        """What nodes have not been told yet since they asked last: they ask again while they want it, and a
        thousand that wait are not each told the same every second."""
        answers: dict[str, tuple[list[Permit], list[Denial]]] = {}
        nodes = decision.memory.nodes
        told: dict[tuple[str, str], tuple[float, str]] = {}
        all_answers: tuple[Permit | Denial, ...] = (
            *(*decision.granted, *decision.held),
            *decision.denied,
        )
        for answer in all_answers:
            key = (answer.node, answer.ask)
            what = answer.budget if isinstance(answer, Denial) else answer.id
            told[key] = (nodes[answer.node].asked_at, what)
            if self._told.get(key) == told[key]:
                continue
            mine = answers.setdefault(answer.node, ([], []))
            if isinstance(answer, Denial):
                mine[1].append(answer)
            else:
                mine[0].append(answer)
        self._told = told
        return answers

    def _led(self, lead: Lead, now: float, wall: float) -> Lead:
        """At the begin of an epoch of ours the ledger and the book of on-call are read: under it nobody else grants
        or tells, and what was before is all there is. Who cannot read them does not lead."""
        if not lead.is_ours or lead.epoch == self._led_epoch:
            return lead
        try:
            ledger, told = self._recall(wall), self._oncall.begin(lead.epoch, now)
        except GpuwardenError as error:
            why = f"what was granted and told is not known: {error}"
            return replace(lead, is_ours=False, why=why)
        standing = incidents.adopted(self._memory.incidents, told)
        self._memory = replace(self._memory, ledger=ledger, incidents=standing)
        self._led_epoch = lead.epoch
        return lead

    def _intend(self, decision: FleetDecision) -> FleetDecision:
        """A permit counts from when it is on disk; one that is not was never given."""
        if not decision.granted:
            return decision
        granted = decision.granted
        future = self._committer.do(lambda store: store.grant(granted))
        try:
            future.result(COMMIT_S)
        except (GpuwardenError, TimeoutError) as error:
            future.cancel()
            self.failures += 1
            get_log().error("permits_not_kept", reason=str(error), permits=len(granted))
            # It may still get there: the budget keeps counting it. Nobody hears of it, now or later: without
            # what was asked it answers no ask.
            return self._counted(replace(decision, granted=()), granted, is_kept=False)
        for permit in granted:
            get_log().info(
                "permit_granted", node=permit.node, kind=permit.kind, subject=permit.subject
            )
        return self._counted(decision, granted)

    def _counted(
        self, decision: FleetDecision, granted: tuple[Permit, ...], *, is_kept: bool = True
    ) -> FleetDecision:
        """Budgets count what was granted from when it was on disk, not from when that was decided."""
        now, fresh = self._clock.now(), {permit.id for permit in granted}
        ledger = tuple(
            replace(
                p,
                ask=p.ask if is_kept else "",
                granted_at=now,
                expires_at=now + (p.expires_at - p.granted_at),
            )
            if p.id in fresh
            else p
            for p in decision.memory.ledger
        )
        return replace(decision, memory=replace(decision.memory, ledger=ledger))

    def _publish(self, decision: FleetDecision, lead: Lead, now: float, wall: float) -> None:
        held = sum(1 for p in decision.memory.ledger if now < p.expires_at)
        with self._published:
            self.view = FleetView(
                serial=self.view.serial + 1,
                at=now,
                wall=wall,
                epoch=lead.epoch,
                is_leader=lead.is_ours,
                leader=lead.address,
                leader_unknown=lead.why,
                nodes=decision.nodes,
                claims=decision.claims,
                frozen=decision.frozen,
                freezes=decision.freezes,
                permits_held=held,
            )
            self._published.notify_all()


def _merged(before: Heard | None, arrival: Heard) -> Heard:
    if before is None or before.stream != arrival.stream:
        return arrival if before is None or arrival.stream > before.stream else before
    # Written out, as in ``fold``.
    return Heard(
        at=arrival.at,
        stream=arrival.stream,
        node=arrival.node,
        report=arrival.report or before.report,
        # What was asked a moment ago is still wanted: the next message says it only now and then.
        asks=arrival.asks or before.asks,
        events_dropped=arrival.events_dropped,
        policy=arrival.policy or before.policy,
    )
