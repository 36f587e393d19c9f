"""Geometric moving average of deviations from the running mean."""

from collections.abc import Iterable


def alarms(
    values: Iterable[float], *, min_instances: int, alpha: float, threshold: float
) -> list[int]:
    """0-based indexes at which the moving average of deviations passes ``threshold``.

    n += 1, mean of the n values so far including x, S = alpha S + (1 - alpha)(x - mean); alarm when
    n >= ``min_instances`` and S > ``threshold`` (unit of the values), then n, mean and S start at 0.
    Roberts 1959, with the running mean of frouros' GeometricMovingAverage.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected 0 to 1, got {alpha:g}")
    found = []
    n, mean, average = 0, 0.0, 0.0
    for index, x in enumerate(values):
        n += 1
        mean += (x - mean) / n
        average = alpha * average + (1 - alpha) * (x - mean)
        if average > threshold and n >= min_instances:
            found.append(index)
            n, mean, average = 0, 0.0, 0.0
    return found
