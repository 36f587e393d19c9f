"""One-sided CUSUM on deviations from the running mean."""

from collections.abc import Iterable


def alarms(
    values: Iterable[float], *, min_instances: int, delta: float, threshold: float
) -> list[int]:
    """0-based indexes at which the sum of deviations above ``delta`` passes ``threshold``.

    n += 1, mean of the n values so far including x, S = max(0, S + x - mean - delta); alarm when
    n >= ``min_instances`` and S > ``threshold``, then n, mean and S start at 0. ``delta`` and
    ``threshold`` are in the unit of the values. Page 1954, with the running mean of frouros' CUSUM.
    """
    found = []
    n, mean, total = 0, 0.0, 0.0
    for index, x in enumerate(values):
        n += 1
        mean += (x - mean) / n
        total = max(0.0, total + x - mean - delta)
        if total > threshold and n >= min_instances:
            found.append(index)
            n, mean, total = 0, 0.0, 0.0
    return found
