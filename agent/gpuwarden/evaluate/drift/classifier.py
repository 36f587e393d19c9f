"""Classifier two-sample test: can a classifier tell new rows from the reference's?

It sees what no feature shows by itself: two that have always gone together and do no longer. The classifier is a
regularised linear discriminant on the features, their squares and their products: in closed form, so that the same rows
give the same answer, and without another library; it has to find what is there, not to be good at it.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import scipy.special
import scipy.stats

from gpuwarden.evaluate.inputs import Floats, chance

ROWS_MIN = 100
"""Of each side: half of them are learned from, the other half is judged."""
PRODUCTS_MAX = 20
"""Features up to which all products of two are looked at, too."""
RIDGE = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class Null:
    """Test accuracy without drift: normal, and what must be exceeded to claim one."""

    null_mean: float
    null_sd: float
    accuracy_needed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSample:
    """``accuracy`` of ``n_test`` rows, half of each side; chance is 0.5. ``p_value``: of so much or more without drift."""

    accuracy: float
    n_test: int
    p_value: float


def null(n_test: int, *, alpha: float) -> Null:
    """Balanced classes: accuracy is about N(1/2, 1/(4 n_test)) (Lopez-Paz & Oquab 2017), one-sided.

    A fixed cut (evidently's ROC AUC 0.55) is far too low for small tests and too high for large ones.
    """
    if n_test < 1:
        raise ValueError(f"n_test: expected 1 or more, got {n_test}")
    sd = 0.5 / math.sqrt(n_test)
    quantile = -float(scipy.special.ndtri(chance(alpha, "alpha")))
    return Null(null_mean=0.5, null_sd=sd, accuracy_needed=0.5 + quantile * sd)


def two_sample(ref: Floats, cur: Floats) -> TwoSample:
    """Rows x features of both; not-a-number is the reference's median, and that it is missing a feature of its own.

    As many of each side as the smaller has: the first of the larger. Every second row is learned from, the others are
    judged, their number right held against a coin's (exact). ValueError where a side is too small or the columns differ.
    """
    if ref.ndim != 2 or cur.ndim != 2 or ref.shape[1] != cur.shape[1] or not ref.shape[1]:
        raise ValueError("expected rows and the same columns on both sides")
    rows = min(len(ref), len(cur)) // 2 * 2
    if rows < ROWS_MIN:
        raise ValueError(f"expected at least {ROWS_MIN} rows of each side, got {rows}")
    seen = _prepared(np.concatenate([ref[:rows], cur[:rows]]), ref)
    is_new = np.repeat([False, True], rows)
    learn = np.arange(2 * rows) % 2 == 0
    seen = _expanded(seen)
    spread = seen[learn].std(axis=0)
    seen = (seen - seen[learn].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    old, new = seen[learn & ~is_new], seen[learn & is_new]
    gap = new.mean(axis=0) - old.mean(axis=0)
    within = (np.cov(old.T, bias=True) + np.cov(new.T, bias=True)) / 2
    within = np.atleast_2d(within) + RIDGE * np.eye(gap.size)
    weights = np.linalg.solve(within, gap)
    middle = (new.mean(axis=0) + old.mean(axis=0)) / 2
    said = (seen[~learn] - middle) @ weights
    # exactly between the two, as every row is where nothing varies: a coin, the same for both sides
    said = np.where(said == 0, np.arange(said.size) % 2 - 0.5, said)
    right = int(((said > 0) == is_new[~learn]).sum())
    return TwoSample(
        accuracy=right / rows,
        n_test=rows,
        p_value=float(scipy.stats.binom.sf(right - 1, rows, 0.5)),
    )


def _prepared(rows: Floats, ref: Floats) -> Floats:
    """Robustly standardised by the reference and cut off at 5: one absurd value is no direction."""
    told = np.where(np.isfinite(ref), ref, np.nan)
    is_known = ~np.isnan(told).all(axis=0)
    quartiles = np.zeros((3, ref.shape[1]))
    quartiles[:, is_known] = np.nanquantile(told[:, is_known], [0.25, 0.5, 0.75], axis=0)
    spread = np.zeros(ref.shape[1])
    spread[is_known] = np.nanstd(told[:, is_known], axis=0)
    unit = np.where(quartiles[2] > quartiles[0], (quartiles[2] - quartiles[0]) / 1.349, spread)
    is_missing = ~np.isfinite(rows)
    filled = np.where(is_missing, quartiles[1], rows)
    scaled = np.clip((filled - quartiles[1]) / np.where(unit > 0, unit, 1.0), -5.0, 5.0)
    return np.concatenate([scaled, is_missing[:, is_missing.any(axis=0)]], axis=1)


def _expanded(rows: Floats) -> Floats:
    columns = rows.shape[1]
    parts = [rows, rows**2]
    if columns <= PRODUCTS_MAX:
        pairs = list(itertools.combinations(range(columns), 2))
        parts += [np.stack([rows[:, a] * rows[:, b] for a, b in pairs], axis=1)] if pairs else []
    return np.concatenate(parts, axis=1)
