"""The logarithmic mapping under DDSketch: which bucket a value is in, and what the bucket answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gpuwarden.evaluate.fast import sketch


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """Keys of the values' buckets, and each bucket's answer in the unit of the values."""

    gamma: float
    keys: tuple[int, ...]
    representatives: tuple[float, ...]


def mapped(values: Sequence[float], *, relative_accuracy: float) -> Mapped:
    """gamma = (1+a)/(1-a), key = ceil(log_gamma(value)), answer 2 gamma^key/(1 + gamma).

    Masson, Rim & Lee 2019. That answer is within ``relative_accuracy`` of every value of its bucket;
    the logarithmic midpoint is not.
    """
    if not 0 < relative_accuracy < 1:
        raise ValueError(
            f"relative_accuracy: expected a number between 0 and 1, got {relative_accuracy:g}"
        )
    if any(not 0 < value < math.inf for value in values):
        raise ValueError("values: expected finite numbers above 0")
    keys = tuple(sketch.key_of(value, relative_accuracy) for value in values)
    return Mapped(
        gamma=sketch.gamma_of(relative_accuracy),
        keys=keys,
        representatives=tuple(sketch.value_of(key, relative_accuracy) for key in keys),
    )
