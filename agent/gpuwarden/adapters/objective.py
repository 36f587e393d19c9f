"""A service's own objective: the default fast guardrail, judged from readings of its page several times a second."""

import math
from collections import deque
from dataclasses import replace

from gpuwarden.config_services import ServiceConfig
from gpuwarden.evaluate.fast.guardrail import Memory, judge
from gpuwarden.model.evaluation import Cohort, Colour, Verdict, Window
from gpuwarden.model.guardrail import Guardrail, Idle, Then
from gpuwarden.model.snapshot import Health, ServiceState

_WINDOWS_MAX = 1024
_HEALTH = {Colour.GREEN: Health.GREEN, Colour.RED: Health.RED, Colour.UNKNOWN: Health.UNKNOWN}


def objective_of(cfg: ServiceConfig) -> Guardrail:
    """The guardrail of a ``[[service]]``."""
    return Guardrail(
        name="objective",
        expression="p99(latency_s)",
        limit=cfg.p99_max_s,
        over_s=cfg.window_s,
        enter_s=cfg.enter_s,
        leave_s=cfg.leave_s,
        stall_s=cfg.stall_s,
        idle=Idle.KEEP,
        hold_red_s=0.0,
        severity="error",
        then=Then.PAGE,
        services=(cfg.name,),
        is_fast=True,
        unit="s",
    )


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
        self.verdict: Verdict | None = None
        """Its times are monotonic, as those of the windows."""
        self._spec = objective_of(cfg)
        self._cohort = Cohort(service=cfg.name)
        self._memory = Memory(colour=Colour.UNKNOWN, since=now)
        self._windows: deque[Window] = deque(maxlen=_WINDOWS_MAX)
        self._was_well = False
        self._late_since: float | None = None

    def read(self, window: Window) -> bool:
        """Judge with what has come since the last look; whether the health changed."""
        at = window.begin_wall + window.length_s
        self._windows.append(window)
        reach_s = max(self.cfg.window_s, self.cfg.stall_s) + 1.0
        while len(self._windows) > 1 and self._windows[0].begin_wall < at - reach_s:
            self._windows.popleft()
        self._memory, verdict = judge(self._spec, self._memory, self._cohort, self._windows, at)
        return self._become(verdict, at)

    def begin(self, at: float) -> bool:
        """The first look: nothing has come yet."""
        self.state = replace(self.state, at=at)
        return False

    def miss(self, at: float) -> bool:
        """It could not be read; whether the health changed."""
        self._windows.clear()
        self._memory, verdict = judge(self._spec, self._memory, self._cohort, (), at)
        return self._become(verdict, at)

    def _mind(self, value: float | None, at: float) -> None:
        """Since when it has been late, where it was seen not to be before. Of a service that is idle nothing is new;
        what could not be read was not seen."""
        if value is None:
            if self._memory.colour is Colour.UNKNOWN:
                self._was_well, self._late_since = False, None
        elif value <= self.cfg.p99_max_s:
            self._was_well, self._late_since = True, None
        elif self._was_well:
            self._was_well, self._late_since = False, at

    def _become(self, verdict: Verdict, at: float) -> bool:
        health, value = _HEALTH[self._memory.colour], verdict.value
        is_news = health is not self.state.health
        self._mind(value, at)
        self.verdict = verdict
        self.state = replace(
            self.state,
            health=health,
            since=at if is_news else self.state.since,
            p99_s=value if value is not None and math.isfinite(value) else None,
            at=at,
            late_since=self._late_since,
        )
        return is_news
