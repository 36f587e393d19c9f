"""The real notifier on simulated time, with sinks that take what they are given until they are told not to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gpuwarden.config_oncall import OncallConfig
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.audit import Audited, Caller
from gpuwarden.model.oncall import Notice, Receipt
from gpuwarden.node.journal import Disk
from gpuwarden.node.notifier import Notifier, Outfit
from gpuwarden.node.oncall_desk import OncallDesk
from gpuwarden.node.sent_log import SentLog
from gpuwarden.sim.node.clock import SimClock
from tests.policy.notify_stage import HOST

SLOW_S = 30.0


@dataclass(slots=True)
class SimSink:
    """Implements ``ports.Sink``."""

    clock: SimClock
    mood: str = "well"
    """well, down, refuses, busy (429), slow: takes it, but says so after its deadline."""
    told: list[tuple[float, Notice]] = field(default_factory=list)
    asked: int = 0

    def deliver(self, notice: Notice) -> Receipt:
        self.asked += 1
        if self.mood == "down":
            raise Unavailable("Connection refused")
        if self.mood == "busy":
            raise Unavailable("HTTP 429", retry_after_s=600.0)
        if self.mood == "refuses":
            raise Refused("HTTP 400: no")
        self.told.append((self.clock.now(), notice))
        if self.mood == "slow":
            raise Unavailable("no answer within 10 s")
        return Receipt(text="taken")

    @property
    def heard(self) -> list[tuple[str, str]]:
        """What was taken: the incident and the reason."""
        return [(n.brief.incident, n.reason.value) for _, n in self.told]


@dataclass(slots=True)
class SimBeat:
    """Implements ``ports.Heartbeat``."""

    clock: SimClock
    beats: list[float] = field(default_factory=list)

    def beat(self) -> None:
        self.beats.append(self.clock.now())


@dataclass(slots=True)
class LaterLanes:
    """Calls begun are done when they are asked to be: the agent may be killed before."""

    waiting: list[Callable[[], None]] = field(default_factory=list)

    def run(self, name: str, call: Callable[[], None]) -> None:
        self.waiting.append(call)

    def work(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


ANN = Caller(uid=1000, name="ann")


@dataclass(slots=True)
class HeapAudit:
    """Implements ``ports_operator.Audit``."""

    entries: list[Audited] = field(default_factory=list)
    is_broken: bool = False

    def audit(self, entry: Audited) -> None:
        if self.is_broken:
            raise Unavailable("the journal cannot be written: No space left on device")
        self.entries.append(entry)


@dataclass(slots=True)
class Desk:
    """One host's on-call through several lives of its agent."""

    folder: Path
    cfg: OncallConfig
    clock: SimClock = field(default_factory=SimClock)
    disk: Disk | None = None
    sinks: dict[str, SimSink] = field(default_factory=dict)
    lanes: LaterLanes = field(default_factory=LaterLanes)
    is_ticking: bool = True
    audit: HeapAudit = field(default_factory=HeapAudit)
    beat: SimBeat = field(init=False)
    notifier: Notifier = field(init=False)

    def __post_init__(self) -> None:
        self.beat = SimBeat(self.clock)
        for _, sink in self.cfg.sinks:
            self.sinks[sink.name] = SimSink(self.clock)
        self.boot()

    def outfit(self) -> Outfit:
        return Outfit(cfg=self.cfg, sinks=dict(self.sinks), heartbeat=self.beat)

    def boot(self) -> None:
        """A new agent on what is on disk. What the old one had begun never ends."""
        self.lanes = LaterLanes()
        log = SentLog(self.folder, self.disk)
        self.notifier = Notifier(self.outfit(), log, self.clock, HOST, self.lanes)

    def people(self) -> OncallDesk:
        """Where people speak to it."""
        return OncallDesk(self.notifier, self.audit, self.clock, HOST)

    def run(self, seconds: float, step_s: float = 1.0) -> Desk:
        """Time goes on, and the loop ticks."""
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            if self.is_ticking:
                self.notifier.delivered()
            self.notifier.step()
            self.lanes.work()
            self.clock.advance(min(until, self.clock.now() + step_s))
        return self
