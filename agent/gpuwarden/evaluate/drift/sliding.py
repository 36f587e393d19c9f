"""Two plain detectors of a rise on a standardised series, for a vote: a sliding window, and a weighted error.

Both take z-scores of the reference, so their cuts are in standard errors whatever the stream is. Neither starts
afresh by itself.
"""

import math
from collections import deque


class Sliding:
    """The mean of the newest ``size`` values is ``cut`` standard errors above the reference."""

    def __init__(self, *, size: int, cut: float) -> None:
        if not 1 <= size <= 1_000_000:
            raise ValueError(f"size: expected 1 to 1000000, got {size}")
        self._values: deque[float] = deque(maxlen=size)
        self._limit = cut * math.sqrt(size)
        self._total = 0.0

    @property
    def drift_detected(self) -> bool:
        return len(self._values) == self._values.maxlen and self._total > self._limit

    def update(self, z: float) -> None:
        if len(self._values) == self._values.maxlen:
            self._total -= self._values[0]
        self._values.append(z)
        self._total += z


class Weighted:
    """An exponentially weighted mean of the errors, ``weight`` for the newest, is ``cut`` of its own standard
    errors above the reference (Roberts 1959, with the limit at rest: at the start it is late, never early)."""

    def __init__(self, *, weight: float, cut: float) -> None:
        if not 0 < weight <= 1:
            raise ValueError(f"weight: expected above 0 and at most 1, got {weight:g}")
        self._weight = weight
        self._limit = cut * math.sqrt(weight / (2 - weight))
        self._mean = 0.0

    @property
    def drift_detected(self) -> bool:
        return self._mean > self._limit

    def update(self, z: float) -> None:
        self._mean += self._weight * (z - self._mean)
