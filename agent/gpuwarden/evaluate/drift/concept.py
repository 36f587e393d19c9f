"""Has a model become worse? Its errors, or its scores, in the order in which they became known.

Merged windows tell counts, so a step's mistakes are spread evenly over its labels, and a stream is fed step by step,
each once. Three things must agree: detectors vote (``vote``), the newest labels are unlikely for this stream's own
reference (beta-binomial: the reference is itself only a sample), and the loss is large enough to matter.

The level of the chance follows from the fleet's budget of false alarms. A window of w values that slides over T values
passes a level p about ``SCANS`` T/w p times (measured on 20 million values at shares of 0.03 to 0.2, p of 1e-4
to 1e-6); most of a day's budget goes to the longest window, which finds the smallest loss.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gpuwarden.evaluate.drift import stream
from gpuwarden.evaluate.drift.vote import Vote, VoteSettings

SCANS = 12.0
DAY_S = 86_400.0
STEPS_MAX = 256
"""Of a history; beyond it each two become one."""
FED_MAX = 20_000
"""Values of one step that the detectors are told; of a larger one the share is the same."""

DETECTORS: Mapping[str, Mapping[str, Any]] = {
    # Together, two of them within 500 labels: 0.25 votes in 10,000 labels of a stationary share of 0.05, and a rise
    # to 0.10 found after 240 labels (660 at most in 40 runs). What is paged is up to the chance and the loss.
    "adwin": {
        "delta": 0.01,
        "clock": 32,
        "max_buckets": 5,
        "min_window_length": 5,
        "grace_period": 10,
    },
    "hddm_a": {"drift_confidence": 0.001, "warning_confidence": 0.005, "two_sided_test": False},
    "hddm_w": {
        "drift_confidence": 0.001,
        "warning_confidence": 0.005,
        "lambda": 0.05,
        "two_sided_test": False,
    },
    "page_hinkley": {
        "min_instances": 30,
        "delta": 0.1,
        "threshold": 30.0,
        "alpha": 0.9999,
        "mode": "up",
    },
    "sliding": {"size": 750, "cut": 3.0},
    "weighted": {"weight": 0.003, "cut": 3.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptSettings:
    """One setting for every stream of a fleet."""

    vote: VoteSettings = field(
        default_factory=lambda: VoteSettings(detectors=DETECTORS, quorum=2, span=500)
    )
    vote_stands: int = 1000  # labels for which two that have agreed are believed
    pages_per_day: float = 0.01  # of the whole fleet, from chance alone: 0.3 in 30 days
    reference_min: int = 1000
    reference_max: int = 10_000
    reference_span_s: float = 14 * DAY_S
    """The reference grows until it holds so many labels and reaches over so long: a share wanders for days on end, and
    what two or three of them said is off by as much as the newest labels are. What turned worse within so long, too
    little to be seen, is part of it."""
    windows: tuple[tuple[int, float], ...] = ((250, 0.15), (500, 0.25), (1000, 0.6))
    """Newest values that are looked at, and their share of the budget."""
    material_loss: float = 0.025  # of accuracy: half of the five points that are to be found
    share_floor: float = 0.002  # a reference without mistakes still makes one in 500
    wander: float = 0.05
    """By how much of itself a share of mistakes wanders while nothing is wrong, one standard deviation: days differ."""
    leave_labels: int = 1000
    """So many newest labels that lose less than half of what is material end a drift: one that hovers is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptMemory:
    """All that is kept of a stream; from it ``Concept`` goes on after a restart."""

    since_wall: float | None = None
    """When its first labels came."""
    upto_wall: float = 0.0
    """End of the newest step that is in it: earlier ones count no more."""
    labels: int = 0
    reference_labels: int = 0
    reference_wrong: int = 0
    steps: tuple[tuple[int, int], ...] = ()
    """The newest (labels, wrong), oldest first, that are not part of the reference."""
    voted: tuple[str, ...] = ()
    votes_left: int = 0
    """Labels for which the last vote still stands."""
    is_drift: bool = False
    drift_since_wall: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the newest labels say. None: too few."""

    labels: int = 0
    share: float | None = None
    baseline: float | None = None
    p_value: float | None = None
    level: float | None = None


class Concept:
    """One stream of errors. ``streams``: of how many in the fleet this is one. One thread."""

    def __init__(self, settings: ConceptSettings, memory: ConceptMemory | None = None) -> None:
        self._settings = settings
        self.memory = ConceptMemory() if memory is None else memory
        self._vote: Vote | None = None
        self.version = stream.VERSION
        if self.memory.steps:
            self._voter()
            for labels, wrong in self.memory.steps:
                self._feed(labels, wrong)

    def add(self, begin_wall: float, end_wall: float, labels: int, wrong: int) -> bool:
        """One step's labels; whether they were taken. One that begins before what is known ends was taken before."""
        if labels <= 0 or not 0 <= wrong <= labels:
            return False
        memory = self.memory
        if begin_wall < memory.upto_wall:
            return False
        self.memory = replace(
            memory,
            since_wall=begin_wall if memory.since_wall is None else memory.since_wall,
            upto_wall=end_wall,
            labels=memory.labels + labels,
        )
        if memory.reference_labels < self._settings.reference_min:
            self._learn(labels, wrong)
            return True
        self._voter()
        voted = self._feed(labels, wrong)
        self._keep(labels, wrong)
        left = max(0, self.memory.votes_left - labels)
        if voted:
            left = self._settings.vote_stands
        names = voted or (self.memory.voted if left else ())
        self.memory = replace(self.memory, voted=names, votes_left=left)
        return True

    def judge(self, now_wall: float, *, streams: int = 1) -> Evidence:
        """After the newest step: remembers whether it is a drift, and says why where something speaks for one."""
        memory = self.memory
        if not memory.votes_left and not memory.is_drift:
            return Evidence()
        found = self.evidence(now_wall, streams=streams)
        if found.share is None or found.baseline is None:
            return found
        loses = found.share - found.baseline >= self._settings.material_loss
        sure = (
            found.p_value is not None and found.level is not None and found.p_value <= found.level
        )
        if not memory.is_drift and memory.votes_left and loses and sure:
            self.memory = replace(memory, is_drift=True, drift_since_wall=now_wall)
        elif memory.is_drift and not self._loses_still():
            self.memory = replace(
                memory, is_drift=False, drift_since_wall=None, voted=(), votes_left=0
            )
        return found

    def evidence(self, now_wall: float, *, streams: int = 1) -> Evidence:
        """Of the windows the one whose chance is furthest below its level."""
        memory, settings = self.memory, self._settings
        if memory.reference_labels < settings.reference_min:
            return Evidence(labels=memory.labels)
        baseline = self._baseline()
        best: Evidence | None = None
        for size, part in settings.windows:
            labels, wrong = _newest(memory.steps, size)
            if labels < size:
                continue
            level = self._level(labels, part, now_wall, streams)
            p = _chance(labels, wrong, memory, settings)
            found = Evidence(
                labels=labels, share=wrong / labels, baseline=baseline, p_value=p, level=level
            )
            if best is None or p / level <= (best.p_value or 0.0) / (best.level or 1.0):
                best = found
        return best or Evidence(labels=sum(n for n, _ in memory.steps), baseline=baseline)

    def _level(self, labels: int, part: float, now_wall: float, streams: int) -> float:
        since = self.memory.since_wall
        since = now_wall if since is None else since
        days = max(1.0, (now_wall - since) / DAY_S)
        looks = self.memory.labels / days / labels * max(1, streams)
        return min(0.01, self._settings.pages_per_day * part / (SCANS * looks))

    def _baseline(self) -> float:
        return self.memory.reference_wrong / max(1, self.memory.reference_labels)

    def _loses_still(self) -> bool:
        labels, wrong = _newest(self.memory.steps, self._settings.leave_labels)
        if labels < self._settings.leave_labels:
            return True
        return wrong / labels - self._baseline() >= self._settings.material_loss / 2

    def _learn(self, labels: int, wrong: int) -> None:
        memory = self.memory
        self.memory = replace(
            memory,
            reference_labels=memory.reference_labels + labels,
            reference_wrong=memory.reference_wrong + wrong,
        )

    def _keep(self, labels: int, wrong: int) -> None:
        """What leaves the longest window joins the reference, while nothing speaks against it."""
        steps = [*self.memory.steps, (labels, wrong)]
        if len(steps) > STEPS_MAX:
            steps = [_both(*steps[i : i + 2]) for i in range(0, len(steps), 2)]
        longest = max(size for size, _ in self._settings.windows)
        total = sum(n for n, _ in steps)
        is_quiet = not self.memory.is_drift and not self.memory.votes_left
        while len(steps) > 1 and total - steps[0][0] >= longest:
            n, w = steps.pop(0)
            total -= n
            if is_quiet and self._is_reference_open():
                self._learn(n, w)
        self.memory = replace(self.memory, steps=tuple(steps))

    def _is_reference_open(self) -> bool:
        memory, settings = self.memory, self._settings
        since = memory.upto_wall if memory.since_wall is None else memory.since_wall
        is_short = memory.upto_wall - since < settings.reference_span_s
        return is_short or memory.reference_labels < settings.reference_max

    def _voter(self) -> None:
        share = min(
            max(self._baseline(), self._settings.share_floor), 1 - self._settings.share_floor
        )
        std = math.sqrt(share * (1 - share))
        if self._vote is None:
            self._vote = Vote(self._settings.vote, mean=share, std=std)
        else:
            self._vote.rebase(mean=share, std=std)

    def _feed(self, labels: int, wrong: int) -> tuple[str, ...]:
        assert self._vote is not None
        if labels > FED_MAX:
            wrong, labels = round(wrong * FED_MAX / labels), FED_MAX
        voted: tuple[str, ...] = ()
        for value in spread(labels, wrong):
            alarm = self._vote.update(value)
            if alarm is not None:
                voted = alarm.detectors
        return voted


