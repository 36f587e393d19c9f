"""Stationary services with features and labels, and the same after a change: rows, as sketches of nodes would hold them.

Not independent rows: a feature's rows remember the row before (AR(1), 0.3), its level wanders (AR(1) of hours, 0.9,
0.05 standard deviations) and has a day (0.05 standard deviations up and down), and requests come by day more than by night.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.signal
import scipy.special

from gpuwarden.evaluate.drift import profile
from gpuwarden.evaluate.drift.profile import CategoryProfile, NumericProfile
from gpuwarden.evaluate.inputs import Floats

ROWS_AN_HOUR = 1000
REFERENCE_DAYS = 7
NUMBERS, CATEGORIES = 16, 4
ROW_MEMORY, HOUR_MEMORY, WANDER, SEASON, LOAD = 0.3, 0.9, 0.05, 0.05, 0.5
NAMES = ("a", "b", "c", "d", "e", "f")
MISSING = 0.02


def ar1(r: np.random.Generator, n: int, *, phi: float, spread: float) -> Floats:
    """Mean 0, standard deviation ``spread``, each value ``phi`` times the one before and noise."""
    noise = r.normal(scale=spread * math.sqrt(1 - phi * phi), size=n)
    noise[0] = r.normal(scale=spread)
    return np.asarray(scipy.signal.lfilter([1.0], [1.0, -phi], noise), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Of each row of a service its hour; ``days`` of them."""

    hour: Floats

    @classmethod
    def of(cls, r: np.random.Generator, days: float) -> Clock:
        hours = math.ceil(days * 24)
        load = 1 + LOAD * np.sin(2 * math.pi * (np.arange(hours) / 24 + r.random()))
        rows = r.poisson(ROWS_AN_HOUR * load)
        within = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
        return cls(hour=np.repeat(np.arange(hours), rows) + within / np.repeat(rows, rows))


def level(r: np.random.Generator, clock: Clock) -> Floats:
    """How a feature's level wanders, in standard deviations; of each row."""
    hours = np.arange(int(clock.hour[-1]) + 2)
    slow = ar1(r, hours.size, phi=HOUR_MEMORY, spread=WANDER)
    day = SEASON * np.sin(2 * math.pi * (hours / 24 + r.random()))
    return np.interp(clock.hour, hours, slow + day)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A feature of numbers: one of five shapes."""

    shape: int
    centre: float
    spread: float

    @classmethod
    def of(cls, r: np.random.Generator, place: int) -> Number:
        return cls(shape=place % 5, centre=10 ** r.uniform(-1, 3), spread=r.uniform(0.1, 0.8))

    def values(self, r: np.random.Generator, clock: Clock) -> Floats:
        """Rows; not-a-number: missing."""
        rows = clock.hour.size
        own = math.sqrt(1 - WANDER**2 - SEASON**2 / 2)
        z = level(r, clock) + ar1(r, rows, phi=ROW_MEMORY, spread=own)
        made = (
            self.centre * (1 + self.spread / 3 * z),  # near 0 and below it, too
            self.centre * np.exp(self.spread * z),
            np.floor(np.exp(1.5 + self.spread * z)),  # whole numbers
            self.centre * scipy.special.ndtr(z),
            np.where(z < -0.5, 0.0, self.centre * np.abs(z + 0.5)),  # a third is nothing
        )[self.shape]
        made[r.random(rows) < MISSING] = np.nan
        return np.asarray(made, dtype=np.float64)


def categories(r: np.random.Generator, clock: Clock, base: Floats) -> Floats:
    """Numbers of NAMES; each one's share wanders by itself. ``base`` are logits."""
    weights = np.exp(base[:, None] + np.stack([2 * level(r, clock) for _ in base]))
    edges = np.cumsum(weights / weights.sum(axis=0), axis=0)
    return np.asarray((r.random(clock.hour.size) > edges[:-1]).sum(axis=0), dtype=np.float64)


def number_profile(values: Floats) -> NumericProfile:
    """As `gpuwarden model profile` makes it."""
    return profile.of_numbers(values)


def category_profile(places: Floats) -> CategoryProfile:
    counts = np.bincount(places.astype(int), minlength=len(NAMES))
    return CategoryProfile(
        counts={name: int(n) for name, n in zip(NAMES, counts, strict=True) if n},
        other=0,
        missing=0,
    )


STEPS_A_DAY = 96
"""Of labels. Windows of nodes come by minutes: larger steps would judge later than an aggregator does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labels of each step, and how many of them were mistakes."""

    labels: Floats
    wrong: Floats


def labels(
    r: np.random.Generator, days: float, *, an_hour: float, error: float, drop: float = 0.0,
    drop_day: float | None = None,
) -> Labels:  # fmt: skip
    """Of each quarter of an hour. The share of mistakes wanders by 5 % of itself (AR(1), 0.98 from hour to hour)."""
    steps = round(days * STEPS_A_DAY)
    load = 1 + LOAD * np.sin(2 * math.pi * (np.arange(steps) / STEPS_A_DAY + r.random()))
    count = r.poisson(an_hour * load * 24 / STEPS_A_DAY)
    share = error * np.exp(ar1(r, steps, phi=0.98 ** (24 / STEPS_A_DAY), spread=0.05))
    if drop_day is not None:
        share = share + drop * (np.arange(steps) >= drop_day * STEPS_A_DAY)
    wrong = r.binomial(count, np.minimum(share, 1.0))
    return Labels(labels=count.astype(np.float64), wrong=wrong.astype(np.float64))
