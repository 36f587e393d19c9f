"""All features of a window together against rows of the reference, by a classifier."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gpuwarden.evaluate.drift import classifier
from gpuwarden.evaluate.drift.profile_parts import Part
from gpuwarden.evaluate.inputs import Floats
from gpuwarden.evaluate.quality.table import is_missing, number_of
from gpuwarden.model.drift_report import JointPoint

MATERIAL_ACCURACY = 0.55
"""Less is nothing that anybody would act on, however sure."""


class ReferenceRows:
    """``size`` rows of a stream of batches, each with the same chance and in an order of chance; the same for the same stream."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._chance = np.random.default_rng(0)
        self._marks = np.empty(0)
        self._rows: Floats | None = None

    def add(self, rows: Floats) -> None:
        """Rows x features."""
        marks = np.concatenate([self._marks, self._chance.random(len(rows))])
        whole = rows if self._rows is None else np.concatenate([self._rows, rows])
        lowest = np.argsort(marks)[: self._size]
        self._marks, self._rows = marks[lowest], whole[lowest]

    def rows(self) -> Floats:
        return np.empty((0, 0)) if self._rows is None else self._rows


def matrix(columns: Sequence[Any]) -> Floats:
    """Columns of values as rows x columns of numbers; what is none is not-a-number."""
    made = []
    for values in columns:
        part = Part.of(values, is_named=False)
        if not part.missing and not part.names:
            made.append(part.numbers)
            continue
        found = [None if is_missing(value) else number_of(value) for value in values]
        made.append(np.array([np.nan if each is None else each for each in found]))
    return np.stack(made, axis=1)


def point(reference: Floats, window: Floats) -> JointPoint:
    """Too few rows of either: nothing is said."""
    if min(len(reference), len(window)) // 2 * 2 < classifier.ROWS_MIN:
        return JointPoint()
    found = classifier.two_sample(reference, window)
    return JointPoint(accuracy=found.accuracy, p_value=found.p_value)


def judged(each: JointPoint, *, level: float) -> JointPoint:
    """A finding where it is sure at ``level`` and large enough."""
    if each.accuracy is None or each.p_value is None:
        return each
    is_drift = each.p_value <= level and each.accuracy >= MATERIAL_ACCURACY
    return replace(each, is_drift=is_drift)


def needed(rows: int, *, level: float) -> float:
    """Accuracy from which it is a finding."""
    return max(MATERIAL_ACCURACY, classifier.null(rows // 2 * 2, alpha=level).accuracy_needed)