def spread(labels: int, wrong: int) -> list[float]:
    """1 for a mistake, 0 for the others, the mistakes as evenly as they go: their order is not known."""
    return [float((i + 1) * wrong // labels - i * wrong // labels) for i in range(labels)]


def _both(*steps: tuple[int, int]) -> tuple[int, int]:
    return sum(n for n, _ in steps), sum(w for _, w in steps)


def _newest(steps: Sequence[tuple[int, int]], size: int) -> tuple[int, int]:
    """Labels and mistakes of the newest whole steps that hold at least ``size`` labels, or of all."""
    labels = wrong = 0
    for n, w in reversed(steps):
        labels, wrong = labels + n, wrong + w
        if labels >= size:
            break
    return labels, wrong


def _chance(labels: int, wrong: int, memory: ConceptMemory, settings: ConceptSettings) -> float:
    """Of so many mistakes or more, by the posterior predictive of the reference (Jeffreys' prior). A share that wanders
    by a part w of itself is known no better than from (1 - share)/(w^2 share) labels, however large the reference."""
    import scipy.stats

    known = float(memory.reference_labels)
    told = max(float(memory.reference_wrong), settings.share_floor * known)
    if settings.wander > 0 and 0 < told < known:
        share = told / known
        most = (1 - share) / (settings.wander**2 * share)
        told, known = told / (1 + known / most), known / (1 + known / most)
    right = known - told
    return float(scipy.stats.betabinom.sf(wrong - 1, labels, told + 0.5, max(right, 0.0) + 0.5))
