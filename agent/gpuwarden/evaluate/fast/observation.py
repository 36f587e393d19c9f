"""Observations of a service's client as series; labels that come later join their predictions by id.

The client is the service's own, and a stranger here: what is not what it must be is left out and counted.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuwarden.evaluate.fast.series import CUSTOM_PREFIX, FEATURE_PREFIX, NAME_MAX_CHARS
from gpuwarden.evaluate.fast.tally import Tally
from gpuwarden.model.evaluation import Cohort

FEATURES_MAX = 256
SEGMENTS_MAX = 32
"""Of one service: what is beyond shares the segment ``other``."""
ARMS_MAX = 16
PREDICTIONS_MAX = 20_000
PREDICTION_S = 86_400.0
"""How long a prediction waits for its label on the node (20,000 of them weigh 8 MiB); later or elsewhere labels
go to the aggregator (SubmitLabels)."""
UNITS_S = 3600.0
UNITS_MAX = 50_000
TEXT_MAX_CHARS = 128
POSITIVE = "1"
OWN_MAX = 16
OWN_VALUE_MAX = 1e9
REPEATED = "custom.repeated"
"""Predictions whose id was there before: the same thing asked, or told, twice."""
OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A prediction whose label has not come."""

    at: float
    answer: str
    cohort: Cohort
    is_labelled: bool = False


