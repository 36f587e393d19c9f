"""Many tests at once: how many false alarms to expect, and which findings survive."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.inputs import Floats, chance, sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejections:
    """Adjusted p-values in the order given, and how many are rejected by three rules."""

    adjusted_p: tuple[float, ...]
    rejected_bh: int
    rejected_bonferroni: int
    rejected_uncorrected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Familywise:
    """Independent tests at one level under the null, and two levels that would keep the whole at it."""

    p_at_least_one: float
    expected_false: float
    bonferroni_per_test: float
    sidak_per_test: float


def adjusted(p_values: npt.ArrayLike) -> Floats:
    """Benjamini-Hochberg step-up p-values, in the order given, at most 1."""
    p = sample(p_values, "p_values", at_least=0)
    if ((p < 0) | (p > 1)).any():
        raise ValueError("p_values: expected numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (p.size / np.arange(1, p.size + 1))
    stepped = np.minimum.accumulate(scaled[::-1])[::-1]
    result = np.empty_like(p)
    result[order] = np.minimum(stepped, 1.0)
    return result


def benjamini_hochberg(p_values: npt.ArrayLike, *, q: float) -> Rejections:
    """Rejections at false discovery rate ``q``; Bonferroni and none at all for comparison."""
    chance(q, "q")
    p = sample(p_values, "p_values", at_least=0)
    corrected = adjusted(p)
    return Rejections(
        adjusted_p=tuple(corrected.tolist()),
        rejected_bh=int((corrected <= q).sum()),
        rejected_bonferroni=int((p <= q / p.size).sum()) if p.size else 0,
        rejected_uncorrected=int((p <= q).sum()),
    )


def familywise(tests: int, *, alpha: float) -> Familywise:
    """What ``tests`` independent tests at level ``alpha`` each do when nothing is wrong."""
    chance(alpha, "alpha")
    if tests < 1:
        raise ValueError(f"tests: expected 1 or more, got {tests}")
    return Familywise(
        p_at_least_one=-math.expm1(tests * math.log1p(-alpha)),
        expected_false=tests * alpha,
        bonferroni_per_test=alpha / tests,
        sidak_per_test=-math.expm1(math.log1p(-alpha) / tests),
    )
