"""Intervals for shares, and quantiles of the normal distribution."""

import math
from statistics import NormalDist


def z_of(confidence: float) -> float:
    """Two-sided: 1.96 for 0.95."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Of a share (Wilson 1927): right also near 0 and 1, and for few. Nothing counted: all is possible."""
    if count <= 0:
        return 0.0, 1.0
    z = z_of(confidence)
    share = hits / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    low, high = (middle - half) / scale, (middle + half) / scale
    return (0.0 if hits == 0 else low), (1.0 if hits == count else high)
