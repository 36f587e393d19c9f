"""The queue of predictions for people, within a bound of bytes; out as JSONL, and corrections in from JSONL.

One line out:  {"schema": 1, "id": "...", "segment": "...", "version": "...", "prediction": "...", "confidence": 0.41,
                "uncertainty": 0.59, "dispute": 0, "at_wall": 1.7e9, "input": "...", "label": null, "reviewer": null}
               (and "probabilities", "opinions"; "service", "arm", and "random" where they are told)
One line in:   the same with ``label`` and ``reviewer`` filled in; only ``id``, ``label`` and ``reviewer`` are read (and
               ``service``, by the aggregator).
"""

import heapq
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from gpuwarden.evaluate.fast.series import SCORE_MAX
from gpuwarden.evaluate.quality.sampling import Prediction, doubt, rank

SCHEMA = 1
LINE_MAX_CHARS = 1 << 20
WORD_MAX_CHARS = 1024
LIST_MAX = 1000
FAULTS_MAX = 1000


def line_of(prediction: Prediction) -> str:
    """Without its line break. Characters beyond ASCII are escaped: a line is one line for every reader."""
    found = doubt(prediction)
    confidence = prediction.confidence
    return json.dumps(
        {
            "schema": SCHEMA,
            **({"service": prediction.service} if prediction.service else {}),
            "id": prediction.id,
            "segment": prediction.segment,
            "version": prediction.version,
            **({"arm": prediction.arm} if prediction.arm else {}),
            **({"random": True} if prediction.is_random else {}),
            "prediction": prediction.label,
            "confidence": confidence
            if confidence is not None and math.isfinite(confidence)
            else None,
            "uncertainty": round(found.uncertainty, 6),
            "dispute": round(found.dispute, 6),
            "probabilities": [p if math.isfinite(p) else None for p in prediction.probabilities],
            "opinions": list(prediction.opinions),
            "at_wall": prediction.at_wall if math.isfinite(prediction.at_wall) else 0.0,
            "input": prediction.input,
            "label": None,
            "reviewer": None,
        },
        allow_nan=False,
    )


def prediction_of(line: str) -> "Prediction | LineFault":
    """What ``line_of`` wrote, or a service: ``id`` is needed, all else has its default where it is not what it must be."""
    said = _object(line)
    if isinstance(said, LineFault):
        return said
    name = said.get("id")
    if not isinstance(name, str) or not 0 < len(name) <= WORD_MAX_CHARS:
        return LineFault.NO_ID
    at_wall, asked = _number(said.get("at_wall")), said.get("input")
    return Prediction(
        id=name,
        segment=_word(said.get("segment")),
        version=_word(said.get("version")),
        label=_word(said.get("prediction")),
        confidence=_number(said.get("confidence")),
        probabilities=tuple(
            math.nan if (p := _number(each)) is None else p for each in _list(said, "probabilities")
        ),
        opinions=tuple(each for each in _list(said, "opinions") if isinstance(each, str)),
        at_wall=0.0 if at_wall is None else at_wall,
        input=asked if isinstance(asked, str) else "",
        service=_word(said.get("service")),
        arm=_word(said.get("arm")),
        is_random=said.get("random") is True,
    )


def service_of(line: str) -> str:
    """Whose line it is; empty: it does not say."""
    said = _object(line)
    return "" if isinstance(said, LineFault) else _word(said.get("service"))


def _object(line: str) -> "Mapping[str, object] | LineFault":
    if len(line) > LINE_MAX_CHARS:
        return LineFault.TOO_LONG
    try:
        said = json.loads(line.strip("\ufeff \t\r\n"))
    except (ValueError, RecursionError):
        return LineFault.NOT_JSON
    return said if isinstance(said, Mapping) else LineFault.NOT_AN_OBJECT


def _word(value: object) -> str:
    return value[:WORD_MAX_CHARS] if isinstance(value, str) else ""


def _list(said: Mapping[str, object], name: str) -> list[object]:
    value = said.get(name)
    return value[:LIST_MAX] if isinstance(value, list) else []


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


