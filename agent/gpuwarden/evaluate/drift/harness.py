"""Scores of alarms against changes that are known, for choosing a detector.

Judge by delay at a fixed rate of false alarms, beside a detector that fires every so often: F1 alone
rewards one that always fires (river pull request 1963).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which alarms hit which change; an alarm counts for the earliest change that it can hit."""

    hits: tuple[tuple[int, ...], ...]  # one entry a change
    false_alarms: tuple[int, ...]


def match(alarms: Sequence[int], drifts: Sequence[int], *, delta_max: int) -> Match:
    """Alarm a hits change d when d <= a <= d + ``delta_max``; every other alarm is false."""
    if delta_max < 1:
        raise ValueError(f"delta_max: expected 1 or more, got {delta_max}")
    for name, indexes in (("alarms", alarms), ("drifts", drifts)):
        if any(later < earlier for earlier, later in pairwise(indexes)):
            raise ValueError(f"{name}: expected ascending indexes")
    hits: list[list[int]] = [[] for _ in drifts]
    false = []
    for alarm in alarms:
        for which, start in enumerate(drifts):
            if start <= alarm <= start + delta_max:
                hits[which].append(alarm)
                break
        else:
            false.append(alarm)
    return Match(hits=tuple(tuple(each) for each in hits), false_alarms=tuple(false))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """A match in the terms of the scores."""

    tp: int
    fp: int
    fn: int
    drifts: int
    delays: tuple[int, ...]  # first hit - change, of the changes hit
    gaps: tuple[int, ...]  # between successive false alarms
    delta_max: int
    n_samples: int | None


def _ratio(above: float, below: float) -> float | None:
    return above / below if below else None


def _delay(c: _Counts) -> float | None:
    return _ratio(sum(c.delays), len(c.delays))


def _gap(c: _Counts) -> float | None:
    return _ratio(sum(c.gaps), len(c.gaps))


def _per_1000(c: _Counts) -> float | None:
    if c.n_samples is None or c.n_samples < 1:
        raise ValueError("n_samples: expected 1 or more for this score")
    return 1000 * c.fp / c.n_samples


def _time_ratio(c: _Counts) -> float | None:
    gap, delay, missed = _gap(c), _delay(c), _ratio(c.fn, c.drifts)
    if gap is None or not delay or missed is None:
        return None
    return gap / delay * (1 - missed)


def _normalised(c: _Counts) -> float | None:
    delay = _delay(c)
    return None if delay is None else delay / c.delta_max


SCORES: Mapping[str, Callable[[_Counts], float | None]] = {
    "precision": lambda c: _ratio(c.tp, c.tp + c.fp),
    "recall": lambda c: _ratio(c.tp, c.tp + c.fn),
    "f1": lambda c: _ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn),
    "episode_recall": lambda c: _ratio(c.drifts - c.fn, c.drifts),
    "missed_detection_rate": lambda c: _ratio(c.fn, c.drifts),
    "detection_delay": _delay,
    "normalized_detection_time": _normalised,
    "false_alarm_rate_per_1000": _per_1000,
    "mean_time_between_false_alarms": _gap,
    "mean_time_ratio": _time_ratio,
}


def score(
    metric: str,
    alarms: Sequence[int],
    drifts: Sequence[int],
    *,
    delta_max: int,
    n_samples: int | None = None,
) -> float | None:
    """One score of SCORES; None where its denominator is 0 (no alarm, no change, no hit).

    TP are hitting alarms, FP false ones, FN changes without a hit. The definitions are those of
    river's drift.evaluate, but for f1, which counts every hitting alarm: 2TP/(2TP+FP+FN).
    """
    if metric not in SCORES:
        raise ValueError(f"no score {metric!r} (known: {', '.join(SCORES)})")
    matched = match(alarms, drifts, delta_max=delta_max)
    false = matched.false_alarms
    return SCORES[metric](
        _Counts(
            tp=sum(map(len, matched.hits)),
            fp=len(false),
            fn=sum(not each for each in matched.hits),
            drifts=len(drifts),
            delays=tuple(
                each[0] - start for each, start in zip(matched.hits, drifts, strict=True) if each
            ),
            gaps=tuple(later - earlier for earlier, later in pairwise(false)),
            delta_max=delta_max,
            n_samples=n_samples,
        )
    )
