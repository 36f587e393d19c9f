"""Rows that do not fit together as rows used to: the error of a PCA reconstruction."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.inputs import Floats, chance

MOST_CELLS = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Subspace:
    """Standardised rows are near the span of ``axes`` (components x columns)."""

    mean: Floats
    scale: Floats  # of each column; 1 where a column is constant
    axes: Floats
    cut: float  # squared error that ``false_share`` of the reference is above


def table(rows: npt.ArrayLike, *, columns: int | None = None) -> Floats:
    """Finite rows x columns. ValueError for anything else."""
    array = np.asarray(rows, dtype=np.float64)
    if array.ndim != 2 or array.size == 0 or array.size > MOST_CELLS:
        raise ValueError("rows: expected a table of one row and column or more")
    if not np.isfinite(array).all():
        raise ValueError("rows: holds NaN or an infinity")
    if columns is not None and array.shape[1] != columns:
        raise ValueError(f"rows: expected {columns} columns, got {array.shape[1]}")
    return array


def learn(rows: npt.ArrayLike, *, explained: float = 0.95, false_share: float = 0.001) -> Subspace:
    """As many axes as explain ``explained`` of the variance; the cut on rows that were not learnt from.

    Every fifth row is kept for the cut: the error of learnt rows is too small. At least 50 rows.
    """
    chance(explained, "explained")
    chance(false_share, "false_share")
    x = table(rows)
    if len(x) < 50:
        raise ValueError(f"rows: expected at least 50, got {len(x)}")
    held = np.arange(len(x)) % 5 == 4
    known = x[~held]
    mean, std = known.mean(axis=0), known.std(axis=0)
    scale = np.where(std > 0, std, 1.0)
    _, singular, axes = np.linalg.svd((known - mean) / scale, full_matrices=False)
    power = singular**2
    total = power.sum()
    share = np.cumsum(power) / total if total else np.ones_like(power)
    few = int(np.searchsorted(share, explained) + 1)
    few = min(few, max(1, x.shape[1] - 1))  # with all axes nothing is ever left over
    found = Subspace(mean=mean, scale=scale, axes=axes[:few], cut=0.0)
    cut = float(np.quantile(errors(found, x[held]), 1 - false_share))
    return Subspace(mean=mean, scale=scale, axes=axes[:few], cut=max(cut, 1e-12))


def residuals(subspace: Subspace, rows: npt.ArrayLike) -> Floats:
    """What the subspace leaves of each row, columns in sigmas."""
    x = (table(rows, columns=subspace.mean.size) - subspace.mean) / subspace.scale
    return np.asarray(x - (x @ subspace.axes.T) @ subspace.axes)


def errors(subspace: Subspace, rows: npt.ArrayLike) -> Floats:
    """Squared distance of each row from the subspace, columns in sigmas."""
    return np.asarray((residuals(subspace, rows) ** 2).sum(axis=1))


def outliers(subspace: Subspace, rows: npt.ArrayLike) -> tuple[int, ...]:
    """0-based indexes of the rows beyond the cut."""
    return tuple(np.flatnonzero(errors(subspace, rows) > subspace.cut).tolist())
