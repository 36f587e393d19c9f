"""The reference of a feature: bins fixed once, so that windows are counts and merge exactly.

Edges that follow the pooled sample (evidently's habit) move with every window; here the reference alone
sets them. A window of any node is a vector of counts on these edges, and sums add up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.inputs import Floats

BINS = 20
CATEGORIES_MAX = 200
"""Categories a profile names; what it has not seen counts as one more, so a flood of them stays small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericProfile:
    """``edges`` are inner ones, ascending; bins are closed on the left, the outer ones open."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]  # one more than edges
    centres: tuple[float, ...]  # of each bin: the reference's mean there, an end where it is empty
    missing: int  # NaN, infinite or absent
    mean: float
    std: float  # population
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryProfile:
    """The commonest categories by name; ``other`` are all the rest together."""

    counts: Mapping[str, int]
    other: int
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericWindow:
    """Values of a time on a profile's edges. ``slack`` is the share that may be in a wrong bin."""

    counts: tuple[int, ...]
    missing: int = 0
    total: float = 0.0
    slack: float = 0.0

    @property
    def rows(self) -> int:
        return sum(self.counts) + self.missing


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryWindow:
    """Categories of a time; those that the profile does not name are in ``other``."""

    counts: Mapping[str, int] = field(default_factory=dict)
    other: int = 0
    missing: int = 0

    @property
    def rows(self) -> int:
        return sum(self.counts.values()) + self.other + self.missing


def of_numbers(values: npt.ArrayLike, *, bins: int = BINS) -> NumericProfile:
    """The profile of a reference column; NaN and infinities are missing. Raises ValueError where no value is left."""
    array, missing = _finite(values)
    edges = edges_of(array, bins=bins)
    counts = _counted(array, edges)
    return NumericProfile(
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        centres=tuple(_centres(array, edges, counts).tolist()),
        missing=missing,
        mean=float(array.mean()),
        std=0.0 if array.min() == array.max() else float(array.std()),
        low=float(array.min()),
        high=float(array.max()),
    )


def edges_of(array: Floats, *, bins: int = BINS) -> Floats:
    """Inner edges for finite values: their quantiles. Raises ValueError where there is none.

    A value that fills more than a bin by itself (a constant, a default) gets one of its own, so that a move
    off it shows on both sides.
    """
    if not 2 <= bins <= 1000:
        raise ValueError(f"bins: expected 2 to 1000, got {bins}")
    if not array.size:
        raise ValueError("values: an empty reference has no profile")
    inner = np.unique(np.quantile(array, np.linspace(0, 1, bins + 1), method="lower")[:-1])
    heavy = [e for e in inner.tolist() if (array == e).mean() > 1 / bins]
    edges = np.unique(np.concatenate([inner, np.nextafter(heavy, np.inf)]))
    if edges[0] == array.min() and edges[0] not in heavy:
        edges = edges[1:]  # nothing of the reference is below it
    return edges


def of_categories(labels: Sequence[str | None], *, keep: int = CATEGORIES_MAX) -> CategoryProfile:
    """The profile of a column of names; None is missing. Ties go by name."""
    counts: dict[str, int] = {}
    missing = 0
    for label in labels:
        if label is None:
            missing += 1
        else:
            counts[label] = counts.get(label, 0) + 1
    if not counts:
        raise ValueError("labels: an empty reference has no profile")
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    return CategoryProfile(
        counts={name: counts[name] for name in ranked[:keep]},
        other=sum(counts[name] for name in ranked[keep:]),
        missing=missing,
    )


def numbers(profile: NumericProfile, values: npt.ArrayLike) -> NumericWindow:
    """A window of values counted on the profile's edges."""
    array, missing = _finite(values)
    return NumericWindow(
        counts=tuple(_counted(array, np.asarray(profile.edges)).tolist()),
        missing=missing,
        total=float(array.sum()),
    )


def categories(profile: CategoryProfile, labels: Sequence[str | None]) -> CategoryWindow:
    """A window of names; a flood of new ones costs one number."""
    counts: dict[str, int] = {}
    other = missing = 0
    for label in labels:
        if label is None:
            missing += 1
        elif label in profile.counts:
            counts[label] = counts.get(label, 0) + 1
        else:
            other += 1
    return CategoryWindow(counts=counts, other=other, missing=missing)


def merged_numbers(windows: Sequence[NumericWindow]) -> NumericWindow:
    """One window of all; exact. ``slack`` is the rows' average."""
    if not windows or len({len(window.counts) for window in windows}) != 1:
        raise ValueError("windows: expected at least one, all on the same edges")
    rows = sum(window.rows for window in windows)
    return NumericWindow(
        counts=tuple(sum(column) for column in zip(*(w.counts for w in windows), strict=True)),
        missing=sum(window.missing for window in windows),
        total=sum(window.total for window in windows),
        slack=sum(w.slack * w.rows for w in windows) / rows if rows else 0.0,
    )


def merged_categories(windows: Sequence[CategoryWindow]) -> CategoryWindow:
    """One window of all; exact."""
    counts: dict[str, int] = {}
    for window in windows:
        for name, n in window.counts.items():
            counts[name] = counts.get(name, 0) + n
    return CategoryWindow(
        counts=counts,
        other=sum(window.other for window in windows),
        missing=sum(window.missing for window in windows),
    )


def _finite(values: npt.ArrayLike) -> tuple[Floats, int]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"values: expected one dimension, got {array.ndim}")
    finite = array[np.isfinite(array)]
    return finite, int(array.size - finite.size)


def _centres(array: Floats, edges: Floats, counts: npt.NDArray[np.intp]) -> Floats:
    ends = np.concatenate([edges[:1], edges])
    sums = np.bincount(
        np.searchsorted(edges, array, side="right"), weights=array, minlength=counts.size
    )
    return np.where(counts > 0, sums / np.maximum(counts, 1), ends)


def _counted(array: Floats, edges: Floats) -> npt.NDArray[np.intp]:
    return np.bincount(np.searchsorted(edges, array, side="right"), minlength=edges.size + 1)
