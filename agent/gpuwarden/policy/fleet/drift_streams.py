"""What becomes known of one version's and segment's predictions: its mistakes and its scores, step by step."""

from gpuwarden.evaluate.drift.concept import Concept, ConceptSettings
from gpuwarden.evaluate.drift.scores import Scores
from gpuwarden.model.drift import StreamDrift
from gpuwarden.model.evaluation import Window
from gpuwarden.policy.fleet import drift_words as words
from gpuwarden.policy.fleet.drift_memory import CohortMemory

SCORE = "score"
"""The series, and the stream."""


class Streams:
    """One thread."""

    def __init__(self, settings: ConceptSettings, memory: CohortMemory) -> None:
        self._settings = settings
        self.errors = Concept(settings, memory.errors)
        self.scores = Scores(settings, memory.scores)
        self.said = memory.streams
        """What was said of them last."""
        self._judged = {"errors": 0.0, SCORE: 0.0}

    @property
    def many(self) -> int:
        """Of how many a false alarm may come: errors always, for their labels may still begin."""
        return 1 + bool(self.scores.memory.labels)

    def needed_since(self, told_wall: float) -> float:
        """Steps that begin earlier say nothing new. ``told_wall``: end of the newest step of all."""
        known = (self.errors.memory.upto_wall, self.scores.memory.upto_wall)
        return min(each or told_wall for each in known)

    def feed(self, begin: float, end: float, window: Window) -> None:
        """One step: whole, and after all steps before it."""
        labels, right = window.counts.get("labels", 0.0), window.counts.get("correct", 0.0)
        total = round(labels)
        wrong = min(max(total - round(right), 0), total)
        self.errors.add(begin, end, total, wrong)
        told = window.sketches.get(SCORE)
        if told is not None:
            self.scores.add(begin, end, told)

    def judge(self, now_wall: float, streams: int) -> tuple[StreamDrift, ...]:
        """``streams``: of how many in the fleet these are some."""
        each: Concept | Scores
        for name, each in (("errors", self.errors), (SCORE, self.scores)):
            if each.memory.upto_wall == self._judged[name]:
                continue
            self._judged[name] = each.memory.upto_wall
            each.judge(now_wall, streams=streams)
            found = each.evidence(now_wall, streams=streams)
            fresh = words.stream(name, each, found, self._settings, now_wall)
            others = tuple(old for old in self.said if old.stream != name)
            kept = (words.since(fresh, self.said), *others)
            self.said = tuple(sorted(kept, key=lambda said: said.stream))
        return self.said
