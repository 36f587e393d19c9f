"""Have people's scores of a model's answers fallen? Scores, the higher the better, in the order in which they came.

Windows of many nodes tell a distribution, not each score, and scores are of any scale: one to five stars, a share, a
regression's negated error. So a stream is reduced to what merges without loss and needs no scale: how many of its
scores are *low*, by a cut that its own reference fixes, near the lowest fifth. That share is judged as errors are
(``concept``): a vote of detectors, its chance within the fleet's budget, and a rise that matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gpuwarden.evaluate.drift.concept import Concept, ConceptMemory, ConceptSettings, Evidence
from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.evaluate.fast.sketch import Builder
from gpuwarden.model.evaluation import Sketch

LOW_SHARE = 0.2
"""Of the reference that is low, as near as its ties let it."""
LOW_SHARE_MOST = 0.8
MATERIAL_RISE = 0.1
"""Of the share of low scores, the least that matters: a fall by 0.35 standard deviations of normal scores."""
STEPS_MAX = 256
"""Of a history; beyond it each two become one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMemory:
    """All that is kept of a stream; from it ``Scores`` goes on after a restart."""

    learned: Sketch | None = None
    """Of the reference, while it is gathered."""
    since_wall: float | None = None
    cut: float | None = None
    """Scores up to this are low; None: the reference is not whole."""
    mean: float | None = None
    """Of the reference."""
    recent: tuple[tuple[int, float], ...] = ()
    """The newest (scores, their sum), oldest first, as many as the longest window takes."""
    concept: ConceptMemory = field(default_factory=ConceptMemory)
    """Of low scores."""


class Scores:
    """One stream of scores. One thread."""

    def __init__(self, settings: ConceptSettings, memory: ScoreMemory | None = None) -> None:
        self._settings = replace(settings, material_loss=MATERIAL_RISE)
        known = ScoreMemory() if memory is None else memory
        self._memory = known
        self._learned = Builder()
        if known.learned is not None and known.learned.accuracy == self._learned.accuracy:
            self._learned.merge(known.learned)
        self._concept = Concept(self._settings, known.concept)
        self.version = self._concept.version

    @property
    def memory(self) -> ScoreMemory:
        learned = self._learned.done() if self._memory.cut is None and self._learned.count else None
        return replace(self._memory, learned=learned, concept=self._concept.memory)

    @property
    def is_told(self) -> bool:
        """Whether any score ever came."""
        return self._memory.since_wall is not None

    @property
    def upto_wall(self) -> float:
        """End of the newest step that is in it: earlier ones count no more."""
        return self._concept.memory.upto_wall

    @property
    def learning(self) -> int:
        """Scores that the reference has so far."""
        return self._learned.count

    @property
    def concept(self) -> ConceptMemory:
        return self._concept.memory

    @property
    def cut(self) -> float | None:
        return self._memory.cut

    @property
    def baseline(self) -> float | None:
        """Mean score of the reference."""
        return self._memory.mean

    @property
    def newest(self) -> float | None:
        """Mean of the newest scores, of about as many as the longest window takes."""
        many = sum(n for n, _ in self._memory.recent)
        return sum(total for _, total in self._memory.recent) / many if many else None

    def add(self, begin_wall: float, end_wall: float, scores: Sketch) -> bool:
        """One step's scores; whether they were taken. One that begins before what is known ends was taken before."""
        many = sketches.count(scores)
        if not many or begin_wall < self.upto_wall or scores.accuracy != self._learned.accuracy:
            return False
        if self._memory.since_wall is None:
            self._memory = replace(self._memory, since_wall=begin_wall)
        cut = self._memory.cut
        if cut is None:
            self._learn(end_wall, scores)
            return True
        self._concept.add(begin_wall, end_wall, many, low_of(scores, cut))
        self._remember(many, scores.total)
        return True

    def judge(self, now_wall: float, *, streams: int = 1) -> Evidence:
        """After the newest step; shares are of low scores. ``streams``: of how many in the fleet this is one."""
        self._concept.judge(now_wall, streams=streams)
        return self._concept.evidence(now_wall, streams=streams)

    def _learn(self, end_wall: float, scores: Sketch) -> None:
        self._learned.merge(scores)
        many, low, cut = self._learned.count, 0, None
        if many >= self._settings.reference_min:
            reference = self._learned.done()
            cut = cut_of(reference)
            low = low_of(reference, cut)
        memory = replace(
            self._concept.memory,
            since_wall=self._memory.since_wall,
            upto_wall=end_wall,
            labels=many,
            reference_labels=many if cut is not None else 0,
            reference_wrong=low,
        )
        self._concept = Concept(self._settings, memory)
        if cut is not None:
            mean = self._learned.total / many
            self._memory = replace(self._memory, cut=cut, mean=mean)

    def _remember(self, many: int, total: float) -> None:
        recent = [*self._memory.recent, (many, total)]
        if len(recent) > STEPS_MAX:
            recent = [_both(*recent[i : i + 2]) for i in range(0, len(recent), 2)]
        longest = max(size for size, _ in self._settings.windows)
        kept = sum(n for n, _ in recent)
        while len(recent) > 1 and kept - recent[0][0] >= longest:
            kept -= recent.pop(0)[0]
        self._memory = replace(self._memory, recent=tuple(recent))


def cut_of(reference: Sketch) -> float:
    """The score up to which about ``LOW_SHARE`` of the reference lies; where nearly all scores are its lowest, what
    is just below that."""
    values = _values(reference)
    whole = sum(times for _, times in values)
    seen, found = 0, None
    for value, times in values:
        seen += times
        share = seen / whole
        if share > LOW_SHARE_MOST:
            break
        if found is None or abs(share - LOW_SHARE) < abs(found[0] - LOW_SHARE):
            found = share, value
    if found is not None:
        return found[1]
    lowest = values[0][0]
    return lowest - max(abs(lowest) * reference.accuracy, sketches.TINY)


def low_of(scores: Sketch, cut: float) -> int:
    """How many are up to the cut, which stands for a bin."""
    return sum(times for value, times in _values(scores) if value <= cut)


def _values(sketch: Sketch) -> Sequence[tuple[float, int]]:
    """What stands for each bin, the lowest first, and how often."""
    below = [(-sketches.value_of(k, sketch.accuracy), n) for k, n in sketch.negatives.items()]
    zeros = [(0.0, sketch.zeros)] if sketch.zeros else []
    above = [(sketches.value_of(k, sketch.accuracy), n) for k, n in sketch.bins.items()]
    return [*sorted(below), *zeros, *sorted(above)]


def _both(*steps: tuple[int, float]) -> tuple[int, float]:
    return sum(n for n, _ in steps), sum(total for _, total in steps)