class ReviewQueue:
    """Predictions that wait for people. Over its bound, the segment with the most bytes gives up what is least doubtful:
    a flood in one segment costs that segment and not the rare ones. What was given up is counted.
    """

    def __init__(self, bytes_max: int) -> None:
        self._max = bytes_max
        self._items: dict[str, tuple[Prediction, int]] = {}
        self._heaps: dict[str, list[tuple[float, str]]] = {}
        self._bytes: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        """By segment."""

    def __len__(self) -> int:
        return len(self._items)

    @property
    def bytes(self) -> int:
        """Of all lines with their line breaks."""
        return self._bytes.total()

    def add(self, predictions: Iterable[Prediction]) -> None:
        """One that is there already stays as it is."""
        for each in predictions:
            if each.id in self._items:
                continue
            size = len(line_of(each)) + 1
            if size > self._max:
                self.dropped[each.segment] += 1
                continue
            self._items[each.id] = (each, size)
            self._bytes[each.segment] += size
            heap = self._heaps.setdefault(each.segment, [])
            heapq.heappush(heap, (rank(each), each.id))
            while self.bytes > self._max:
                self._give_up()

    def _give_up(self) -> None:
        segment = max(self._bytes, key=lambda name: (self._bytes[name], name))
        heap = self._heaps[segment]
        _, name = heapq.heappop(heap)
        self._remove(name)
        self.dropped[segment] += 1

    def _remove(self, name: str) -> None:
        prediction, size = self._items.pop(name)
        self._bytes[prediction.segment] -= size
        if not self._bytes[prediction.segment]:
            del self._bytes[prediction.segment], self._heaps[prediction.segment]

    def done(self, names: Iterable[str]) -> None:
        """These have been looked at."""
        gone = {name for name in names if name in self._items}
        touched = {self._items[name][0].segment for name in gone}
        for segment in touched:
            left = [entry for entry in self._heaps[segment] if entry[1] not in gone]
            heapq.heapify(left)
            self._heaps[segment] = left
        for name in gone:
            self._remove(name)

    def get(self, name: str) -> Prediction | None:
        found = self._items.get(name)
        return None if found is None else found[0]

    def items(self) -> list[Prediction]:
        """By segment, the most doubtful first."""
        return sorted(
            (prediction for prediction, _ in self._items.values()),
            key=lambda each: (each.segment, -rank(each), each.id),
        )

    def export(self) -> Iterator[str]:
        """Lines without their line breaks."""
        return (line_of(each) for each in self.items())


class Known(Protocol):
    """Predictions by id: a queue, or a mapping."""

    def get(self, name: str, /) -> Prediction | None: ...


