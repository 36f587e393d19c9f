"""Drift and profiles as their readers get them."""

import math
from collections.abc import Collection, Mapping, Sequence

from gpuwarden.aggregator.profiles import KeptProfile
from gpuwarden.model.drift import DriftVerdict, FeatureDrift, FeatureShape, StreamDrift
from gpuwarden.model.evaluation import Cohort
from gpuwarden.policy.fleet.fitness import named
from gpuwarden.wire.convert_window import to_cohort
from gpuwarden.wire.fields import text
from gpuwarden.wire.v1 import drift_pb2 as pb

SHAPES_MAX = 64
"""Of one answer, the furthest moved first: some 4 KiB each where names are long."""


def to_reports(
    verdicts: Sequence[DriftVerdict], points: Mapping[Cohort, Sequence[pb.StreamPoint]]
) -> list[pb.DriftReport]:
    """With the shapes of what has moved furthest, and the errors' points of those cohorts that have some."""
    shaped = sorted(
        (
            (each.psi or 0.0, verdict.cohort, each.feature)
            for verdict in verdicts
            for each in verdict.features
            if each.shape is not None
        ),
        key=lambda each: (-each[0], *each[1:]),
    )[:SHAPES_MAX]
    chosen = {(cohort, feature) for _, cohort, feature in shaped}
    return [_to_report(each, chosen, points.get(each.cohort, ())) for each in verdicts]


def _to_report(
    verdict: DriftVerdict,
    shaped: Collection[tuple[Cohort, str]],
    points: Sequence[pb.StreamPoint],
) -> pb.DriftReport:
    return pb.DriftReport(
        cohort=to_cohort(verdict.cohort),
        state=verdict.state.value,
        since_wall=verdict.since_wall,
        wall=verdict.at_wall,
        features=[
            _to_feature(each, has_shape=(verdict.cohort, each.feature) in shaped)
            for each in verdict.features
        ],
        streams=[_to_stream(each, points) for each in verdict.streams],
        summary=text(verdict.summary),
        proposals=[text(each) for each in verdict.proposals],
    )


def to_line(kept: KeptProfile) -> pb.ProfileLine:
    return pb.ProfileLine(
        cohort=to_cohort(kept.cohort),
        rows=kept.profile.rows,
        features=len(kept.profile.features),
        wall=kept.wall,
        who=text(kept.who),
        revision=kept.revision,
    )


def unseen(profiles: Sequence[KeptProfile], verdicts: Sequence[DriftVerdict]) -> list[str]:
    """Profiles of versions and segments that nobody tells anything of."""
    told = {each.cohort for each in verdicts}
    parts = [
        named(kept.cohort) or "any version"
        for kept in profiles
        if kept.cohort not in told
        and not any(kept.cohort.segment == c.segment and not kept.cohort.version for c in told)
    ]
    return [f"a profile, but no live data, of {', '.join(parts)}"] if parts else []


def _to_feature(each: FeatureDrift, *, has_shape: bool) -> pb.FeatureDrift:
    return pb.FeatureDrift(
        feature=text(each.feature),
        state=each.state.value,
        since_wall=each.since_wall,
        rows=each.rows,
        p_value=_finite(each.p_value),
        psi=_finite(each.psi),
        js_distance=_finite(each.js_distance),
        wasserstein_norm=_finite(each.wasserstein_norm),
        mean=_finite(each.mean),
        was_mean=_finite(each.was_mean),
        new_share=_finite(each.new_share),
        why=text(each.why),
        shape=_to_shape(each.shape) if has_shape and each.shape is not None else None,
    )


def _to_shape(shape: FeatureShape) -> pb.FeatureShape:
    return pb.FeatureShape(
        profile=shape.profile,
        live=shape.live,
        names=[
            pb.NameShare(name=text(each.name), profile=each.profile, live=each.live)
            for each in shape.names
        ],
    )


def _to_stream(each: StreamDrift, points: Sequence[pb.StreamPoint]) -> pb.StreamDrift:
    return pb.StreamDrift(
        stream=each.stream,
        state=each.state.value,
        since_wall=each.since_wall,
        labels=each.labels,
        value=_finite(each.value),
        baseline=_finite(each.baseline),
        baseline_labels=each.baseline_labels,
        p_value=_finite(each.p_value),
        level=_finite(each.level),
        detectors=each.detectors,
        version=each.version,
        why=text(each.why),
        points=points if each.stream == "errors" else (),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
