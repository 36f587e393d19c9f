"""Modified z-scores from the median, which a few wild values cannot move."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.inputs import sample


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustScores:
    """Deviations in the unit of the values, ``mad`` unscaled; ``fallback`` says that it was 0."""

    median: float
    mad: float
    mean_ad: float
    fallback: bool
    scores: tuple[float, ...]
    outlier_indexes: tuple[int, ...]


def robust_z(
    values: npt.ArrayLike,
    *,
    constant: float = 0.6745,
    meanad_constant: float = 1.253314,
    cut: float = 3.5,
) -> RobustScores:
    """``constant`` (x - median)/MAD, outliers beyond ``cut`` (Iglewicz & Hoaglin 1993).

    Where the MAD is 0 (a clock or a memory size that hardly moves) the mean absolute deviation takes its
    place: (x - median)/(``meanad_constant`` x meanAD); where that is 0 too every score is 0.
    """
    x = sample(values, "values")
    if constant <= 0 or meanad_constant <= 0 or cut < 0:
        raise ValueError("expected constants above 0 and a cut of 0 or more")
    median = float(np.median(x))
    deviation = x - median
    mad, mean_ad = float(np.median(np.abs(deviation))), float(np.abs(deviation).mean())
    if mad > 0:
        scores = constant * deviation / mad
    elif mean_ad > 0:
        scores = deviation / (meanad_constant * mean_ad)
    else:
        scores = np.zeros_like(x)
    return RobustScores(
        median=median,
        mad=mad,
        mean_ad=mean_ad,
        fallback=mad == 0,
        scores=tuple(scores.tolist()),
        outlier_indexes=tuple(np.flatnonzero(np.abs(scores) > cut).tolist()),
    )
