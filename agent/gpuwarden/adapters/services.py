"""Objectives and probes of protected services: one thread asks each one's page over HTTP.

All connections stand side by side, each with its own deadline: a service that is slow to answer, or
sends a byte a second, makes itself unknown and nobody else late. What Docker says of a container comes from
a thread of its own (``container_looks``).
"""

import contextlib
import os
import selectors
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from gpuwarden.adapters.container_looks import ContainerLooks, Look
from gpuwarden.adapters.docker_client import DockerDoor
from gpuwarden.adapters.scrape import Scrape
from gpuwarden.adapters.service_probe import ProbeState
from gpuwarden.clock import Clock
from gpuwarden.config_services import ServiceConfig
from gpuwarden.errors import Unavailable
from gpuwarden.model.ids import TenantId
from gpuwarden.model.service import ProbeReading
from gpuwarden.model.snapshot import Health, ServiceState

if TYPE_CHECKING:
    from gpuwarden.adapters.objective_page import ObjectivePage
    from gpuwarden.ports_evaluation import WindowDesk

FRESH_S = 2.0
"""Longest time for which a verdict stands without a new reading, when the window is shorter."""


class Asked(Protocol):
    """A page that is asked for again and again."""

    every_s: float
    timeout_s: float

    def begin(self, deadline: float) -> Scrape | None:
        """Ask; ``None`` while nobody is to be asked; ``Unavailable`` when nobody can be."""
        ...

    def answered(self, page: str, at: float) -> bool:
        """Whether the loop should hear of it at once. ``ValueError`` or ``Unavailable``: no answer."""
        ...

    def missed(self, why: str, at: float) -> bool: ...


class ProbePage:
    """What a service answers its probe with. At a container's port nobody is asked before it is known where
    that is."""

    def __init__(self, state: ProbeState) -> None:
        self.state = state
        self.every_s, self.timeout_s = state.cfg.every_s, state.cfg.timeout_s
        self.look: Look | None = None

    def begin(self, deadline: float) -> Scrape | None:
        cfg, look = self.state.cfg, self.look
        if cfg.http is not None:
            return Scrape(cfg.http, deadline, is_probe=True)
        if look is None:
            return None
        if not look.is_running:
            raise Unavailable("its container does not run")
        if not look.address:
            raise Unavailable("its container has no address")
        host = f"[{look.address}]" if ":" in look.address else look.address
        return Scrape(f"http://{host}:{cfg.port}{cfg.path}", deadline, is_probe=True)

    def answered(self, page: str, at: float) -> bool:
        return self.state.well(at)

    def missed(self, why: str, at: float) -> bool:
        return self.state.failed(at, why)


@dataclass(slots=True)
class _Watched:
    """One page as the thread knows it."""

    page: Asked
    due: float
    scrape: Scrape | None = None


def _objectives(configs: Sequence[ServiceConfig], now: float) -> "list[ObjectivePage]":
    """Imported where there is one: the judge and what it reads weigh 2 MiB."""
    asked = [cfg for cfg in configs if cfg.url is not None]
    if not asked:
        return []
    from gpuwarden.adapters.objective_page import ObjectivePage

    return [ObjectivePage(cfg, now) for cfg in asked]


