"""Quartile fences (Tukey 1977)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.inputs import sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Fences:
    """Quartiles and fences in the unit of the values; indexes are 0-based and strictly outside."""

    q1: float
    q3: float
    lower_inner: float
    upper_inner: float
    lower_outer: float
    upper_outer: float
    outlier_indexes: tuple[int, ...]
    extreme_indexes: tuple[int, ...]


def fences(
    values: npt.ArrayLike, *, inner_factor: float = 1.5, outer_factor: float = 3.0
) -> Fences:
    """Fences at factor x (q3 - q1) beyond the quartiles.

    The p-quantile is the value at rank p (n + 1), linearly between neighbours (NIST e-Handbook 7.1.6),
    and the first or last value beyond their ranks.
    """
    x = sample(values, "values")
    if inner_factor < 0 or outer_factor < 0:
        raise ValueError("factors: expected 0 or more")
    q1, q3 = (float(q) for q in np.quantile(x, (0.25, 0.75), method="weibull"))
    inner, outer = inner_factor * (q3 - q1), outer_factor * (q3 - q1)
    return Fences(
        q1=q1,
        q3=q3,
        lower_inner=q1 - inner,
        upper_inner=q3 + inner,
        lower_outer=q1 - outer,
        upper_outer=q3 + outer,
        outlier_indexes=_outside(x, q1 - inner, q3 + inner),
        extreme_indexes=_outside(x, q1 - outer, q3 + outer),
    )


def _outside(x: npt.NDArray[np.float64], low: float, high: float) -> tuple[int, ...]:
    return tuple(np.flatnonzero((x < low) | (x > high)).tolist())
