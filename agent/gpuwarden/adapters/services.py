"""Objectives of protected services: one thread scrapes each one's histogram over loopback.

All connections stand side by side, each with its own deadline: a service that is slow to answer, or
sends a byte a second, makes itself unknown and nobody else late.
"""

import contextlib
import os
import selectors
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gpuwarden.adapters.histogram import parse
from gpuwarden.adapters.objective import Objective
from gpuwarden.adapters.scrape import Scrape
from gpuwarden.clock import Clock
from gpuwarden.config_services import ServiceConfig
from gpuwarden.errors import Unavailable
from gpuwarden.model.ids import TenantId
from gpuwarden.model.snapshot import Health, ServiceState

TIMEOUT_S = 1.0
EVERY_MIN_S = 0.05
FRESH_S = 2.0
"""Longest time for which a verdict stands without a new reading, when the window is shorter."""


@dataclass(slots=True)
class _Watched:
    """One service as the thread knows it."""

    objective: Objective
    due: float
    scrape: Scrape | None = None


class ServiceWatch:
    """The ``Services`` port. Without services it has no thread."""

    def __init__(self, configs: Sequence[ServiceConfig], clock: Clock) -> None:
        now = clock.now()
        self._clock = clock
        self._watched = [_Watched(objective=Objective(cfg, now), due=now) for cfg in configs]
        self._tenants: dict[str, TenantId] = {}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.failures = 0
        self._thread = threading.Thread(target=self._run, name="services", daemon=True)
        if self._watched:
            self._thread.start()

    def states(self, now: float) -> Sequence[ServiceState]:
        """Each service as last judged; one not read for its window (2 s at least) is unknown."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        states = []
        for watched in self._watched:
            objective = watched.objective
            state = replace(objective.state, tenant=self._tenants.get(objective.cfg.name))
            if state.at is not None and now - state.at > max(FRESH_S, objective.cfg.window_s):
                state = replace(state, health=Health.UNKNOWN, p99_s=None)
            states.append(state)
        return states

    def watch(self, tenants: Mapping[TenantId, str]) -> None:
        """Which tenant carries which service name."""
        self._tenants = {service: tenant for tenant, service in tenants.items()}

    def filenos(self) -> Sequence[int]:
        """Readable when a service's health has changed."""
        return (self._wake,)

    def close(self) -> None:
        """End the thread; returns when it has ended."""
        os.eventfd_write(self._stop, 1)
        if self._thread.is_alive():
            self._thread.join()

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
            self._miss(watched)
        if now < watched.due:
            return
        cfg = watched.objective.cfg
        watched.due = now + max(cfg.every_s, EVERY_MIN_S)
        try:
            watched.scrape = Scrape(cfg.url, now + TIMEOUT_S)
        except Unavailable:
            self._miss(watched)
            return
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
            reading = parse(page, watched.objective.cfg.histogram, self._clock.now())
        except (Unavailable, ValueError):
            reading = None
        self._finish(selector, watched)
        if reading is None:
            self._miss(watched)
        elif watched.objective.read(reading):
            os.eventfd_write(self._wake, 1)

    def _finish(self, selector: selectors.BaseSelector, watched: _Watched) -> None:
        if watched.scrape is not None:
            selector.unregister(watched.scrape.socket)
            watched.scrape.close()
            watched.scrape = None

    def _miss(self, watched: _Watched) -> None:
        self.failures += 1
        if watched.objective.miss(self._clock.now()):
            os.eventfd_write(self._wake, 1)
