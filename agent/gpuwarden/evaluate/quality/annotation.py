"""How good are people's labels: gold items, majority votes, and each annotator against both."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gpuwarden.evaluate.quality.intervals import wilson
from gpuwarden.evaluate.quality.kappa import Kappa, cohen, fleiss


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One label by one person."""

    item: str
    annotator: str
    label: str


class Vote(StrEnum):
    """What a vote gave."""

    DECIDED = "decided"
    TIE = "tie"
    """Two or more labels have the most votes: nobody guesses which."""
    TOO_FEW = "too-few"
    """Fewer answers than a vote needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """The vote on an item. ``labels``: the one that won, or those that are level."""

    vote: Vote
    labels: tuple[str, ...] = ()
    votes: int = 0
    """For each of ``labels``."""
    answers: int = 0

    @property
    def label(self) -> str | None:
        return self.labels[0] if self.vote is Vote.DECIDED else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """A share that was right, with its interval. ``share`` None: nothing to hold against."""

    right: int
    count: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        return self.right / self.count if self.count else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatorReport:
    """One person's labels."""

    annotator: str
    answers: int
    gold: Accuracy
    majority: Accuracy
    """Against what the others voted for, where they decided: their own vote does not count."""
    kappa: Kappa
    """With the same votes of the others."""
    commonest: tuple[str, float] | None
    """The label given most, and its share: who gives one label always is no annotator."""
    is_below: bool
    """All of the gold interval is below what is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationReport:
    """Everybody's. ``fleiss`` is of the items with the commonest number of answers, ``fleiss_people``."""

    answers: int
    repeated: int
    """Answers of one person to one item beyond the first, which alone counts."""
    gold: Accuracy
    votes: Mapping[Vote, int]
    fleiss: Kappa
    fleiss_people: int
    annotators: tuple[AnnotatorReport, ...]


def accuracy(pairs: Iterable[tuple[str, str]], confidence: float = 0.95) -> Accuracy:
    """Of (answer, truth)."""
    told = [answer == truth for answer, truth in pairs]
    low, high = wilson(sum(told), len(told), confidence)
    return Accuracy(right=sum(told), count=len(told), low=low, high=high)


def majority(labels: Sequence[str], *, least: int = 2) -> Ballot:
    """The label with the most votes. A plurality suffices; a tie is a tie."""
    if len(labels) < least or not labels:
        return Ballot(vote=Vote.TOO_FEW, answers=len(labels))
    counts = Counter(labels)
    most = max(counts.values())
    level = tuple(sorted(label for label, votes in counts.items() if votes == most))
    return Ballot(
        vote=Vote.DECIDED if len(level) == 1 else Vote.TIE,
        labels=level,
        votes=most,
        answers=len(labels),
    )


def first_answers(answers: Iterable[Answer]) -> tuple[dict[str, dict[str, str]], int]:
    """Label by item and annotator, and how many answers came again."""
    by_item: dict[str, dict[str, str]] = {}
    repeated = 0
    for each in answers:
        own = by_item.setdefault(each.item, {})
        if each.annotator in own:
            repeated += 1
        else:
            own[each.annotator] = each.label
    return by_item, repeated


def report(
    answers: Iterable[Answer],
    gold: Mapping[str, str],
    *,
    asked: float = 0.9,
    least: int = 2,
    confidence: float = 0.95,
) -> AnnotationReport:
    """``gold``: the right label by item. ``asked``: the gold accuracy that is expected of each."""
    by_item, repeated = first_answers(answers)
    ballots = {item: majority(list(own.values()), least=least) for item, own in by_item.items()}
    of_gold = [
        (label, gold[item])
        for item, own in by_item.items()
        if item in gold
        for label in own.values()
    ]
    agreed, people = _fleiss(by_item, confidence)
    votes = Counter(ballot.vote for ballot in ballots.values())
    return AnnotationReport(
        answers=sum(len(own) for own in by_item.values()),
        repeated=repeated,
        gold=accuracy(of_gold, confidence),
        votes={vote: votes[vote] for vote in Vote},
        fleiss=agreed,
        fleiss_people=people,
        annotators=_annotators(by_item, gold, asked, least, confidence),
    )


def _fleiss(by_item: Mapping[str, Mapping[str, str]], confidence: float) -> tuple[Kappa, int]:
    """Of the items that the commonest number of people (at least two) labelled."""
    sizes = Counter(len(own) for own in by_item.values() if len(own) > 1)
    if not sizes:
        return Kappa(value=None, why="nothing was labelled twice"), 0
    people = max(sizes, key=lambda size: (sizes[size], size))
    items = [Counter(own.values()) for own in by_item.values() if len(own) == people]
    return fleiss(items, confidence=confidence), people


def _annotators(
    by_item: Mapping[str, Mapping[str, str]],
    gold: Mapping[str, str],
    asked: float,
    least: int,
    confidence: float,
) -> tuple[AnnotatorReport, ...]:
    own_items: dict[str, list[str]] = defaultdict(list)
    for item, own in by_item.items():
        for annotator in own:
            own_items[annotator].append(item)
    reports = []
    for annotator, items in sorted(own_items.items()):
        labels = {item: by_item[item][annotator] for item in items}
        others = {
            item: majority(
                [label for who, label in by_item[item].items() if who != annotator],
                least=max(1, least - 1),
            ).label
            for item in items
        }
        pairs = [(labels[item], other) for item, other in others.items() if other is not None]
        of_gold = accuracy(
            ((labels[item], gold[item]) for item in items if item in gold), confidence
        )
        label, number = Counter(labels.values()).most_common(1)[0]
        reports.append(
            AnnotatorReport(
                annotator=annotator,
                answers=len(items),
                gold=of_gold,
                majority=accuracy(pairs, confidence),
                kappa=cohen([a for a, _ in pairs], [b for _, b in pairs], confidence=confidence),
                commonest=(label, number / len(items)),
                is_below=of_gold.count > 0 and of_gold.high < asked,
            )
        )
    return tuple(reports)
