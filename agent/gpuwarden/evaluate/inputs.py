"""What every function here demands of its arguments; a ``ValueError`` names the one that does not fit."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def sample(values: npt.ArrayLike, name: str, *, at_least: int = 1) -> Floats:
    """A one-dimensional array of finite floats with no fewer than ``at_least`` values."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: expected numbers") from error
    if array.ndim != 1:
        raise ValueError(f"{name}: expected one dimension, got {array.ndim}")
    if array.size < at_least:
        raise ValueError(f"{name}: expected at least {at_least} values, got {array.size}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: holds NaN or an infinity")
    return array


def counts(values: Sequence[int], name: str, *, at_least: int = 1) -> Floats:
    """Counts as floats: finite, whole and not negative."""
    array = sample(values, name, at_least=at_least)
    if (array < 0).any() or (array != np.floor(array)).any():
        raise ValueError(f"{name}: expected whole numbers of 0 or more")
    return array


def ratio(values: Sequence[float], name: str) -> Floats:
    """Weights of 0 or more made to sum to 1."""
    array = sample(values, name)
    if (array < 0).any():
        raise ValueError(f"{name}: a weight is negative")
    total = float(array.sum())
    if not 0 < total < math.inf:
        raise ValueError(f"{name}: the weights sum to {total:g}")
    return array / total


def chance(value: float, name: str) -> float:
    """A probability strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name}: expected a number between 0 and 1, got {value:g}")
    return float(value)


def positive(value: float, name: str) -> float:
    """A finite number above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a number above 0, got {value:g}")
    return float(value)


def within(value: float, low: float, high: float, name: str) -> float:
    """A number between two bounds, both allowed."""
    if not low <= value <= high:
        raise ValueError(f"{name}: expected {low:g} to {high:g}, got {value:g}")
    return float(value)


def finite_or_none(value: float) -> float | None:
    """The value, or None where it is not a number or infinite: missing is not zero."""
    return float(value) if math.isfinite(value) else None
