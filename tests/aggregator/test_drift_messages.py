"""Drift as its readers get it: bounded, and with errors over time."""

from __future__ import annotations

from gpuwarden.aggregator import drift_messages as messages
from gpuwarden.aggregator.drift_points import POINT_S, of_windows
from gpuwarden.model.drift import DriftState, DriftVerdict, FeatureDrift, FeatureShape, StreamDrift
from gpuwarden.model.evaluation import Cohort, Window
from gpuwarden.wire.v1 import drift_pb2 as pb

V1 = Cohort(service="scan", version="v1")


def verdict(cohort: Cohort, *features: FeatureDrift) -> DriftVerdict:
    stream = StreamDrift(stream="errors", state=DriftState.STABLE, since_wall=0.0)
    return DriftVerdict(
        cohort=cohort,
        state=DriftState.DRIFT,
        since_wall=0.0,
        at_wall=0.0,
        features=features,
        streams=(stream,),
    )


def test_shapes_are_bounded_and_those_of_the_furthest_moved_are_told() -> None:
    shape = FeatureShape(profile=(1.0,), live=(2.0,))
    verdicts = [
        verdict(
            Cohort(service="scan", version=f"v{v}"),
            *(
                FeatureDrift(feature=f"f{n}", state=DriftState.DRIFT, since_wall=0.0,
                             psi=float(n + v / 10), shape=shape)
                for n in range(40)
            ),
        )
        for v in range(4)
    ]  # fmt: skip
    made = messages.to_reports(verdicts, {})
    told = [(f.feature, r.cohort.version) for r in made for f in r.features if f.HasField("shape")]
    assert len(told) == messages.SHAPES_MAX
    assert {name for name, _ in told} == {f"f{n}" for n in range(24, 40)}
    assert all(len(report.features) == 40 for report in made)


def test_points_are_those_of_the_version_and_segment() -> None:
    points = {V1: [pb.StreamPoint(begin_wall=0.0, length_s=900.0, labels=3.0, wrong=1.0)]}
    mine, other = messages.to_reports([verdict(V1), verdict(Cohort(service="scan"))], points)
    assert [p.wrong for p in mine.streams[0].points] == [1.0]
    assert not other.streams[0].points


def test_labels_and_mistakes_by_the_quarter_of_an_hour() -> None:
    def told(begin: float, **counts: float) -> Window:
        return Window(cohort=V1, begin_wall=begin, length_s=10.0, counts=counts)

    found = of_windows(
        [
            told(0.0, labels=10.0, correct=8.0),
            told(890.0, labels=5.0, correct=5.0),
            told(900.0, requests=4.0),  # nothing became known: no point, and no zero
            told(1800.0, labels=2.0, correct=9.0),  # more right than there are: none is wrong
        ]
    )
    assert [(p.begin_wall / POINT_S, p.labels, p.wrong) for p in found] == [(0, 15, 2), (2, 2, 0)]
