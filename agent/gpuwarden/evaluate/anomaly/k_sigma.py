"""Values further than k standard deviations from the mean."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.inputs import sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Outliers:
    """``mean`` and ``std`` in the unit of the values; ``std`` is None where it does not exist (n = ddof)."""

    mean: float
    std: float | None
    outlier_indexes: tuple[int, ...]


def outliers(values: npt.ArrayLike, *, k: float, ddof: int) -> Outliers:
    """Indexes (0-based) with |x - mean| > ``k`` std; ``ddof`` 0 population, 1 sample.

    The largest score that n values can give is (n - 1)/sqrt(n) with the sample deviation: ten values
    cannot hold a 3-sigma outlier at all.
    """
    x = sample(values, "values")
    if k < 0 or ddof not in (0, 1):
        raise ValueError(f"expected k of 0 or more and ddof 0 or 1, got {k:g} and {ddof}")
    if x.size <= ddof:
        return Outliers(mean=float(x.mean()), std=None, outlier_indexes=())
    if x.min() == x.max():  # rounding of the mean must not make a constant deviate
        return Outliers(mean=float(x[0]), std=0.0, outlier_indexes=())
    mean, std = float(x.mean()), float(x.std(ddof=ddof))
    far = np.flatnonzero(np.abs(x - mean) > k * std)
    return Outliers(mean=mean, std=std, outlier_indexes=tuple(far.tolist()))
