"""Have a model's scores fallen? Those that people (or a rule) give its predictions, the higher the better.

As ``concept`` judges mistakes: detectors vote, the newest scores are unlikely for this stream's own reference, and the
fall is large enough to matter. Windows carry a sketch, whose total is exact; within a step values are taken to lie
one standard deviation above and below its mean in turn, for their order is not known.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpuwarden.evaluate.drift import stream
from gpuwarden.evaluate.drift.concept import (
    DAY_S,
    DETECTORS,
    FED_MAX,
    SCANS,
    STEPS_MAX,
    ConceptSettings,
    Evidence,
)
from gpuwarden.evaluate.drift.vote import Vote, VoteSettings
from gpuwarden.evaluate.fast.sketch import ACCURACY, value_of
from gpuwarden.model.evaluation import Sketch

FALL_SIGMA = 0.5
"""Standard deviations of the reference: a smaller fall does not matter."""
CLIP_SIGMA = 6.0
"""What lies further from the reference counts as this: one wild score is no fall of all."""
FLOOR = 2 * ACCURACY
"""Of the mean: a smaller standard deviation cannot be told from the sketch's own rounding."""
TINY = 1e-9
NAMES = ("adwin", "page_hinkley", "sliding", "weighted")
"""Of the detectors of mistakes those that take any number; all are told falls in standard deviations."""
VOTE: Mapping[str, Mapping[str, Any]] = {name: DETECTORS[name] for name in NAMES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Of some values: how many, their mean, and the sum of squares about it."""

    count: int = 0
    mean: float = 0.0
    square: float = 0.0

    def __add__(self, other: "Moments") -> "Moments":
        count = self.count + other.count
        if not count:
            return self
        by = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + by * other.count / count,
            square=self.square + other.square + by * by * self.count * other.count / count,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMemory:
    """All that is kept of a stream; from it ``Scores`` goes on after a restart."""

    since_wall: float | None = None
    """When its first scores came."""
    upto_wall: float = 0.0
    """End of the newest step that is in it: earlier ones count no more."""
    labels: int = 0
    reference: Moments = Moments()
    steps: tuple[Moments, ...] = ()
    """The newest, oldest first, that are not part of the reference."""
    voted: tuple[str, ...] = ()
    votes_left: int = 0
    """Scores for which the last vote still stands."""
    is_drift: bool = False
    drift_since_wall: float | None = None

    @property
    def reference_labels(self) -> int:
        return self.reference.count


class Scores:
    """One stream of scores, with the settings of the errors. One thread."""

    def __init__(self, settings: ConceptSettings, memory: ScoreMemory | None = None) -> None:
        self._settings = settings
        self.memory = ScoreMemory() if memory is None else memory
        self._vote: Vote | None = None
        self.version = stream.VERSION
        for step in self.memory.steps:
            self._feed(step)

    def add(self, begin_wall: float, end_wall: float, told: Sketch) -> bool:
        """One step's scores; whether they were taken. One that begins before what is known ends was taken before."""
        memory = self.memory
        if begin_wall < memory.upto_wall:
            return False
        is_learning = memory.reference.count < self._settings.reference_min
        reach = math.inf if is_learning else CLIP_SIGMA * self._sigma()
        step = moments(told, memory.reference.mean - reach, memory.reference.mean + reach)
        if not step.count:
            return False
        self.memory = memory = replace(
            memory,
            since_wall=begin_wall if memory.since_wall is None else memory.since_wall,
            upto_wall=end_wall,
            labels=memory.labels + step.count,
        )
        if is_learning:
            self.memory = replace(memory, reference=memory.reference + step)
            return True
        voted = self._feed(step)
        self._keep(step)
        left = max(0, self.memory.votes_left - step.count)
        if voted:
            left = self._settings.vote_stands
        names = voted or (self.memory.voted if left else ())
        self.memory = replace(self.memory, voted=names, votes_left=left)
        return True

    def judge(self, now_wall: float, *, streams: int = 1) -> Evidence:
        """After the newest step: remembers whether it is a drift. ``Evidence.share`` is the mean score."""
        memory, found = self.memory, self.evidence(now_wall, streams=streams)
        if found.share is None or found.p_value is None or found.level is None:
            return found
        has_fallen = self._fall(found.share) >= FALL_SIGMA
        if not memory.is_drift:
            if memory.votes_left and has_fallen and found.p_value <= found.level:
                self.memory = replace(memory, is_drift=True, drift_since_wall=now_wall)
        elif not self._is_low_still():
            self.memory = replace(
                memory, is_drift=False, drift_since_wall=None, voted=(), votes_left=0
            )
        return found

    def evidence(self, now_wall: float, *, streams: int = 1) -> Evidence:
        """Of the windows the one whose chance is furthest below its level."""
        memory, settings = self.memory, self._settings
        if memory.reference.count < settings.reference_min:
            return Evidence(labels=memory.labels)
        best: tuple[float, Evidence] | None = None
        for size, part in settings.windows:
            new = _newest(memory.steps, size)
            if new.count < size:
                continue
            error = math.sqrt(1 / new.count + 1 / memory.reference.count)
            z = self._fall(new.mean) / error
            found = Evidence(
                labels=new.count,
                share=new.mean,
                baseline=memory.reference.mean,
                p_value=0.5 * math.erfc(z / math.sqrt(2)),
                level=self._level(new.count, part, now_wall, streams),
            )
            if best is None or z >= best[0]:
                best = z, found
        if best is not None:
            return best[1]
        seen = sum(each.count for each in memory.steps)
        return Evidence(labels=seen, baseline=memory.reference.mean)

    def _level(self, labels: int, part: float, now_wall: float, streams: int) -> float:
        """As of the errors: of the same budget."""
        since = self.memory.since_wall
        days = max(1.0, (now_wall - (now_wall if since is None else since)) / DAY_S)
        looks = self.memory.labels / days / labels * max(1, streams)
        return min(0.01, self._settings.pages_per_day * part / (SCANS * looks))

    def _sigma(self) -> float:
        reference = self.memory.reference
        sigma = math.sqrt(reference.square / max(1, reference.count))
        return max(sigma, FLOOR * abs(reference.mean), TINY)

    def _fall(self, mean: float) -> float:
        """In standard deviations of the reference; below 0 it has risen."""
        return (self.memory.reference.mean - mean) / self._sigma()

    def _is_low_still(self) -> bool:
        new = _newest(self.memory.steps, self._settings.leave_labels)
        return new.count < self._settings.leave_labels or self._fall(new.mean) >= FALL_SIGMA

    def _keep(self, step: Moments) -> None:
        """What leaves the longest window joins the reference, while nothing speaks against it."""
        steps = [*self.memory.steps, step]
        if len(steps) > STEPS_MAX:
            steps = [sum(steps[i : i + 2], Moments()) for i in range(0, len(steps), 2)]
        longest = max(size for size, _ in self._settings.windows)
        total = sum(each.count for each in steps)
        is_quiet = not self.memory.is_drift and not self.memory.votes_left
        reference = self.memory.reference
        while len(steps) > 1 and total - steps[0].count >= longest:
            old = steps.pop(0)
            total -= old.count
            if is_quiet and reference.count < self._settings.reference_max:
                reference += old
        self.memory = replace(self.memory, steps=tuple(steps), reference=reference)

    def _feed(self, step: Moments) -> tuple[str, ...]:
        if self._vote is None:
            vote = self._settings.vote
            self._vote = Vote(
                VoteSettings(detectors=VOTE, quorum=vote.quorum, span=vote.span), mean=0.0, std=1.0
            )
        fall = min(max(self._fall(step.mean), -CLIP_SIGMA), CLIP_SIGMA)
        spread = min(math.sqrt(step.square / max(1, step.count)) / self._sigma(), CLIP_SIGMA)
        count = min(step.count, FED_MAX)
        voted: tuple[str, ...] = ()
        for place in range(count):
            is_alone = place == count - 1 and count % 2
            off = 0.0 if is_alone else spread if place % 2 else -spread
            alarm = self._vote.update(fall + off)
            if alarm is not None:
                voted = alarm.detectors
        return voted


def moments(told: Sketch, low: float = -math.inf, high: float = math.inf) -> Moments:
    """Of a sketch. The mean is exact, unless values beyond ``low`` and ``high`` had to be brought there."""
    values = [(value_of(key, told.accuracy), n) for key, n in told.bins.items()]
    values += [(-value_of(key, told.accuracy), n) for key, n in told.negatives.items()]
    values.append((0.0, told.zeros))
    count = sum(n for _, n in values)
    if not count:
        return Moments()
    is_within = all(low <= value <= high for value, n in values if n)
    values = [(min(max(value, low), high), n) for value, n in values]
    mean = sum(value * n for value, n in values) / count
    square = sum(n * (value - mean) ** 2 for value, n in values)
    return Moments(count=count, mean=told.total / count if is_within else mean, square=square)


def _newest(steps: Sequence[Moments], size: int) -> Moments:
    """Of the newest whole steps that hold at least ``size`` scores, or of all."""
    found = Moments()
    for each in reversed(steps):
        found += each
        if found.count >= size:
            break
    return found
