"""Statistics of a canary's samples beside its baseline's; the verdict is the judge's own."""

from dataclasses import dataclass

import numpy.typing as npt
import scipy.stats

from gpuwarden.evaluate.drift import ks
from gpuwarden.evaluate.inputs import sample


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleStatistics:
    """A rank test alone is blind to spread and to rare errors (kayenta#780, #426): hence three numbers."""

    mann_whitney_p: float
    ks_p: float
    mean_ratio: float | None  # None where the baseline's mean is 0


def statistics(canary: npt.ArrayLike, baseline: npt.ArrayLike) -> SampleStatistics:
    """Mann-Whitney (two-sided, normal, tie and continuity correction), exact KS, ratio of means."""
    c, b = sample(canary, "canary"), sample(baseline, "baseline")
    mean = float(b.mean())
    same = min(c.min(), b.min()) == max(c.max(), b.max())
    ranks = (
        1.0
        if same
        else float(scipy.stats.mannwhitneyu(c, b, use_continuity=True, method="asymptotic").pvalue)
    )
    return SampleStatistics(
        mann_whitney_p=ranks,
        ks_p=ks.exact_tie_free(c, b),
        mean_ratio=float(c.mean()) / mean if mean else None,
    )
