"""What a cohort's errors and people's scores say over time, and whether that has become worse."""

from gpuwarden.evaluate.drift.concept import Concept, ConceptSettings
from gpuwarden.evaluate.drift.scores import ScoreMemory, Scores
from gpuwarden.model.drift import StreamDrift
from gpuwarden.model.evaluation import Window
from gpuwarden.policy.fleet import drift_words as words
from gpuwarden.policy.fleet.drift_memory import CohortMemory

SCORE = "score"


class Streams:
    """Of one cohort. One thread."""

    def __init__(self, settings: ConceptSettings, memory: CohortMemory) -> None:
        self._settings = settings
        self.errors = Concept(settings, memory.errors)
        self.scores = Scores(settings, memory.scores)
        self.said = memory.streams
        """What was said of them last."""
        self._judged = (0.0, 0.0)

    @property
    def score_memory(self) -> ScoreMemory | None:
        return self.scores.memory if self.scores.is_told else None

    @property
    def upto_wall(self) -> float:
        """Steps that end before are in both; 0: nothing is."""
        known = [self.errors.memory.upto_wall]
        if self.scores.is_told:
            known.append(self.scores.upto_wall)
        return min((each for each in known if each), default=0.0)

    @property
    def count(self) -> int:
        """How many streams of the fleet's there are here: they share its budget."""
        return 2 if self.scores.is_told else 1

    def feed(self, window: Window) -> None:
        """One step, once."""
        begin, end = window.begin_wall, window.begin_wall + window.length_s
        total = round(window.counts.get("labels", 0.0))
        right = round(window.counts.get("correct", 0.0))
        self.errors.add(begin, end, total, min(max(total - right, 0), total))
        scores = window.sketches.get(SCORE)
        if scores is not None:
            self.scores.add(begin, end, scores)

    def judge(self, now_wall: float, streams: int) -> tuple[StreamDrift, ...]:
        """What is thought of them; ``streams``: how many there are in the whole fleet."""
        newest = self.errors.memory.upto_wall, self.scores.upto_wall
        if newest == self._judged:
            return self.said
        self._judged = newest
        found = []
        if newest[0] or not self.scores.is_told:
            self.errors.judge(now_wall, streams=streams)
            evidence = self.errors.evidence(now_wall, streams=streams)
            found.append(words.errors(self.errors, evidence, self._settings, now_wall))
        if self.scores.is_told:
            evidence = self.scores.judge(now_wall, streams=streams)
            found.append(words.scores(self.scores, evidence, self._settings, now_wall))
        self.said = tuple(words.since(each, self.said) for each in found)
        return self.said
