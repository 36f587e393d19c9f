"""Drift and profiles as their readers get them."""

import math
from collections.abc import Sequence

from gpuwarden.aggregator.profiles import KeptProfile
from gpuwarden.model.drift import DriftVerdict, FeatureDrift, StreamDrift
from gpuwarden.policy.fleet.fitness import named
from gpuwarden.wire.convert_window import to_cohort
from gpuwarden.wire.fields import text
from gpuwarden.wire.v1 import drift_pb2 as pb


def to_report(verdict: DriftVerdict) -> pb.DriftReport:
    return pb.DriftReport(
        cohort=to_cohort(verdict.cohort),
        state=verdict.state.value,
        since_wall=verdict.since_wall,
        wall=verdict.at_wall,
        features=[_to_feature(each) for each in verdict.features],
        streams=[_to_stream(each) for each in verdict.streams],
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


def _to_feature(each: FeatureDrift) -> pb.FeatureDrift:
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
    )


def _to_stream(each: StreamDrift) -> pb.StreamDrift:
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
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
