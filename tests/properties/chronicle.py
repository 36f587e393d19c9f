"""What really happened in a world, moment by moment: who held how much, which service was well, when an agent ran.
Written from the simulated kernel, cards and services, never from a list or from anything the agent keeps."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from gpuwarden.model.ids import DeviceId, Pid, TenantId
from gpuwarden.sim.world import World

Holder = tuple[TenantId, Pid]


@dataclass(frozen=True, slots=True)
class Moment:
    """One device as it was."""

    at: float
    held: dict[Holder, int]
    nobodys: int
    """Bytes that no process' row has: hidden, leaked, of the dead whose pid is gone."""


@dataclass(slots=True)
class Chronicle:
    """Kept by ``World.on_step``; one moment is added where something changed."""

    world: World
    moments: dict[DeviceId, list[Moment]] = field(default_factory=dict)
    turned_red: list[tuple[float, DeviceId]] = field(default_factory=list)
    """When a protected service that had been well turned red, on which device it lived."""
    _health: dict[str, str] = field(default_factory=dict)

    def note(self) -> None:
        """Between two moments of the world."""
        now = self.world.clock.now()
        everyone = self.world.kernel.everyone()
        for card in self.world.cards.cards.values():
            held: dict[Holder, int] = {}
            nobodys = card.leaked_bytes
            for process in everyone:
                nobodys += process.hides.get(card.id, 0)
                if size := process.holds.get(card.id, 0):
                    held[process.tenant, process.pid] = size
            past = self.moments.setdefault(card.id, [])
            if not past or (past[-1].held, past[-1].nobodys) != (held, nobodys):
                past.append(Moment(now, held, nobodys))
        self._services(now)

    def _services(self, now: float) -> None:
        for name, service in self.world.services.services.items():
            health, before = service.health.value, self._health.get(name)
            self._health[name] = health
            if (before, health) != ("green", "red") or service.tenant is None:
                continue
            for device, past in self.moments.items():
                if any(tenant == service.tenant for tenant, _ in past[-1].held):
                    self.turned_red.append((now, device))

    def at(self, device: DeviceId, when: float) -> Moment | None:
        """As it was then; None: before the world began."""
        past = self.moments.get(device, [])
        count = bisect_right(past, when + 1e-9, key=lambda moment: moment.at)
        return past[count - 1] if count else None

    def between(self, device: DeviceId, begin: float, end: float) -> list[Moment]:
        """Every moment that lasted into a span of time, oldest first."""
        past = self.moments.get(device, [])
        first = max(0, bisect_right(past, begin, key=lambda moment: moment.at) - 1)
        return past[first : bisect_left(past, end, key=lambda moment: moment.at)]

    def grew_by_itself(self, tenant: TenantId, device: DeviceId, begin: float, end: float) -> int:
        """The most that a tenant's processes stood, before ``end``, above what the same processes had held at an
        earlier moment since ``begin``. A process that had not begun then counts from when it had."""
        lowest: dict[Holder, int] = {}
        most = 0
        for moment in self.between(device, begin, end):
            mine = {h: size for h, size in moment.held.items() if h[0] == tenant}
            most = max(most, sum(size - lowest.get(h, size) for h, size in mine.items()))
            for holder, size in mine.items():
                lowest[holder] = min(size, lowest.get(holder, size))
        return most

    def total(self, tenant: TenantId | None, device: DeviceId, when: float) -> int:
        """What a tenant, or nobody, held then."""
        moment = self.at(device, when)
        if moment is None:
            return 0
        if tenant is None:
            return moment.nobodys
        return sum(size for (who, _), size in moment.held.items() if who == tenant)

    def others(self, tenant: TenantId, device: DeviceId, begin: float, end: float) -> set[TenantId]:
        """Who else was there at some time in between."""
        return {
            who
            for moment in self.between(device, begin, end + 1e-9)
            for who, _ in moment.held
            if who != tenant
        }

    def agent_ran(self, begin: float, end: float) -> bool:
        """Whether one agent has run all that time; of what it does at the end it may die."""
        ledger = self.world.ledger
        is_new = any(begin < entry.at <= end for entry in ledger.of("agent-starts"))
        return not is_new and not any(begin < e.at < end for e in ledger.of("agent-died"))
