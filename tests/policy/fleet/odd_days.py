"""Days of a service as they are without anything odd: a day's shape, and noise that stays high for a while."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.signal

from gpuwarden.model.anomaly import SLOTS_A_DAY, Oddity, ServiceOddities
from gpuwarden.policy.fleet.odd_history import History
from gpuwarden.policy.fleet.oddlines import OddSettings, ServiceOdds

DAY = SLOTS_A_DAY
FIRST = 18_000 * DAY + 17
"""The number of the first slot: not at midnight."""
PHI, SHARED = 0.7, 0.3
Series = dict[str, np.ndarray]


def days(seed: int, many: int, shared: float = SHARED) -> Series:
    """Five series whose noise is AR(1) of 0.7, 30 % of it common to all; a tenth of latency and of requests."""
    r = np.random.default_rng(seed)
    e = r.normal(0, np.sqrt(1 - PHI**2), (6, many * DAY + 200))
    z = scipy.signal.lfilter([1], [1, -PHI], e, axis=1)[:, 200:]
    z = np.sqrt(1 - shared) * z[:5] + np.sqrt(shared) * z[5]
    day = np.sin(2 * np.pi * (np.arange(many * DAY) / DAY + r.random()))
    return {
        "requests_per_s": 20 * np.exp(0.6 * day + 0.1 * z[0]),
        "error_ratio": np.sin(0.1 + 0.02 * day + 0.015 * z[1]).clip(0) ** 2,
        "latency_p50_s": 0.2 * np.exp(0.3 * day + 0.1 * z[2]),
        "latency_p95_s": 0.8 * np.exp(0.3 * day + 0.15 * z[3]),
        "gpu_utilization": 0.5 + 0.2 * day + 0.05 * z[4],
    }


class Told:
    """A service's days as they are told, quarter by quarter or in larger steps."""

    def __init__(self, series: Series, settings: OddSettings | None = None) -> None:
        self.series = series
        self.history = History()
        self.odds = ServiceOdds("chat", settings or OddSettings(), self.history)
        self.said: ServiceOddities | None = None
        self.at = 0

    def until(
        self,
        day: float,
        step: int = DAY,
        hear: Callable[[ServiceOddities], None] = lambda said: None,
    ) -> list[Oddity]:
        """What stands then, or stood within the day before."""
        while self.at < day * DAY:
            end = min(self.at + step, round(day * DAY))
            for slot in range(self.at, end):
                self.history.take(FIRST + slot, {n: float(v[slot]) for n, v in self.series.items()})
            self.said = self.odds.judge(FIRST + self.at)
            self.at = end
            hear(self.said)
        assert self.said is not None
        return [*self.said.recent, *self.said.findings]


def slot_of(wall: float) -> float:
    """In days since the first."""
    return (wall / 900 - FIRST) / DAY
