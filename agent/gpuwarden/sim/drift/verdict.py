"""What a run has to have shown, and what of it is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gpuwarden.sim.drift.stream import FEATURES, MOVED

MORE_TIMES = 1.5
"""How many times as many a minute have to have come after the verdict: 4 are asked for, and each segment keeps at most
64 between two messages."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """Measured from outside, by what the verbs and the receiver say. None: it was not seen."""

    drifted: frozenset[str] | None = None
    """Names of features."""
    verdict_s: float | None = None
    """After the shift."""
    verdict: str = ""
    picked_before_per_min: float = 0.0
    picked_after_per_min: float = 0.0
    exported: int = 0
    segments: frozenset[str] = frozenset()
    queue_bytes_max: int = 0
    corrections: int = 0
    again: int = 0
    """Corrections that counted when the same file was imported once more."""
    decided: int = 0
    counted: int = 0
    kappa: float | None = None
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    is_accuracy_red: bool = False
    calls_before_labels: int = 0
    calls: list[dict[str, Any]] = field(default_factory=list)
    calls_after_restart: int | None = None
    report: tuple[str, ...] = ()


def missed(seen: Seen, *, is_shifted: bool, accuracy_limit: float) -> list[str]:
    """In words; empty: all of it was seen."""
    said = _missed_queue(seen)
    return said + (_missed_shift(seen, accuracy_limit) if is_shifted else _missed_calm(seen))


def _missed_queue(seen: Seen) -> list[str]:
    said = []
    if not seen.exported:
        said.append("no prediction waited for people")
    if len(seen.segments) < 2:
        said.append("the rare segment is not in the queue")
    if not seen.corrections or not seen.decided:
        said.append("what people said was not taken")
    if seen.again:
        said.append(f"imported again, {seen.again} corrections counted twice")
    if not seen.counted:
        said.append("no correction counts in the accuracy")
    if seen.accuracy_after is None:
        said.append("there is no accuracy")
    return said


def _missed_shift(seen: Seen, accuracy_limit: float) -> list[str]:
    said = []
    if seen.drifted is None:
        said.append("the shift was not found")
    elif seen.drifted != set(MOVED):
        others = sorted(seen.drifted ^ set(MOVED))
        said.append(f"of {len(FEATURES)} features these were judged wrongly: {', '.join(others)}")
    if not seen.picked_after_per_min > MORE_TIMES * max(seen.picked_before_per_min, 1.0):
        said.append("no more predictions went to people after the verdict")
    if not seen.is_accuracy_red or not (seen.accuracy_after or 1.0) < accuracy_limit:
        said.append("the loss of accuracy was not seen")
    if seen.calls_before_labels:
        said.append("training was asked for before people had said anything")
    if len(seen.calls) != 1:
        said.append(f"training was asked for {len(seen.calls)} times")
    if any(not call["is_signed"] for call in seen.calls):
        said.append("what was asked bears no right signature")
    reasons = {each["reason"] for call in seen.calls for each in call["evidence"]}
    if seen.calls and not {"drift", "accuracy"} <= reasons:
        said.append(f"the evidence is of {', '.join(sorted(reasons))} alone")
    if seen.calls_after_restart is None or seen.calls_after_restart != len(seen.calls):
        said.append(
            "after the aggregator was killed training was asked for again, or nobody looked"
        )
    if not any("training was asked for" in line for line in seen.report):
        said.append("the report does not say that training was asked for")
    return said


def _missed_calm(seen: Seen) -> list[str]:
    said = []
    if seen.drifted:
        said.append(f"nothing shifted, and yet: {', '.join(sorted(seen.drifted))}")
    if seen.is_accuracy_red:
        said.append("no accuracy was lost, and yet it is red")
    if seen.calls:
        said.append("there was no reason to train, and yet it was asked for")
    return said
