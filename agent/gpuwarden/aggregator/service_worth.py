"""What a service did and is worth, by what was told apart: requests, cost, accuracy, the business score."""

from collections.abc import Mapping

from gpuwarden.aggregator.picture import Picture
from gpuwarden.config_guardrails import ScoreConfig
from gpuwarden.evaluate.experiment.business_score import Confusion, score
from gpuwarden.model.evaluation import Cohort
from gpuwarden.wire.convert_window import to_cohort
from gpuwarden.wire.v1 import evaluation_pb2 as pb

OVER_S = 3600.0
"""Labels are few: an hour of them."""
COUNTS = ("requests", "errors", "predictions", "labels", "complaints", "opt_outs", "cost")
JOINED = ("correct", "true_positives", "false_positives", "false_negatives")
UNITS = {"cost": "currency", "cost per request": "currency"}


def numbers(
    picture: Picture, service: str, wall: float, weights: ScoreConfig
) -> list[pb.SeriesNumber]:
    """Of the last hour, cohort by cohort; what was not told is left out."""
    found = []
    for cohort in sorted(picture.cohorts()):
        if cohort.service == service:
            sums = _sums(picture, cohort, wall - OVER_S)
            found += [
                pb.SeriesNumber(
                    cohort=to_cohort(cohort), what=name, value=value, unit=UNITS.get(name, "1")
                )
                for name, value in worth(sums, weights).items()
            ]
    return found


def _sums(picture: Picture, cohort: Cohort, since: float) -> dict[str, float]:
    sums: dict[str, float] = {}
    for window in picture.over([cohort], since, {*COUNTS, *JOINED}):
        for name, value in window.counts.items():
            sums[name] = sums.get(name, 0.0) + value
    return sums


def worth(sums: Mapping[str, float], weights: ScoreConfig) -> dict[str, float]:
    """Counts as they are, and what follows from them where it can be said."""
    found = {name: sums[name] for name in COUNTS if name in sums}
    requests, labels = sums.get("requests", 0.0), sums.get("labels", 0.0)
    if "cost" in sums and requests > 0:
        found["cost per request"] = sums["cost"] / requests
    if labels > 0:
        found["accuracy"] = sums.get("correct", 0.0) / labels
    if labels > 0 and sums.get("predictions", 0.0) > 0:
        found["label coverage"] = labels / sums["predictions"]
    told = score(
        Confusion(
            true_positives=round(sums.get("true_positives", 0.0)),
            false_positives=round(sums.get("false_positives", 0.0)),
            false_negatives=round(sums.get("false_negatives", 0.0)),
        ),
        f1_weight=weights.f1_weight,
        false_positive_cost=weights.false_positive_cost,
    )
    for name, value in (
        ("precision", told.precision),
        ("recall", told.recall),
        ("F1", told.f1),
        ("business score", told.business),
    ):
        if value is not None:
            found[name] = value
    return found
