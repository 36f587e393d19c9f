"""Objectives of protected services: one thread scrapes each one's histogram over loopback."""

import contextlib
import http.client
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from gpuwarden.adapters.histogram import Reading, parse, percentile
from gpuwarden.clock import Clock
from gpuwarden.config import ServiceConfig
from gpuwarden.errors import Unavailable
from gpuwarden.model.ids import TenantId
from gpuwarden.model.snapshot import Health, ServiceState

PAGE_MAX_BYTES = 4 * 2**20
TIMEOUT_S = 1.0
QUANTILE = 0.99


@dataclass(slots=True)
class _Watched:
    """One service as the thread knows it."""

    cfg: ServiceConfig
    state: ServiceState
    readings: deque[Reading] = field(default_factory=lambda: deque(maxlen=256))
    leaning: Health = Health.UNKNOWN
    leaning_since: float = 0.0
    moved_at: float = 0.0
    """When the number of finished requests last grew."""
    due: float = 0.0


class ServiceWatch:
    """Red after ``enter_s`` over the limit (or of requests in flight and none finishing), green after
    ``leave_s`` under it; a page that cannot be read is unknown at once, never green."""

    def __init__(self, configs: Sequence[ServiceConfig], clock: Clock) -> None:
        now = clock.now()
        self._clock = clock
        self._watched = [
            _Watched(
                cfg=c,
                state=ServiceState(
                    service=c.name,
                    tenant=None,
                    health=Health.UNKNOWN,
                    since=now,
                    limit_s=c.p99_max_s,
                ),
                moved_at=now,
            )
            for c in configs
        ]
        self._tenants: dict[str, TenantId] = {}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = threading.Event()
        self.failures = 0
        if self._watched:
            threading.Thread(target=self._run, name="services", daemon=True).start()

    def states(self, now: float) -> Sequence[ServiceState]:
        """Each service as last judged; one not read for ``window_s`` is unknown."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        states = []
        for watched in self._watched:
            state = replace(watched.state, tenant=self._tenants.get(watched.cfg.name))
            if state.at is not None and now - state.at > max(2.0, watched.cfg.window_s):
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
        """End the thread after what it is doing."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            now = self._clock.now()
            for watched in self._watched:
                if now >= watched.due:
                    watched.due = now + max(watched.cfg.every_s, 0.05)
                    self._judge(watched)
            wait = min(w.due for w in self._watched) - self._clock.now()
            self._stopping.wait(max(0.01, wait))

    def _judge(self, watched: _Watched) -> None:
        try:
            reading = _scrape(watched.cfg, self._clock)
        except Unavailable:
            self.failures += 1
            watched.readings.clear()
            self._become(watched, Health.UNKNOWN, None)
            return
        last = watched.readings[-1] if watched.readings else None
        if last is None or reading.count != last.count:
            watched.moved_at = reading.at
        if last is not None and reading.count < last.count:
            watched.readings.clear()  # the service restarted
        watched.readings.append(reading)
        cfg = watched.cfg
        while len(watched.readings) > 2 and reading.at - watched.readings[1].at > cfg.window_s:
            watched.readings.popleft()
        p99 = percentile(watched.readings[0], reading, QUANTILE)
        waiting = reading.in_flight is None or reading.in_flight > 0
        stalled = waiting and reading.at - watched.moved_at > cfg.stall_s
        if stalled or (p99 is not None and p99 > cfg.p99_max_s):
            self._lean(watched, Health.RED, None if stalled else p99, cfg.enter_s)
        elif p99 is not None:
            self._lean(watched, Health.GREEN, p99, cfg.leave_s)
        else:
            watched.state = replace(watched.state, at=reading.at)

    def _lean(self, watched: _Watched, way: Health, p99: float | None, hold_s: float) -> None:
        now = watched.readings[-1].at
        if watched.leaning is not way:
            watched.leaning, watched.leaning_since = way, now
        first = watched.state.health is Health.UNKNOWN and way is Health.GREEN
        if first or now - watched.leaning_since >= hold_s:
            self._become(watched, way, p99)
        else:
            watched.state = replace(watched.state, p99_s=p99, at=now)

    def _become(self, watched: _Watched, health: Health, p99: float | None) -> None:
        now = self._clock.now()
        changed = watched.state.health is not health
        watched.state = replace(
            watched.state,
            health=health,
            since=now if changed else watched.state.since,
            p99_s=p99,
            at=now,
        )
        if health is Health.UNKNOWN:
            watched.leaning = health
        if changed:
            os.eventfd_write(self._wake, 1)


def _scrape(cfg: ServiceConfig, clock: Clock) -> Reading:
    """One GET over loopback; ``Unavailable`` for whatever is not a page with the histogram."""
    parts = urlsplit(cfg.url)
    started = clock.now()
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        body = b""
        while chunk := answer.read1(65536):
            body += chunk
            if len(body) > PAGE_MAX_BYTES or clock.now() - started > TIMEOUT_S:
                raise Unavailable(f"{cfg.name}: the page is too large or too slow")
        if answer.status != 200:
            raise Unavailable(f"{cfg.name}: HTTP {answer.status}")
        reading = parse(body.decode("utf-8", "replace"), cfg.histogram, clock.now())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"{cfg.name}: {error}") from error
    finally:
        connection.close()
    if reading is None:
        raise Unavailable(f"{cfg.name}: no histogram {cfg.histogram} on its page")
    return reading
