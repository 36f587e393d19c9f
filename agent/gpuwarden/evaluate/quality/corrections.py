"""What people's words on predictions come to: by vote, of all who have looked, now and before.

Where reviewers are level nothing is decided: the prediction waits for one more. Gold is what at least two said and
nobody denied; who later speaks of such a prediction is measured by it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpuwarden.evaluate.quality.kappa import fleiss
from gpuwarden.evaluate.quality.review import Correction
from gpuwarden.evaluate.quality.sampling import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One person's word, from before."""

    id: str
    reviewer: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One segment of one service. ``decided``: predictions with what people say is true of them."""

    service: str
    segment: str
    decided: tuple[tuple[Prediction, str], ...] = ()
    undecided: int = 0
    gold: Mapping[str, str] = field(default_factory=dict)
    """By id."""
    gold_answers: int = 0
    gold_right: int = 0
    kappa: float | None = None
    """Fleiss', of all that at least two have looked at; None: undefined."""

    @property
    def right(self) -> int:
        return sum(label == prediction.label for prediction, label in self.decided)

    @property
    def counted(self) -> int:
        """Of the decided, those that were chosen by chance."""
        return sum(prediction.is_random for prediction, _ in self.decided)


def judged(
    service: str, prior: Sequence[Said], fresh: Sequence[Correction], gold: Mapping[str, str]
) -> list[Judged]:
    """By segment. ``gold``: known before, by id."""
    words: dict[str, dict[str, str]] = {}
    for said in prior:
        words.setdefault(said.id, {})[said.reviewer] = said.label
    predictions: dict[str, Prediction] = {}
    answers: dict[str, list[str]] = {}
    for each in fresh:
        predictions[each.prediction.id] = each.prediction
        words.setdefault(each.prediction.id, {}).setdefault(each.reviewer, each.label)
        answers.setdefault(each.prediction.id, []).append(each.label)
    segments: dict[str, list[str]] = {}
    for name, prediction in predictions.items():
        segments.setdefault(prediction.segment, []).append(name)
    return [
        _segment(service, segment, names, predictions, words, answers, gold)
        for segment, names in sorted(segments.items())
    ]


def _segment(
    service: str,
    segment: str,
    names: Sequence[str],
    predictions: Mapping[str, Prediction],
    words: Mapping[str, Mapping[str, str]],
    answers: Mapping[str, Sequence[str]],
    known: Mapping[str, str],
) -> Judged:
    decided, gold, undecided = [], {}, 0
    for name in names:
        votes = Counter(words[name].values()).most_common(2)
        if len(votes) > 1 and votes[0][1] == votes[1][1]:
            undecided += 1
            continue
        decided.append((predictions[name], votes[0][0]))
        if len(votes) == 1 and votes[0][1] > 1:
            gold[name] = votes[0][0]
    tested = [(answer, known[n]) for n in names if n in known for answer in answers[n]]
    return Judged(
        service=service,
        segment=segment,
        decided=tuple(decided),
        undecided=undecided,
        gold=gold,
        gold_answers=len(tested),
        gold_right=sum(answer == true for answer, true in tested),
        kappa=_kappa([list(words[name].values()) for name in names]),
    )


def _kappa(said: Sequence[Sequence[str]]) -> float | None:
    """Of those with the commonest number of answers, two at least: Fleiss' needs as many of each."""
    numbers = Counter(len(each) for each in said if len(each) > 1)
    if not numbers:
        return None
    people = max(numbers, key=lambda number: (numbers[number], number))
    return fleiss([Counter(each) for each in said if len(each) == people]).value
