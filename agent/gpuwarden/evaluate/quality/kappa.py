"""Agreement of people beyond chance, with confidence: Cohen's kappa of two, Fleiss' of many.

Undefined, and said to be so, where chance alone explains everything (one label only) or nothing was labelled twice.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gpuwarden.evaluate.quality.intervals import z_of


class Weights(StrEnum):
    """How far two labels in order are from agreement."""

    NONE = "none"
    """Each disagreement is one."""
    LINEAR = "linear"
    """Cicchetti and Allison 1971."""
    QUADRATIC = "quadratic"
    """Fleiss and Cohen 1973."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kappa:
    """``value`` None: undefined, ``why`` says why. 1 is agreement, 0 what chance gives."""

    value: float | None
    error: float | None = None
    """Standard error."""
    low: float | None = None
    high: float | None = None
    items: int = 0
    observed: float | None = None
    expected: float | None = None
    """By chance."""
    why: str = ""


def cohen(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    *,
    weights: Weights = Weights.NONE,
    order: Sequence[Hashable] = (),
    confidence: float = 0.95,
) -> Kappa:
    """Of two who labelled the same items. ``order``: all labels from low to high, needed by weights.

    Standard error: Fleiss, Cohen and Everitt 1969, for large samples and not under independence.
    """
    if len(first) != len(second):
        raise ValueError("each item needs a label of both")
    labels = list(order) or sorted({*first, *second}, key=repr)
    unknown = {*first, *second} - set(labels)
    if unknown:
        raise ValueError(f"labels that are not in the order: {len(unknown)}")
    if weights is not Weights.NONE and not order:
        raise ValueError("weights need the order of the labels")
    place = {label: k for k, label in enumerate(labels)}
    pairs = Counter((place[a], place[b]) for a, b in zip(first, second, strict=True))
    if not first:
        return Kappa(value=None, why="nothing was labelled by both")
    return _cohen(pairs, len(first), _agreement(weights, len(labels)), confidence)


def _agreement(weights: Weights, labels: int) -> Callable[[int, int], float]:
    widest = max(1, labels - 1)
    if weights is Weights.LINEAR:
        return lambda a, b: 1 - abs(a - b) / widest
    if weights is Weights.QUADRATIC:
        return lambda a, b: 1 - (a - b) ** 2 / widest**2
    return lambda a, b: float(a == b)


def _cohen(
    pairs: Mapping[tuple[int, int], int],
    count: int,
    agreement: Callable[[int, int], float],
    confidence: float,
) -> Kappa:
    rows: Counter[int] = Counter()
    columns: Counter[int] = Counter()
    for (a, b), number in pairs.items():
        rows[a] += number
        columns[b] += number
    row = {a: number / count for a, number in rows.items()}
    column = {b: number / count for b, number in columns.items()}
    observed = sum(number / count * agreement(a, b) for (a, b), number in pairs.items())
    row_mean = {a: sum(p * agreement(a, b) for b, p in column.items()) for a in row}
    column_mean = {b: sum(p * agreement(a, b) for a, p in row.items()) for b in column}
    expected = sum(p * row_mean[a] for a, p in row.items())
    if expected >= 1 - 1e-12:
        return Kappa(
            value=None, items=count, observed=observed, expected=expected, why="one label only"
        )
    kappa = (observed - expected) / (1 - expected)
    spread = sum(
        number / count * (agreement(a, b) - (row_mean[a] + column_mean[b]) * (1 - kappa)) ** 2
        for (a, b), number in pairs.items()
    )
    variance = (spread - (kappa - expected * (1 - kappa)) ** 2) / (count * (1 - expected) ** 2)
    return _with_interval(
        kappa, math.sqrt(max(0.0, variance)), count, observed, expected, confidence
    )


def fleiss(items: Sequence[Mapping[Any, int]], *, confidence: float = 0.95) -> Kappa:
    """Of many: how often each label was given to each item, by as many people each (Fleiss 1971).

    Standard error: jackknife over the items; Fleiss' own of 1979 holds only where nobody agrees beyond chance.
    """
    if not items:
        return Kappa(value=None, why="nothing was labelled")
    people = sum(items[0].values())
    if any(sum(item.values()) != people or min(item.values(), default=0) < 0 for item in items):
        raise ValueError("each item needs as many labels")
    if people < 2:
        return Kappa(value=None, items=len(items), why="nothing was labelled twice")
    totals: Counter[Hashable] = Counter()
    agreed = []
    for item in items:
        totals.update(item)
        pairs = sum(number * (number - 1) for number in item.values())
        agreed.append(pairs / (people * (people - 1)))
    whole = _fleiss(totals, sum(agreed), len(items), people)
    if whole is None:
        return Kappa(value=None, items=len(items), why="one label only")
    kappa, observed, expected = whole
    without = (
        [
            _fleiss(_less(totals, item), sum_less, len(items) - 1, people)
            for item, sum_less in zip(items, (sum(agreed) - each for each in agreed), strict=True)
        ]
        if len(items) > 1
        else []
    )
    values = [each[0] for each in without if each is not None]
    error = math.inf
    if len(values) == len(items):
        mean = sum(values) / len(values)
        error = math.sqrt(
            (len(values) - 1) / len(values) * sum((value - mean) ** 2 for value in values)
        )
    return _with_interval(kappa, error, len(items), observed, expected, confidence)


def _less(totals: Counter[Hashable], item: Mapping[Hashable, int]) -> dict[Hashable, int]:
    return {label: number - item.get(label, 0) for label, number in totals.items()}


def _fleiss(
    totals: Mapping[Hashable, int], agreed: float, items: int, people: int
) -> tuple[float, float, float] | None:
    expected = sum((number / (items * people)) ** 2 for number in totals.values())
    if expected >= 1 - 1e-12:
        return None
    observed = agreed / items
    return (observed - expected) / (1 - expected), observed, expected


def _with_interval(
    kappa: float, error: float, items: int, observed: float, expected: float, confidence: float
) -> Kappa:
    if not math.isfinite(error):
        return Kappa(
            value=kappa,
            items=items,
            observed=observed,
            expected=expected,
            why="too few items for an interval",
        )
    half = z_of(confidence) * error
    return Kappa(
        value=kappa,
        error=error,
        low=min(kappa, max(-1.0, kappa - half)),
        high=min(1.0, kappa + half),
        items=items,
        observed=observed,
        expected=expected,
    )
