"""A service that answers yes or no, and the truth of it: each request follows from a seed and its number alone.

Five inputs, independent and normal; the model says yes where their mean lies above zero. That is the truth too, but for
one answer in twenty, until the inputs shift: two of them by ``shift`` standard deviations, as those of a new kind of
machine would, and what is true goes with them, while the model stays as it was trained. It is sure of what it says by
the distance from its line, and so as sure of its new mistakes as of anything.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

FEATURES = ("age", "dose", "size", "contrast", "noise")
MOVED = ("dose", "contrast")
SEGMENTS = (("common", 0.9), ("old-scanner", 0.1))
FLIP = 0.05
"""Share of answers that no model can know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One, with its answer and the truth. Answers: ``1`` and ``0``."""

    id: str
    features: dict[str, float]
    segment: str
    prediction: str
    confidence: float
    truth: str


def request(seed: int, number: int, shift: float = 0.0) -> Request:
    """The number-th of a run; ``shift`` in standard deviations."""
    chance = random.Random(f"{seed}/{number}")
    moves = {name: shift if name in MOVED else 0.0 for name in FEATURES}
    features = {name: round(chance.gauss(0.0, 1.0) + moves[name], 6) for name in FEATURES}
    scale = math.sqrt(len(FEATURES))
    score = sum(features.values()) / scale
    prediction = score > 0
    truth = score > sum(moves.values()) / scale
    if chance.random() < FLIP:
        truth = not truth
    names = [name for name, _ in SEGMENTS]
    (segment,) = chance.choices(names, [share for _, share in SEGMENTS])
    return Request(
        id=f"r-{number}",
        features=features,
        segment=segment,
        prediction=str(int(prediction)),
        confidence=round(1.0 / (1.0 + math.exp(-3.0 * abs(score))), 6),
        truth=str(int(truth)),
    )
