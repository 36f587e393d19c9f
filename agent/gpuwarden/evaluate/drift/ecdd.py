"""ECDD: an exponentially weighted chart of errors whose limit follows the error rate."""

import math
from collections.abc import Iterable, Sequence


def alarms(
    values: Iterable[float],
    *,
    weight: float,
    limit_polynomial: Sequence[tuple[float, float]],
    min_instances: int,
) -> list[int]:
    """0-based indexes at which the chart leaves its limit.

    n += 1, p = mean of the n values, Z = lambda x + (1 - lambda) Z with Z = 0 at the start,
    s = sqrt(p (1-p) lambda/(2-lambda) (1 - (1-lambda)^(2n))); alarm when n >= ``min_instances`` and
    Z > p + L(p) s, L(p) = sum of c p^e over ``limit_polynomial`` (pairs c, e); then all starts
    afresh. ``weight`` is lambda. Ross, Adams, Tasoulis & Hand 2012; their polynomials hold for one
    average run length and one lambda.
    """
    if not 0 < weight <= 1:
        raise ValueError(f"lambda: expected above 0 and at most 1, got {weight:g}")
    if not limit_polynomial:
        raise ValueError("limit_polynomial: expected at least one pair")
    found = []
    n, p, z, fade = 0, 0.0, 0.0, 1.0
    for index, x in enumerate(values):
        if not 0 <= x <= 1:
            raise ValueError(f"values: expected 0 or 1, got {x:g} at index {index}")
        n += 1
        p += (x - p) / n
        z = weight * x + (1 - weight) * z
        fade *= (1 - weight) * (1 - weight)
        if n < min_instances:
            continue
        s = math.sqrt(max(0.0, p * (1 - p)) * weight / (2 - weight) * (1 - fade))
        if z > p + _limit(limit_polynomial, p) * s:
            found.append(index)
            n, p, z, fade = 0, 0.0, 0.0, 1.0
    return found


def _limit(polynomial: Sequence[tuple[float, float]], p: float) -> float:
    if p == 0:  # a term without p stays, the others vanish
        return math.fsum(c for c, e in polynomial if e == 0)
    return math.fsum(c * p**e for c, e in polynomial)
