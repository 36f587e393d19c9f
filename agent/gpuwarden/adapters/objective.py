"""Judges one service's objective from readings of its histogram: enters and leaves red slowly."""

from collections import deque
from dataclasses import replace

from gpuwarden.adapters.histogram import Reading, percentile
from gpuwarden.config_services import ServiceConfig
from gpuwarden.model.snapshot import Health, ServiceState

QUANTILE = 0.99
_READINGS_MAX = 256


class Objective:
    """Red after ``enter_s`` over the limit, or of requests in flight and none finishing; green after
    ``leave_s`` under it, the first verdict at once; unknown as soon as it cannot be read.

    ``p99_s`` of its state is ``None`` while nothing finishes. A service that is idle is not late: it
    keeps its green, and a red one becomes unknown after ``leave_s`` with nothing in flight. Whoever
    does not tell what is in flight cannot be told idle from stuck: it keeps its verdict.
    """

    def __init__(self, cfg: ServiceConfig, now: float) -> None:
        self.cfg = cfg
        self.state = ServiceState(
            service=cfg.name,
            tenant=None,
            health=Health.UNKNOWN,
            since=now,
            limit_s=cfg.p99_max_s,
        )
        self._readings: deque[Reading] = deque(maxlen=_READINGS_MAX)
        self._moved_at = now
        self._leaning: Health | None = None
        self._leaning_since = now
        self._was_judged = False

    def read(self, reading: Reading) -> bool:
        """Judge by a new reading; whether the health changed."""
        last = self._readings[-1] if self._readings else None
        if last is not None and reading.count < last.count:
            self._readings.clear()  # the service restarted
        if last is None or reading.count != last.count:
            self._moved_at = reading.at
        self._readings.append(reading)
        while len(self._readings) > 2 and reading.at - self._readings[1].at > self.cfg.window_s:
            self._readings.popleft()
        p99_s = percentile(self._readings[0], reading, QUANTILE)
        quiet_s = reading.at - self._moved_at
        if reading.in_flight and quiet_s > self.cfg.stall_s:
            return self._lean(Health.RED, reading.at, None, self.cfg.enter_s)
        if p99_s is not None:
            if p99_s > self.cfg.p99_max_s:
                return self._lean(Health.RED, reading.at, p99_s, self.cfg.enter_s)
            return self._lean(Health.GREEN, reading.at, p99_s, self.cfg.leave_s)
        if reading.in_flight == 0 and self.state.health is Health.RED:
            return self._lean(Health.UNKNOWN, reading.at, None, self.cfg.leave_s)
        self._leaning = None
        self.state = replace(self.state, at=reading.at, p99_s=None)
        return False

    def miss(self, at: float) -> bool:
        """It could not be read; whether the health changed."""
        self._readings.clear()
        self._leaning = None
        return self._become(Health.UNKNOWN, at, None)

    def _lean(self, way: Health, at: float, p99_s: float | None, hold_s: float) -> bool:
        if self._leaning is not way:
            self._leaning, self._leaning_since = way, at
        is_first = way is Health.GREEN and not self._was_judged
        if way is self.state.health or is_first or at - self._leaning_since >= hold_s:
            return self._become(way, at, p99_s)
        self.state = replace(self.state, at=at, p99_s=p99_s)
        return False

    def _become(self, health: Health, at: float, p99_s: float | None) -> bool:
        is_news = self.state.health is not health
        since = at if is_news else self.state.since
        self.state = replace(self.state, health=health, since=since, p99_s=p99_s, at=at)
        self._was_judged = self._was_judged or health is not Health.UNKNOWN
        return is_news