class ServiceWatch:
    """The ``Services`` port. Without services it has no thread."""

    def __init__(
        self, configs: Sequence[ServiceConfig], clock: Clock, door: DockerDoor | None = None
    ) -> None:
        """``door``: Docker, for probes that need its word."""
        now = clock.now()
        self._clock = clock
        self._objectives = _objectives(configs, now)
        self._probes = {
            cfg.name: ProbeState(cfg.name, cfg.probe, now)
            for cfg in configs
            if cfg.probe is not None
        }
        self._pages = {
            name: ProbePage(state)
            for name, state in self._probes.items()
            if not state.cfg.healthcheck
        }
        pages: list[Asked] = [*self._objectives, *self._pages.values()]
        self._watched = [_Watched(page=page, due=now) for page in pages]
        self._tenants: dict[str, TenantId] = {}
        self.on_carried: Callable[[], None] | None = None
        """Called once, when there first is a tenant that carries a service."""
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.failures = 0
        self._thread = threading.Thread(target=self._run, name="services", daemon=True)
        if self._watched:
            self._thread.start()
        self._looks: ContainerLooks | None = None
        ask_docker = {n: p.cfg.every_s for n, p in self._probes.items() if p.cfg.http is None}
        if ask_docker and door is not None:
            self._looks = ContainerLooks(door, clock, ask_docker, self._looked)
            self._looks.start()

    def states(self, now: float) -> Sequence[ServiceState]:
        """Each service as last judged; one not read for its window (2 s at least) is unknown."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        states = []
        for page in self._objectives:
            objective = page.objective
            state = replace(objective.state, tenant=self._tenants.get(objective.cfg.name))
            if state.at is not None and now - state.at > max(FRESH_S, objective.cfg.window_s):
                state = replace(state, health=Health.UNKNOWN, p99_s=None)
            states.append(state)
        return states

    def probes(self, now: float) -> Sequence[ProbeReading]:
        """The newest of each; how old it is tells its own time."""
        return [
            replace(probe.reading, tenant=self._tenants.get(name))
            for name, probe in self._probes.items()
        ]

    def tell(self, desk: "WindowDesk") -> None:
        """From now on what is read of the services' pages goes there too."""
        for page in self._objectives:
            page.desk = desk

    def watch(self, tenants: Mapping[TenantId, str]) -> None:
        """Which tenant carries which service name."""
        self._tenants = {service: tenant for tenant, service in tenants.items()}
        if tenants and self.on_carried is not None:
            begin, self.on_carried = self.on_carried, None
            begin()
        if self._looks is not None:
            self._looks.follow(self._tenants)

    def filenos(self) -> Sequence[int]:
        """Readable when a service's health has changed, or what its probe says."""
        return (self._wake,)

    def close(self) -> None:
        """End the threads; returns when they have ended."""
        os.eventfd_write(self._stop, 1)
        if self._thread.is_alive():
            self._thread.join()
        if self._looks is not None:
            self._looks.close()

    def _looked(self, service: str, look: Look | str) -> None:
        """What Docker says, on its own thread."""
        state, page = self._probes[service], self._pages.get(service)
        if isinstance(look, str):
            is_news = state.blind(look)
        elif page is not None:
            page.look, is_news = look, False
        elif not look.is_running:
            is_news = state.failed(look.at, "its container does not run")
        elif look.health == "healthy":
            is_news = state.well(look.at)
        elif look.health == "unhealthy":
            is_news = state.failed(look.at, look.said or "unhealthy", look.streak)
        else:
            why = f"Docker calls it {look.health}" if look.health else "it has no HEALTHCHECK"
            is_news = state.unknown(look.at, why)
        if is_news:
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stop, selectors.EVENT_READ)
            while True:
                now = self._clock.now()
                for watched in self._watched:
                    self._begin(selector, watched, now)
                for key, _ in selector.select(self._patience_s()):
                    if key.fd == self._stop:
                        return self._end(selector)
                    self._go_on(selector, key.data)

    def _end(self, selector: selectors.BaseSelector) -> None:
        for watched in self._watched:
            if watched.scrape is not None:
                self._finish(selector, watched)

    def _patience_s(self) -> float:
        now = self._clock.now()
        next_at = min(
            each.scrape.deadline if each.scrape is not None else each.due for each in self._watched
        )
        return max(0.001, next_at - now)

    def _begin(self, selector: selectors.BaseSelector, watched: _Watched, now: float) -> None:
        """Give up what is late, start what is due."""
        if watched.scrape is not None:
            if now < watched.scrape.deadline:
                return
            self._finish(selector, watched)
            self._miss(watched, f"no answer within {watched.page.timeout_s:g} s")
        if now < watched.due:
            return
        watched.due = now + watched.page.every_s
        try:
            watched.scrape = watched.page.begin(now + watched.page.timeout_s)
        except Unavailable as error:
            self._miss(watched, str(error))
            return
        if watched.scrape is not None:
            selector.register(watched.scrape.socket, selectors.EVENT_WRITE, watched)

    def _go_on(self, selector: selectors.BaseSelector, watched: _Watched) -> None:
        scrape = watched.scrape
        if scrape is None:
            return
        try:
            page = scrape.step()
            if page is None:
                wants = selectors.EVENT_WRITE if scrape.wants_write else selectors.EVENT_READ
                selector.modify(scrape.socket, wants, watched)
                return
            is_news = watched.page.answered(page, self._clock.now())
        except (Unavailable, ValueError) as error:
            self._finish(selector, watched)
            self._miss(watched, str(error))
            return
        self._finish(selector, watched)
        if is_news:
            os.eventfd_write(self._wake, 1)

    def _finish(self, selector: selectors.BaseSelector, watched: _Watched) -> None:
        if watched.scrape is not None:
            selector.unregister(watched.scrape.socket)
            watched.scrape.close()
            watched.scrape = None

    def _miss(self, watched: _Watched, why: str) -> None:
        self.failures += 1
        if watched.page.missed(why, self._clock.now()):
            os.eventfd_write(self._wake, 1)
