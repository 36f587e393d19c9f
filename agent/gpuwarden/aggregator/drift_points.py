"""Labels and mistakes of the last day, a quarter of an hour a point: for people, nothing is judged by it."""

from collections.abc import Collection, Iterable

from gpuwarden.aggregator.drift_steps import judged_cohorts
from gpuwarden.aggregator.picture import Picture
from gpuwarden.model.evaluation import Cohort, Window
from gpuwarden.wire.v1 import drift_pb2 as pb

OVER_S = 86_400.0
POINT_S = 900.0
COHORTS_MAX = 64


def points(
    picture: Picture, wanted: Collection[Cohort], wall: float
) -> dict[Cohort, list[pb.StreamPoint]]:
    """The services' thread. Of each of these that are judged, as far as windows are kept; ``wall``: now."""
    since = (wall - OVER_S) // POINT_S * POINT_S
    parts_of = judged_cohorts(picture.cohorts())
    found = {}
    for cohort in sorted(wanted)[:COHORTS_MAX]:
        windows = picture.over(parts_of.get(cohort, ()), since, {"labels", "correct"})
        if made := of_windows(windows):
            found[cohort] = made
    return found


def of_windows(windows: Iterable[Window]) -> list[pb.StreamPoint]:
    """A span in which nothing became known has no point."""
    sums: dict[float, tuple[float, float]] = {}
    for window in windows:
        labels = window.counts.get("labels", 0.0)
        if labels > 0:
            begin = window.begin_wall // POINT_S * POINT_S
            wrong = min(labels, max(0.0, labels - window.counts.get("correct", 0.0)))
            known = sums.get(begin, (0.0, 0.0))
            sums[begin] = known[0] + labels, known[1] + wrong
    return [
        pb.StreamPoint(begin_wall=begin, length_s=POINT_S, labels=labels, wrong=wrong)
        for begin, (labels, wrong) in sorted(sums.items())
    ]
