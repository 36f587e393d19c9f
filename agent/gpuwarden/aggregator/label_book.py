"""The halves of the label join as bytes in the store, and back; what cannot be read is as if it were not there."""

import json
from collections.abc import Sequence

from gpuwarden.aggregator.store_predictions import KeptPrediction
from gpuwarden.model.evaluation import Cohort
from gpuwarden.policy.fleet.labels import Answer, Half


def to_kept(halves: Sequence[Half]) -> list[KeptPrediction]:
    return [
        KeptPrediction(
            service=half.answer.cohort.service, id=half.answer.id, body=_body(half).encode("utf-8")
        )
        for half in halves
    ]


def from_kept(kept: Sequence[KeptPrediction]) -> list[Half]:
    return [half for each in kept if (half := _half(each)) is not None]


def _body(half: Half) -> str:
    answer = half.answer
    cohort = [answer.cohort.version, answer.cohort.arm, answer.cohort.segment]
    flags = [half.is_counted, half.has_complained, half.has_left, half.has_scored]
    said = [cohort, answer.prediction, answer.label, answer.positive, [int(f) for f in flags]]
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"))


def _half(kept: KeptPrediction) -> Half | None:
    try:
        (version, arm, segment), prediction, label, positive, flags = json.loads(kept.body)
        is_counted, has_complained, has_left, has_scored = map(bool, flags)
    except (ValueError, TypeError):
        return None
    if not all(isinstance(each, str) for each in (version, arm, segment, positive)):
        return None
    if not all(each is None or isinstance(each, str) for each in (prediction, label)):
        return None
    return Half(
        answer=Answer(
            cohort=Cohort(service=kept.service, version=version, arm=arm, segment=segment),
            id=kept.id,
            prediction=prediction,
            label=label,
            positive=positive,
        ),
        is_counted=is_counted,
        has_complained=has_complained,
        has_left=has_left,
        has_scored=has_scored,
    )
