"""The other ports of a simulated node: limiter, host, services, pager, workers, board, watchdog."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gpuwarden.errors import Unavailable, Unsupported
from gpuwarden.model.action import Action, Kind, Outcome, Target
from gpuwarden.model.decision import Decision, Incident
from gpuwarden.model.device import Sight
from gpuwarden.model.ids import DeviceId, IncidentId, TenantId
from gpuwarden.model.oncall import Delivery, Page
from gpuwarden.model.snapshot import HostSample, LimitReading, Snapshot
from gpuwarden.sim.node.cards import Cards
from gpuwarden.sim.node.clock import SimClock
from gpuwarden.sim.node.containers import SimDocker
from gpuwarden.sim.node.ledger import Ledger


class SimLimiter:
    """Implements ``ports.Audited``. ``mode``: none, works, no-effect, not-supported, no-permission."""

    def __init__(self, cards: Cards, ledger: Ledger, docker: SimDocker, mode: str) -> None:
        self._cards = cards
        self._ledger = ledger
        self._docker = docker
        self.mode = mode
        self._told: dict[tuple[TenantId, DeviceId], tuple[str, int]] = {}
        self.leaked = 0
        """Leaves that went with a limit still on them: their reservation is lost."""

    @property
    def name(self) -> str:
        return "none" if self.mode == "none" else "nvml-memory-limits"

    def set(self, target: Target, device: DeviceId, soft_bytes: int, hard_bytes: int) -> None:
        self._try()
        path = target.cgroup.path if target.cgroup is not None else ""
        self._ledger.note("set-limit", target.tenant, device=device, text=str(hard_bytes))
        self._told[target.tenant, device] = (path, hard_bytes)
        if self.mode == "works":
            self._cards.limits[path, device] = hard_bytes

    def clear(self, target: Target, device: DeviceId) -> None:
        self._try()
        self._ledger.note("clear-limit", target.tenant, device=device)
        told = self._told.pop((target.tenant, device), None)
        if told is not None:
            self._cards.limits.pop((told[0], device), None)

    def read(self, target: Target, device: DeviceId) -> LimitReading:
        path, _ = self._told.get((target.tenant, device), ("", 0))
        shown = self._cards.limits.get((path, device))
        return LimitReading(
            tenant=target.tenant,
            device=device,
            hard_bytes=shown,
            used_bytes=None,
            backend=self.name,
        )

    def readings(self) -> Sequence[LimitReading]:
        return [
            LimitReading(
                tenant=tenant,
                device=device,
                hard_bytes=self._cards.limits.get((path, device)),
                used_bytes=None,
                backend=self.name,
            )
            for (tenant, device), (path, _) in self._told.items()
        ]

    def _try(self) -> None:
        if self.mode in ("none", "not-supported"):
            raise Unsupported("the driver has no memory limits")
        if self.mode == "no-permission":
            raise Unavailable("memory limits: no permission")


@dataclass(slots=True)
class SimHost:
    """Implements ``ports.Host``; ``sample_of`` is what it measures."""

    clock: SimClock
    boot: str = "boot-1"
    available_ratio: float = 0.6
    cpu_ratio: float = 0.2
    disk_free_ratio: float = 0.5
    memory_full: float = 0.0

    def sample(self, now: float) -> HostSample:
        total = 512 * 2**30
        return HostSample(
            at=now,
            cpu_ratio=self.cpu_ratio,
            memory_total_bytes=total,
            memory_available_bytes=int(self.available_ratio * total),
            filesystem_free_ratio=self.disk_free_ratio,
            memory_full_avg10=self.memory_full,
        )

    def boot_id(self) -> str:
        return self.boot


@dataclass(slots=True)
class SimPager:
    """Implements ``ports.Pager``."""

    ledger: Ledger
    is_down: bool = False

    def send(self, page: Page) -> None:
        if self.is_down:
            raise Unavailable("the sent-log cannot be written")
        self.ledger.note("page", text=f"{page.severity}: {page.summary}")

    def follow(
        self,
        incidents: Sequence[Incident],
        subjects: Mapping[IncidentId, str],
        *,
        is_all: bool = False,
    ) -> None:
        """Nobody here tells anybody how it goes on."""

    def delivered(self) -> Sequence[Delivery]:
        return ()


@dataclass(slots=True)
class SimWorkers:
    """Implements ``ports.Workers``: a lane does one call after the other, each taking its time."""

    clock: SimClock
    takes_s: Callable[[Action], float]
    lanes: dict[str, deque[tuple[Action, Callable[[], Outcome]]]] = field(default_factory=dict)
    """Lane -> its calls; the first is under way."""
    done: list[Outcome] = field(default_factory=list)
    is_dead: bool = False
    """The agent they belong to is no more: what has not begun is never done."""
    crash: BaseException | None = None

    def submit(self, lane: str, action: Action, call: Callable[[], Outcome]) -> bool:
        line = self.lanes.setdefault(lane, deque())
        line.append((action, call))
        if len(line) == 1:
            self._begin(line)
        return True

    def _begin(self, line: deque[tuple[Action, Callable[[], Outcome]]]) -> None:
        self.clock.later(self.takes_s(line[0][0]), lambda: self._end(line))

    def _end(self, line: deque[tuple[Action, Callable[[], Outcome]]]) -> None:
        if self.is_dead:
            return
        _, call = line[0]
        self._do(call)
        line.popleft()
        if line:
            self._begin(line)

    def finished(self) -> Sequence[Outcome]:
        done, self.done = self.done, []
        return done

    def filenos(self) -> Sequence[int]:
        return ()

    def close(self) -> None:
        self.is_dead = True

    def _do(self, call: Callable[[], Outcome]) -> None:
        try:
            self.done.append(call())
        except Exception:
            raise
        except BaseException as end:  # noqa: BLE001  the agent dies in this call, not the simulation
            self.is_dead, self.crash = True, end


@dataclass(slots=True)
class SimBoard:
    """Implements ``ports.Status``: keeps the last picture, and who was ever seen blind."""

    snapshot: Snapshot | None = None
    decision: Decision | None = None
    incidents: tuple[Incident, ...] = ()
    outcomes: list[Outcome] = field(default_factory=list)
    blind: set[DeviceId] = field(default_factory=set)

    def publish(
        self,
        snapshot: Snapshot,
        decision: Decision,
        outcomes: Sequence[Outcome],
        incidents: tuple[Incident, ...],
    ) -> None:
        self.snapshot, self.decision, self.incidents = snapshot, decision, incidents
        self.blind.update(d.id for d in snapshot.devices if d.sight is not Sight.OK)

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes.extend(outcomes)


@dataclass(slots=True)
class SimWatchdog:
    """Implements ``ports.Watchdog``."""

    clock: SimClock
    pets: list[float] = field(default_factory=list)

    def pet(self, status: str) -> None:
        self.pets.append(self.clock.now())


class AgentDied(BaseException):
    """The agent's process ends here; nothing may catch it but the world."""


@dataclass(slots=True)
class SimSteps:
    """Implements ``ports.Steps``: tells the ledger what is being carried out, and may end the agent."""

    ledger: Ledger
    dies_at: tuple[Kind | None, str] | None = None
    """Kind (None: any) and phase at which the agent dies, once."""
    dies_if: Callable[[Action, str], bool] | None = None
    seen: list[tuple[Kind, str]] = field(default_factory=list)

    def reached(self, action: Action, phase: str) -> None:
        self.seen.append((action.kind, phase))
        self.ledger.acting = action.id if phase in ("intended", "checked") else ""
        wanted = self.dies_at
        if wanted is not None and phase == wanted[1] and wanted[0] in (None, action.kind):
            if self.dies_if is not None and not self.dies_if(action, phase):
                return
            self.dies_at = None
            self.ledger.acting = ""
            raise AgentDied(f"{action.kind}.{phase}")
