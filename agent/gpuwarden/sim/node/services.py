"""Services of a simulated node: their objectives, and what they answer their probes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from gpuwarden.config_services import ServiceConfig
from gpuwarden.model.ids import TenantId
from gpuwarden.model.service import ProbeKind, ProbeReading
from gpuwarden.model.snapshot import Health, ServiceState
from gpuwarden.sim.node.cards import Cards
from gpuwarden.sim.node.clock import SimClock


@dataclass(slots=True, eq=False)
class SimService:
    """A service; red by itself when its device is locked up or has less free than it needs."""

    name: str
    needs_free_mib: int = 0
    forced: Health | None = None
    health: Health = Health.GREEN
    since: float = 0.0
    late_since: float | None = None
    tenant: TenantId | None = None
    probe: ProbeReading | None = None
    """What its probe said last; None: it has none."""
    is_sick: bool = False
    """It does not answer its probe, as long as its container runs."""
    heals: bool = True
    """Whether a restart cures it."""
    loads_s: float = 2.0
    """How long after a start it does not answer yet."""
    is_down: bool = False
    """It has been started and still loads."""
    probed_at: float = 0.0
    carried_by: TenantId | None = None
    """Who carried it last."""

    def is_well(self) -> bool:
        """What an honest probe finds."""
        return not (self.is_sick or self.is_down)


class SimServices:
    """Implements ``ports.Services``."""

    def __init__(self, clock: SimClock, cards: Cards) -> None:
        self._clock = clock
        self._cards = cards
        self.services: dict[str, SimService] = {}

    def add(self, name: str, needs_free_mib: int, settings: Sequence[ServiceConfig]) -> SimService:
        """One more; probed where its settings say so."""
        made = SimService(name, needs_free_mib=needs_free_mib, since=self._clock.now())
        probe = next((s.probe for s in settings if s.name == name), None)
        if probe is not None:
            made.probe = ProbeReading(
                service=name,
                kind=ProbeKind.HTTP,
                tenant=None,
                is_well=None,
                since=self._clock.now(),
                limit=probe.failures,
                every_s=probe.every_s,
            )
        self.services[name] = made
        return made

    def step(self) -> bool:
        """Measure; whether somebody's health changed."""
        changed = False
        for service in self.services.values():
            changed |= self._probe(service)
            health = service.forced or self._measured(service)
            if health is not service.health:
                turned = (service.health, health) == (Health.GREEN, Health.RED)
                service.late_since = self._clock.now() if turned else None
                service.health, service.since, changed = health, self._clock.now(), True
        return changed

    def states(self, now: float) -> Sequence[ServiceState]:
        return [
            ServiceState(
                service=s.name,
                tenant=s.tenant,
                health=s.health,
                since=s.since,
                p99_s=None
                if s.health is Health.UNKNOWN
                else 0.1
                if s.health is Health.GREEN
                else 1.5,
                limit_s=0.5,
                at=now,
                late_since=s.late_since,
            )
            for s in self.services.values()
        ]

    def probes(self, now: float) -> Sequence[ProbeReading]:
        return [
            replace(s.probe, tenant=s.tenant) for s in self.services.values() if s.probe is not None
        ]

    def restarted(self, tenant: TenantId) -> None:
        """Its container runs again: it loads, and may be cured."""
        for service in self.services.values():
            if service.carried_by != tenant:
                continue
            service.is_down = True
            service.is_sick = service.is_sick and not service.heals
            self._clock.later(service.loads_s, partial(setattr, service, "is_down", False))

    def _probe(self, service: SimService) -> bool:
        """One round of its probe when it is due; whether that is news."""
        old, now = service.probe, self._clock.now()
        if old is None or now < service.probed_at + old.every_s - 1e-9:
            return False
        service.probed_at = now
        is_well = service.is_well()
        failures = 0 if is_well else old.failures + 1
        is_news = old.is_well is not is_well
        service.probe = replace(
            old,
            is_well=is_well,
            since=now if is_news else old.since,
            failures=failures,
            at=now,
            detail="" if is_well else "HTTP 503",
        )
        return is_news or service.probe.is_failing is not old.is_failing

    def filenos(self) -> Sequence[int]:
        return ()

    def watch(self, tenants: Mapping[TenantId, str]) -> None:
        for service in self.services.values():
            carriers = sorted(t for t, name in tenants.items() if name == service.name)
            service.tenant = carriers[0] if carriers else None
            service.carried_by = service.tenant or service.carried_by

    def close(self) -> None:
        return

    def _measured(self, service: SimService) -> Health:
        if service.tenant is None:
            return Health.UNKNOWN
        for card in self._cards.cards.values():
            if self._cards.kernel.bytes_of(service.tenant, card.id) == 0:
                continue
            free = card.total_bytes - self._cards.used_bytes(card)
            if card.is_locked or free < service.needs_free_mib * 2**20:
                return Health.RED
        return Health.GREEN
