"""One sketch a node, merged: what the fleet's quantiles are without its values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasketches
import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.evaluate.inputs import Floats, sample, within


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedQuantiles:
    """Quantiles in the unit of the values, and whether the merge lost anything."""

    quantiles: tuple[float, ...]
    merged_equals_single: bool


def parts(values: npt.ArrayLike, nodes: int) -> list[Floats]:
    """The values cut in order into ``nodes`` parts of equal size (or within one of it)."""
    x = sample(values, "values")
    if not 1 <= nodes <= x.size:
        raise ValueError(f"nodes: expected 1 to {x.size}, got {nodes}")
    return np.array_split(x, nodes)


def ddsketches(
    values: npt.ArrayLike, *, nodes: int, relative_accuracy: float, q: Sequence[float]
) -> MergedQuantiles:
    """One DDSketch a node, merged, beside one over all values; they must answer alike bit for bit."""
    if not 0 < relative_accuracy < 1:
        raise ValueError("relative_accuracy: expected a number between 0 and 1")
    for each in q:
        within(each, 0, 1, "q")
    own = [sketches.of(part.tolist(), relative_accuracy) for part in parts(values, nodes)]
    merged = sketches.merge(own)
    single = sketches.of(sample(values, "values").tolist(), relative_accuracy)
    assert merged is not None  # there is at least one node
    answers = [sketches.quantile(merged, each) for each in q]
    return MergedQuantiles(
        quantiles=tuple(float(each) for each in answers if each is not None),
        merged_equals_single=answers == [sketches.quantile(single, each) for each in q],
    )


def kll(values: npt.ArrayLike, *, k: int) -> Any:
    """A KLL sketch of doubles; ``k`` sets its rank error (``kll.rank_error``)."""
    sketch = datasketches.kll_doubles_sketch(_k(k))
    sketch.update(sample(values, "values"))
    return sketch


def kll_ranks(
    values: npt.ArrayLike, *, nodes: int, k: int, q: Sequence[float]
) -> tuple[float, ...]:
    """True rank (share of values <= it) of each q-quantile that merged KLL sketches answer."""
    for each in q:
        within(each, 0, 1, "q")
    merged = datasketches.kll_doubles_sketch(_k(k))
    for part in parts(values, nodes):
        merged.merge(kll(part, k=k))
    x = np.sort(sample(values, "values"))
    answers = [merged.get_quantile(each) for each in q]
    return tuple((np.searchsorted(x, answers, side="right") / x.size).tolist())


def _k(k: int) -> int:
    if not 8 <= k <= 65_535:
        raise ValueError(f"k: expected 8 to 65535, got {k}")
    return k
