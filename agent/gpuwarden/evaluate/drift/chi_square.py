"""Pearson's chi-square of two samples of categories."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special


@dataclass(frozen=True, slots=True, kw_only=True)
class ChiSquare:
    """``p_value`` is the upper tail at ``df`` degrees of freedom; 1 where there is but one category."""

    statistic: float
    df: int
    p_value: float


def from_labels(
    ref: Sequence[Hashable], cur: Sequence[Hashable], *, continuity_correction: bool = False
) -> ChiSquare:
    """The test on one label per observation."""
    return from_counts(Counter(ref), Counter(cur), continuity_correction=continuity_correction)


def from_counts(
    ref: Mapping[Hashable, int],
    cur: Mapping[Hashable, int],
    *,
    continuity_correction: bool = False,
) -> ChiSquare:
    """The 2 x k table over the union of categories: one that only one side has still counts.

    ``continuity_correction`` moves each cell by at most 0.5 towards its expectation where df is 1 (Yates).
    Counts of different nodes add up, so this test survives merging exactly.
    """
    categories = [each for each in {**ref, **cur} if ref.get(each, 0) + cur.get(each, 0) > 0]
    table = np.array(
        [[side.get(each, 0) for each in categories] for side in (ref, cur)], dtype=np.float64
    )
    for name, row in zip(("ref", "cur"), table, strict=True):
        if row.sum() <= 0 or (row < 0).any():
            raise ValueError(f"{name}: expected counts of 0 or more, and at least one observation")
    df = len(categories) - 1
    if df == 0:
        return ChiSquare(statistic=0.0, df=0, p_value=1.0)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    gap = np.abs(table - expected)
    if continuity_correction and df == 1:
        gap = gap - np.minimum(0.5, gap)
    statistic = float((gap * gap / expected).sum())
    return ChiSquare(statistic=statistic, df=df, p_value=float(scipy.special.chdtrc(df, statistic)))
