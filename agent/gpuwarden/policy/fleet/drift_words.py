"""Drift in words and rows: which features, segment and version, and how far they have moved."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gpuwarden.evaluate.drift.concept import Concept, ConceptSettings, Evidence
from gpuwarden.evaluate.drift.live import LiveScore
from gpuwarden.evaluate.drift.profile import NumericProfile
from gpuwarden.evaluate.drift.profile_file import Profile
from gpuwarden.evaluate.drift.scores import Scores
from gpuwarden.model.drift import DriftState, FeatureDrift, StreamDrift
from gpuwarden.model.evaluation import Cohort
from gpuwarden.policy.fleet.fitness import named

NAMED_MAX = 5
NEW_BASELINE_S = 3 * 86_400.0
"""A loss that has stood for so long may be what the model is like now: a person is asked."""


def feature(name: str, scored: LiveScore, adjusted: float, ref: Profile | None) -> FeatureDrift:
    """A judged window; its state is the caller's."""
    score = scored.score
    return FeatureDrift(
        feature=name,
        state=DriftState.NOT_ENOUGH,
        since_wall=0.0,
        rows=score.rows,
        p_value=None if score.p_value is None else adjusted,
        psi=score.psi,
        js_distance=score.js_distance,
        wasserstein_norm=score.wasserstein_norm,
        mean=scored.mean,
        was_mean=ref.mean if isinstance(ref, NumericProfile) else None,
        new_share=scored.new_share,
        why=score.why_no_p,
    )


def errors(
    concept: Concept, found: Evidence, settings: ConceptSettings, since_wall: float
) -> StreamDrift:
    """The stream of errors as it stands; ``since_wall``: since when its state is what it is."""
    memory = concept.memory
    state, why = DriftState.STABLE, ""
    if memory.is_drift:
        state = DriftState.DRIFT
    elif memory.reference_labels < settings.reference_min:
        state = DriftState.NOT_ENOUGH
        why = f"{memory.reference_labels} of {settings.reference_min} labels for its own baseline"
    elif found.share is None:
        state = DriftState.NOT_ENOUGH
        why = f"{found.labels} labels since its baseline, {settings.windows[0][0]} are needed"
    return StreamDrift(
        stream="errors",
        state=state,
        since_wall=memory.drift_since_wall if memory.drift_since_wall is not None else since_wall,
        labels=found.labels,
        value=found.share,
        baseline=found.baseline,
        baseline_labels=memory.reference_labels,
        p_value=found.p_value,
        level=found.level,
        detectors=memory.voted,
        version=concept.version,
        why=why,
    )


def scores(
    known: Scores, found: Evidence, settings: ConceptSettings, since_wall: float
) -> StreamDrift:
    """The stream of people's scores; ``value`` and ``baseline`` are means, the chance is of the low ones."""
    memory = known.concept
    state, why = DriftState.STABLE, ""
    if known.cut is None:
        state = DriftState.NOT_ENOUGH
        why = f"{known.learning} of {settings.reference_min} scores for its own baseline"
    elif found.share is None or found.baseline is None:
        state = DriftState.NOT_ENOUGH
        why = f"{found.labels} scores since its baseline, {settings.windows[0][0]} are needed"
    else:
        why = f"about {known.cut:.2g} or less: {found.baseline:.1%} -> {found.share:.1%}"
    if memory.is_drift:
        state = DriftState.DRIFT
    return StreamDrift(
        stream="score",
        state=state,
        since_wall=memory.drift_since_wall if memory.drift_since_wall is not None else since_wall,
        labels=found.labels,
        value=known.newest,
        baseline=known.baseline,
        baseline_labels=memory.reference_labels,
        p_value=found.p_value,
        level=found.level,
        detectors=memory.voted,
        version=known.version,
        why=why,
    )


