"""How far a feature's windows are from its profile while nothing is wrong with it.

A test of independent rows calls every window of a real service a change, if it has rows enough: levels wander, days differ
from nights, rows remember the row before. So of each feature is remembered what its calm windows had of PSI beyond
sampling noise, nats, and a window has to be unlikely for that, too. For a move of d standard deviations the PSI is
about d^2, so its square root is on the scale of a mean, and one that wanders is normal there; over more than one
direction the tail is lighter, and this errs towards silence.

What is believed at first, and at most, is bounded: a move of half a standard deviation is a finding however much its
feature has wandered.
"""

import math
from dataclasses import dataclass

FIRST = 0.005
"""Nats that are believed before anything was seen: 0.07 standard deviations."""
FIRST_WINDOWS = 24
"""Windows that this belief counts as."""
WINDOWS_MAX = 240
MOST = 0.0075
"""Nats: a level that wanders further than 0.087 standard deviations is news."""
LEAST = 0.001
UNUSUAL = 9.0
"""Times the usual, at which a window counts as no more: three of its standard deviations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wander:
    """``usual``: mean excess of calm windows, nats."""

    usual: float = FIRST
    windows: int = 0


def p_value(wander: Wander, excess: float, rows: int) -> float:
    """Chance of so much or more of one window, by what is usual and by its own rows' chance; two-sided in the mean."""
    variance = _bounded(wander.usual) + 1 / max(rows, 1)
    return math.erfc(math.sqrt(max(0.0, excess) / (2 * variance)))


def after(wander: Wander, excess: float) -> Wander:
    """One more calm window. Less than nothing counts as it is: noise has a mean of 0."""
    windows = min(wander.windows + 1, WINDOWS_MAX)
    seen = min(excess, UNUSUAL * _bounded(wander.usual))
    usual = wander.usual + (seen - wander.usual) / (FIRST_WINDOWS + windows)
    return Wander(usual=usual, windows=windows)


def _bounded(usual: float) -> float:
    return min(MOST, max(LEAST, usual))
