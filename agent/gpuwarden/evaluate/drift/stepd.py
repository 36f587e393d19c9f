"""STEPD: the newest values of a 0/1 stream against all older ones."""

import math
from collections import deque
from collections.abc import Iterable

import scipy.special


def alarms(values: Iterable[float], *, window_size: int, alpha_drift: float) -> list[int]:
    """0-based indexes at which the newest ``window_size`` values differ from the older ones.

    From n >= 2 w on, w = ``window_size``, with sums r of the newest w and o of the n - w older values:
    T = (|o/(n-w) - r/w| - 0.5 (1/(n-w) + 1/w)) / sqrt(q (1-q) (1/(n-w) + 1/w)), q = (o+r)/n; alarm
    when the upper normal tail of |T| is below ``alpha_drift``, then all starts afresh. Nishida &
    Yamauchi 2007. As in the reference implementation, |T| is infinite where all values are equal:
    on a stream whose errors are rarer than one in 2 w this alarms without a change, so it has no
    place in a vote on rare errors.
    """
    if window_size < 1:
        raise ValueError(f"window_size: expected 1 or more, got {window_size}")
    if not 0 < alpha_drift < 1:
        raise ValueError(f"alpha_drift: expected a number between 0 and 1, got {alpha_drift:g}")
    limit = -float(
        scipy.special.ndtri(alpha_drift)
    )  # the tail is below alpha where |T| is above it
    found = []
    window: deque[float] = deque()
    n, total, newest = 0, 0.0, 0.0
    for index, x in enumerate(values):
        if not 0 <= x <= 1:
            raise ValueError(f"values: expected 0 or 1, got {x:g} at index {index}")
        n += 1
        total += x
        newest += x
        window.append(x)
        if len(window) > window_size:
            newest -= window.popleft()
        if n < 2 * window_size:
            continue
        older = n - window_size
        inverse = 1 / older + 1 / window_size
        share = total / n
        gap = abs((total - newest) / older - newest / window_size) - 0.5 * inverse
        spread = math.sqrt(max(0.0, share * (1 - share)) * inverse)
        if (abs(gap) / spread if spread else math.inf) > limit:
            found.append(index)
            window.clear()
            n, total, newest = 0, 0.0, 0.0
    return found