def summary(
    cohort: Cohort,
    state: DriftState,
    features: Sequence[FeatureDrift],
    streams: Sequence[StreamDrift],
) -> str:
    """For people."""
    of = named(cohort)
    of = f" of {of}" if of else ""
    if state is DriftState.DRIFT:
        said = [moved(each) for each in _furthest(features)]
        said += [lost(each) for each in streams if each.state is DriftState.DRIFT]
        more = len(said) - NAMED_MAX
        rest = f" and {more} more" if more > 0 else ""
        return (
            f"the data{of} drifted: {'; '.join(said[:NAMED_MAX])}{rest}"
            if any(each.state is DriftState.DRIFT for each in features)
            else f"the model{of} became worse: {'; '.join(said)}"
        )
    if state is DriftState.SCHEMA:
        odd = [f"{e.feature} ({e.why})" for e in features if e.state is DriftState.SCHEMA]
        return f"the schema{of} changed: {', '.join(odd[:NAMED_MAX])}"
    if state is DriftState.NO_PROFILE:
        return f"no profile{of}"
    if state is DriftState.NOT_ENOUGH:
        return f"not enough data{of} yet"
    return f"{len(features) + len(streams)} judged{of}, none drifted"


def moved(each: FeatureDrift) -> str:
    """How far one feature has moved."""
    parts = []
    if each.mean is not None and each.was_mean is not None:
        parts.append(f"mean {each.was_mean:.4g} -> {each.mean:.4g}")
    if each.wasserstein_norm is not None:
        parts.append(f"moved {each.wasserstein_norm:.2g} sigma")
    if each.psi is not None:
        parts.append(f"PSI {each.psi:.2f}")
    if each.new_share:
        parts.append(f"{each.new_share:.0%} in categories the profile does not have")
    return f"{each.feature} ({', '.join(parts)})"


def lost(each: StreamDrift) -> str:
    """How much worse it has become."""
    if each.value is None or each.baseline is None:
        return each.stream
    by = f"; {', '.join(each.detectors)} of {each.version}" if each.detectors else ""
    if each.stream == "score":
        return f"score {each.baseline:.4g} -> {each.value:.4g} ({each.why} of the newest {each.labels}){by}"
    return f"{each.stream} {each.baseline:.1%} -> {each.value:.1%} of the newest {each.labels} labels{by}"


def proposals(
    cohort: Cohort,
    features: Sequence[FeatureDrift],
    streams: Sequence[StreamDrift],
    now_wall: float,
) -> tuple[str, ...]:
    """What a person may want to change. Nothing here changes it."""
    said = []
    old = [
        e
        for e in features
        if e.state is DriftState.DRIFT and now_wall - e.since_wall >= NEW_BASELINE_S
    ]
    if old:
        names = ", ".join(each.feature for each in old[:NAMED_MAX])
        said.append(
            f"{names}: so for {_days(now_wall - min(e.since_wall for e in old))}. If this is what it is "
            f"fed now, push a new profile: gpuwarden model profile push FILE --service {cohort.service}"
            + _options(cohort)
        )
    for each in streams:
        if each.state is DriftState.DRIFT and now_wall - each.since_wall >= NEW_BASELINE_S:
            how = ".4g" if each.stream == "score" else ".1%"
            value = "" if each.value is None else f" of {each.value:{how}}"
            said.append(
                f"{each.stream}: a baseline{value} instead of {each.baseline or 0.0:{how}}, if the model is to "
                f"be held against what it is like now (it has been so for {_days(now_wall - each.since_wall)})"
            )
    return tuple(said)


def _furthest(features: Iterable[FeatureDrift]) -> list[FeatureDrift]:
    drifted = [each for each in features if each.state is DriftState.DRIFT]
    return sorted(drifted, key=lambda e: (-(e.psi or 0.0), e.feature))


def _options(cohort: Cohort) -> str:
    said = f" --version {cohort.version}" if cohort.version else ""
    return said + (f" --segment {cohort.segment}" if cohort.segment else "")


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:.0f} days"


def since(each: StreamDrift, before: Iterable[StreamDrift]) -> StreamDrift:
    """With the time since which it has been in this state."""
    for old in before:
        if old.stream == each.stream and old.state is each.state:
            return replace(each, since_wall=old.since_wall)
    return each