class Observations:
    """What one node hears of one service. One thread."""

    def __init__(self, confidence_min: float = 0.5) -> None:
        """``confidence_min``: less than that is low."""
        self._confidence_min = confidence_min
        self._predictions: OrderedDict[str, _Waiting] = OrderedDict()
        self._segments: set[str] = set()
        self._arms: set[str] = set()
        self._units: set[int] = set()
        self._units_since = 0.0
        self.refused = 0
        """Observations that were not what they must be."""
        self.unmatched = 0
        """Labels and scores whose prediction is not known here."""

    def take(
        self, said: object, carrier: Cohort, at: float, tallies: dict[Cohort, Tally]
    ) -> Cohort | None:
        """One observation into the tally of its cohort, which is returned; None: it is none. ``carrier``: the
        tenant's own cohort."""
        if not isinstance(said, Mapping):
            self.refused += 1
            return None
        cohort = Cohort(
            service=carrier.service,
            version=carrier.version,
            arm=_bounded(said.get("arm"), self._arms, ARMS_MAX) or carrier.arm,
            segment=_bounded(said.get("segment"), self._segments, SEGMENTS_MAX),
        )
        key = _text(said.get("prediction_id"))
        waiting = None if key is None else self._predictions.get(key)
        if waiting is not None and at - waiting.at <= PREDICTION_S and "prediction" not in said:
            cohort = waiting.cohort  # a late label speaks of the cohort that predicted
        tally = tallies.get(cohort)
        if tally is None:
            tally = tallies[cohort] = Tally()
        before = tally.dropped
        self._unit(said.get("unit_id"), cohort, at, tally)
        self._request(said, tally)
        self._features(said.get("features"), tally)
        self._own(said.get("counts"), tally)
        self._prediction(said, key, waiting, cohort, at, tally)
        if tally.dropped > before:
            self.refused += 1
        return cohort

    def answer(self, key: object) -> str | None:
        """What was predicted under this id, where that is known here and nobody has told the truth of it."""
        waiting = self._predictions.get(key) if isinstance(key, str) else None
        return None if waiting is None or waiting.is_labelled else waiting.answer

    def _request(self, said: Mapping[str, Any], tally: Tally) -> None:
        latency, is_ok = _number(said.get("latency")), said.get("ok")
        if latency is not None and latency < 0:
            tally.dropped += 1
            return
        if latency is not None or isinstance(is_ok, bool):
            tally.count("requests")
        if isinstance(is_ok, bool):
            tally.count("errors", 0.0 if is_ok else 1.0)
        if latency is not None:
            tally.value("latency_s", latency)
        elif said.get("latency") is not None:
            tally.dropped += 1
        cost = _number(said.get("cost"))
        if cost is not None and cost >= 0:
            tally.count("cost", cost)
        for name, series in (("complaint", "complaints"), ("opt_out", "opt_outs")):
            if said.get(name) is True:
                tally.count(series)

    def _unit(self, value: object, cohort: Cohort, at: float, tally: Tally) -> None:
        """A unit counts once an hour in its arm; it is remembered by a hash alone."""
        unit = _text(value)
        if unit is None:
            return
        if at - self._units_since > UNITS_S or len(self._units) >= UNITS_MAX:
            self._units, self._units_since = set(), at
        mark = hash((unit, cohort.arm))
        if mark not in self._units:
            self._units.add(mark)
            tally.count("units")

    def _features(self, features: object, tally: Tally) -> None:
        """Numbers, and names (text, yes and no). What is neither is not missing, and has no distribution here."""
        if features is None:
            return
        if not isinstance(features, Mapping) or len(features) > FEATURES_MAX:
            tally.dropped += 1
            return
        missing = 0
        for name, value in features.items():
            number = _number(value)
            if value is None or value == "" or (isinstance(value, float) and number is None):
                missing += 1
                if isinstance(name, str):
                    tally.missing(name)
            elif isinstance(name, str) and name.isprintable():
                series = f"{FEATURE_PREFIX}{name}"[:NAME_MAX_CHARS]
                if number is not None:
                    tally.value(series, number)
                elif isinstance(value, str | bool):
                    tally.name(series, str(value))
        tally.count("fields", len(features))
        tally.count("missing_fields", missing)

    def _own(self, counts: object, tally: Tally) -> None:
        """The client's own counts, such as of images that were flipped: ``custom.NAME``."""
        if counts is None:
            return
        if not isinstance(counts, Mapping) or len(counts) > OWN_MAX:
            tally.dropped += 1
            return
        for name, value in counts.items():
            number = _number(value)
            is_name = isinstance(name, str) and name.isascii() and name.isidentifier()
            if not is_name or number is None or not 0 <= number <= OWN_VALUE_MAX:
                tally.dropped += 1
                return
            tally.count(f"{CUSTOM_PREFIX}{name}"[:NAME_MAX_CHARS], number)

    def _prediction(
        self,
        said: Mapping[str, Any],
        key: str | None,
        waiting: _Waiting | None,
        cohort: Cohort,
        at: float,
        tally: Tally,
    ) -> None:
        answer, label = _answer(said.get("prediction")), _answer(said.get("label"))
        if answer is not None:
            tally.count("predictions")
            if key is not None:
                tally.count(REPEATED, 0.0 if waiting is None else 1.0)
                self._remember(key, _Waiting(at=at, answer=answer, cohort=cohort))
        confidence = _number(said.get("confidence"))
        if confidence is not None and 0 <= confidence <= 1:
            tally.value("confidence", confidence)
            tally.count("low_confidence", 1.0 if confidence < self._confidence_min else 0.0)
        if answer is None and waiting is not None:
            answer = waiting.answer
        if label is not None:
            self._label(label, answer, key, waiting, tally)
        score = _number(said.get("score"))
        if score is not None:
            tally.value("score", score)

    def _label(
        self,
        label: str,
        answer: str | None,
        key: str | None,
        waiting: _Waiting | None,
        tally: Tally,
    ) -> None:
        if answer is None:
            self.unmatched += 1
            return
        if waiting is not None and waiting.is_labelled:
            return  # it counts once
        if key is not None and (known := self._predictions.get(key)) is not None:
            self._predictions[key] = _Waiting(
                at=known.at, answer=known.answer, cohort=known.cohort, is_labelled=True
            )
        tally.count("labels")
        tally.count("correct", 1.0 if label == answer else 0.0)
        if POSITIVE in (label, answer):
            pair = (answer == POSITIVE, label == POSITIVE)
            tally.count("true_positives", 1.0 if pair == (True, True) else 0.0)
            tally.count("false_positives", 1.0 if pair == (True, False) else 0.0)
            tally.count("false_negatives", 1.0 if pair == (False, True) else 0.0)

    def _remember(self, key: str, prediction: _Waiting) -> None:
        self._predictions[key] = prediction
        self._predictions.move_to_end(key)
        while len(self._predictions) > PREDICTIONS_MAX or (
            prediction.at - next(iter(self._predictions.values())).at > PREDICTION_S
        ):
            self._predictions.popitem(last=False)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**18 else None
    if not isinstance(value, str) or not value or len(value) > TEXT_MAX_CHARS:
        return None
    return value if value.isprintable() else None


def _answer(value: object) -> str | None:
    """True, 1 and 1.0 are one answer."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    return _text(value)


def _bounded(value: object, known: set[str], most: int) -> str:
    text = _text(value)
    if text is None:
        return ""
    if text not in known and len(known) >= most:
        return OTHER
    known.add(text)
    return text
