"""What becomes known of predictions later, joined by prediction id, each once; bounded, the oldest going first."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gpuwarden.model.evaluation import Cohort


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One word about one prediction. What is not said is None."""

    cohort: Cohort
    id: str
    prediction: str | None = None
    label: str | None = None
    positive: str = ""
    """Which answer is the positive one; empty: there is none."""
    score: float | None = None
    is_complaint: bool = False
    is_opt_out: bool = False


class Joined(StrEnum):
    COUNTED = "counted"
    WAITING = "waiting"
    """Half of it: the prediction or the label is still to come."""
    KNOWN = "known"
    """It was counted before."""


@dataclass(slots=True)
class Half:
    """What is known of one prediction so far."""

    answer: Answer
    is_counted: bool = False
    has_complained: bool = False
    has_left: bool = False
    has_scored: bool = False


@dataclass(slots=True)
class LabelJoin:
    """One thread. ``counts`` of what an answer adds come from ``take``."""

    most: int = 200_000
    forgotten: int = 0
    """Predictions let go of before their label came."""
    _halves: "OrderedDict[Hashable, Half]" = field(default_factory=OrderedDict)

    def unknown(self, answers: Sequence[Answer]) -> list[str]:
        """Ids of which nothing is known here: whoever led before may know of them."""
        keys = dict.fromkeys((each.cohort.service, each.id) for each in answers)
        return [key[1] for key in keys if key not in self._halves]

    def load(self, halves: Sequence[Half]) -> None:
        """What another knew; what is known here stands."""
        for half in halves:
            self._halves.setdefault((half.answer.cohort.service, half.answer.id), half)

    def known(self, answers: Sequence[Answer]) -> list[Half]:
        """What is known of these now."""
        keys = dict.fromkeys((each.cohort.service, each.id) for each in answers)
        return [replace(self._halves[key]) for key in keys if key in self._halves]

    def take(self, answer: Answer) -> tuple[Joined, Cohort, dict[str, float], float | None]:
        """What became of it, whose it is, what it adds to that cohort's counts, and the score if it is the first."""
        key = (answer.cohort.service, answer.id)
        half = self._halves.get(key)
        if half is None:
            half = self._halves[key] = Half(answer=answer)
            while len(self._halves) > self.most:
                _, old = self._halves.popitem(last=False)
                self.forgotten += not old.is_counted
        else:
            half.answer = _both(half.answer, answer)
        counts: dict[str, float] = {}
        if answer.is_complaint and not half.has_complained:
            half.has_complained, counts["complaints"] = True, 1.0
        if answer.is_opt_out and not half.has_left:
            half.has_left, counts["opt_outs"] = True, 1.0
        is_new_score = answer.score is not None and not half.has_scored
        half.has_scored = half.has_scored or is_new_score
        whole = half.answer
        if not half.is_counted and whole.label is not None and whole.prediction is not None:
            half.is_counted = True
            counts |= _counts(whole)
        if counts or is_new_score:
            return Joined.COUNTED, whole.cohort, counts, answer.score if is_new_score else None
        return (Joined.KNOWN if half.is_counted else Joined.WAITING), whole.cohort, counts, None


def _both(before: Answer, after: Answer) -> Answer:
    """The first word of each kind stands; the cohort is that of whoever told the prediction."""
    teller = after if before.prediction is None and after.prediction is not None else before
    return Answer(
        cohort=teller.cohort,
        id=before.id,
        prediction=before.prediction if before.prediction is not None else after.prediction,
        label=before.label if before.label is not None else after.label,
        positive=before.positive or after.positive,
    )


def _counts(answer: Answer) -> dict[str, float]:
    is_right = answer.label == answer.prediction
    counts = {"labels": 1.0, "correct": float(is_right)}
    if answer.positive:
        said, true = answer.prediction == answer.positive, answer.label == answer.positive
        counts["true_positives"] = float(said and true)
        counts["false_positives"] = float(said and not true)
        counts["false_negatives"] = float(true and not said)
    return counts