class LineFault(StrEnum):
    """Why an imported line does not count."""

    TOO_LONG = "too-long"
    NOT_JSON = "not-json"
    NOT_AN_OBJECT = "not-an-object"
    NO_ID = "no-id"
    UNKNOWN_ID = "unknown-id"
    NO_LABEL = "no-label"
    UNKNOWN_LABEL = "unknown-label"
    NO_REVIEWER = "no-reviewer"
    NO_SCORE = "no-score"
    """What stands there is no number, or beyond all bounds."""
    REPEATED = "repeated"
    """The same person on the same prediction with the same label: counts once."""
    CONTRADICTORY = "contradictory"
    """The same person on the same prediction with another label: neither counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One person's word on one prediction."""

    prediction: Prediction
    label: str
    reviewer: str
    score: float | None = None
    """How good the person found the prediction, in the service's own units."""

    @property
    def is_right(self) -> bool:
        """The prediction was."""
        return self.label == self.prediction.label


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What came of a file. ``faults``: (line, why), of the first ``FAULTS_MAX``; ``counts`` has all."""

    corrections: tuple[Correction, ...]
    faults: tuple[tuple[int, LineFault], ...]
    counts: Mapping[LineFault, int]
    blank: int = 0
    unlabelled: int = 0
    """Lines that nobody has filled in: no fault."""
    places: tuple[int, ...] = ()
    """Of each correction, its line."""


def imported(
    lines: Iterable[str],
    queue: Known,
    *,
    labels: frozenset[str] | None = None,
) -> Imported:
    """Corrections out of lines that anybody may have written. ``labels``: all that are allowed; None: any."""
    found: dict[tuple[str, str], tuple[int, Correction]] = {}
    spoilt: set[tuple[str, str]] = set()
    faults: list[tuple[int, LineFault]] = []
    counts: Counter[LineFault] = Counter()
    blank = unlabelled = 0

    def fault(number: int, why: LineFault) -> None:
        counts[why] += 1
        if len(faults) < FAULTS_MAX:
            faults.append((number, why))

    for number, line in enumerate(lines, 1):
        if not line.strip("\ufeff \t\r\n"):
            blank += 1
            continue
        read = _read(line, queue, labels)
        if read is None:
            unlabelled += 1
        elif isinstance(read, LineFault):
            fault(number, read)
        else:
            key = (read.prediction.id, read.reviewer)
            before = found.get(key)
            if key in spoilt or (before is not None and before[1].label != read.label):
                fault(number, LineFault.CONTRADICTORY)
                spoilt.add(key)
            elif before is not None:
                fault(number, LineFault.REPEATED)
            else:
                found[key] = (number, read)
    for key in spoilt:
        fault(found.pop(key)[0], LineFault.CONTRADICTORY)
    return Imported(
        corrections=tuple(correction for _, correction in found.values()),
        faults=tuple(sorted(faults)),
        counts=dict(counts),
        blank=blank,
        unlabelled=unlabelled,
        places=tuple(number for number, _ in found.values()),
    )


def _read(line: str, queue: Known, labels: frozenset[str] | None) -> Correction | LineFault | None:
    said = _object(line)
    if isinstance(said, LineFault):
        return said
    name = said.get("id")
    if not isinstance(name, str) or not name:
        return LineFault.NO_ID
    prediction = queue.get(name)
    if prediction is None:
        return LineFault.UNKNOWN_ID
    label, reviewer = said.get("label"), said.get("reviewer")
    if label is None and reviewer is None:
        return None
    if not isinstance(label, str) or not 0 < len(label.strip()) <= WORD_MAX_CHARS:
        return LineFault.NO_LABEL
    if labels is not None and label not in labels:
        return LineFault.UNKNOWN_LABEL
    if not isinstance(reviewer, str) or not 0 < len(reviewer.strip()) <= WORD_MAX_CHARS:
        return LineFault.NO_REVIEWER
    score: Any = said.get("score")
    if score is not None:
        is_number = isinstance(score, int | float) and not isinstance(score, bool)
        if not is_number or not abs(score) <= SCORE_MAX:  # NaN is within nothing
            return LineFault.NO_SCORE
    return Correction(
        prediction=prediction,
        label=label.strip(),
        reviewer=reviewer.strip(),
        score=None if score is None else float(score),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """What corrections are good for, of one segment. A sample of doubtful predictions is worse than all of them:
    ``right`` of ``labels`` is no accuracy of the service, and is told as one of the sample only."""

    labels: int = 0
    """Predictions that at least one person has looked at."""
    right: int = 0
    """Of them, those that the reviewers' vote says were right."""
    undecided: int = 0
    """Of them, those on which reviewers are level."""
    gold: Mapping[str, str] | None = None
    """Label by id, where at least two people looked and all agreed: fit for a gold set."""


def harvest(corrections: Iterable[Correction]) -> dict[str, Harvest]:
    """By segment; feeds accuracy of the sample, the gold set and the count of new labels for retraining."""
    by_id: dict[str, list[Correction]] = {}
    for each in corrections:
        by_id.setdefault(each.prediction.id, []).append(each)
    segments: dict[str, list[list[Correction]]] = {}
    for said in by_id.values():
        segments.setdefault(said[0].prediction.segment, []).append(said)
    return {segment: _harvest(looked_at) for segment, looked_at in sorted(segments.items())}


def _harvest(looked_at: list[list[Correction]]) -> Harvest:
    right = undecided = 0
    gold = {}
    for said in looked_at:
        votes = Counter(each.label for each in said)
        best = votes.most_common(2)
        if len(best) > 1 and best[0][1] == best[1][1]:
            undecided += 1
            continue
        right += best[0][0] == said[0].prediction.label
        if len(said) > 1 and len(best) == 1:
            gold[said[0].prediction.id] = best[0][0]
    return Harvest(labels=len(looked_at), right=right, undecided=undecided, gold=gold)
