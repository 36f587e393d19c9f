"""Drift of one service: what its versions and segments are fed, and how often they are wrong, window by window.

``feed`` takes each step of a cohort once, merged over its nodes; ``judge`` closes what is full, and says what it
thinks of every cohort. Steps that come twice, or again after a restart, begin before what is known and are left out.
What ``memory`` returns is enough to go on after a restart: batches that were open then are filled again from the
windows that are kept (``needed_since``).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from gpuwarden.evaluate.drift import live, multiplicity, wander
from gpuwarden.evaluate.drift.concept import ConceptSettings
from gpuwarden.evaluate.drift.live import LiveScore
from gpuwarden.evaluate.drift.profile import CategoryWindow, NumericProfile, NumericWindow
from gpuwarden.evaluate.drift.profile_file import ProfileFile
from gpuwarden.evaluate.fast.series import FEATURE_PREFIX
from gpuwarden.model.drift import DriftState, DriftVerdict, FeatureDrift, StreamDrift, worst
from gpuwarden.model.evaluation import Cohort, Window
from gpuwarden.policy.fleet import drift_shapes as shapes
from gpuwarden.policy.fleet import drift_words as words
from gpuwarden.policy.fleet.drift_feature import Feature, is_other_kind, score
from gpuwarden.policy.fleet.drift_memory import (
    CohortMemory,
    FeatureMemory,
    LineSettings,
    ServiceMemory,
)
from gpuwarden.policy.fleet.drift_streams import Streams

DAY_S = 86_400.0
FEATURES_MAX = 256
"""Of a cohort; what a client invents beyond them is not looked at."""


class _Cohort:
    def __init__(self, settings: ConceptSettings, memory: CohortMemory) -> None:
        self.features = {name: Feature(each) for name, each in memory.features.items()}
        self.streams = Streams(settings, memory)
        self.told_wall = memory.told_wall
        self.fed_wall = 0.0
        """End of the newest step of this life; 0: what was open before it is filled again first."""
        self.scored: dict[str, LiveScore] = {}


class ServiceDrift:
    """See the module. One thread."""

    def __init__(
        self, service: str, settings: LineSettings, memory: ServiceMemory | None = None
    ) -> None:
        self.service = service
        self._settings = settings
        known = ServiceMemory() if memory is None else memory
        self._cohorts = {
            cohort: _Cohort(settings.concept, each) for cohort, each in known.cohorts.items()
        }
        self._said: dict[Cohort, DriftVerdict] = {}

    @property
    def memory(self) -> ServiceMemory:
        return ServiceMemory(
            cohorts={
                cohort: CohortMemory(
                    features={name: f.memory for name, f in each.features.items()},
                    errors=each.streams.errors.memory,
                    scores=each.streams.score_memory,
                    streams=each.streams.said,
                    told_wall=each.told_wall,
                )
                for cohort, each in self._cohorts.items()
            }
        )

    @property
    def cohorts(self) -> Collection[Cohort]:
        """That are judged."""
        return self._cohorts.keys()

    @property
    def streams(self) -> int:
        """How many streams of errors and scores are judged."""
        return sum(each.streams.count for each in self._cohorts.values())

    def told_wall(self, cohort: Cohort) -> float:
        """When its newest step ended; 0: there was none."""
        known = self._cohorts.get(cohort)
        return 0.0 if known is None else known.told_wall

    def needed_since(self, cohort: Cohort) -> float:
        """Steps that begin earlier say nothing new."""
        known = self._cohorts.get(cohort)
        if known is None:
            return 0.0
        since = [f.memory.since_wall for f in known.features.values()]
        return known.fed_wall or min([known.streams.upto_wall or known.told_wall, *since])

    def forget(self, kept: Iterable[Cohort]) -> None:
        """All but these."""
        for cohort in self._cohorts.keys() - set(kept):
            del self._cohorts[cohort]
            self._said.pop(cohort, None)

    def feed(self, cohort: Cohort, window: Window) -> None:
        """One step: whole, and after all steps before it."""
        known = self._known(cohort)
        begin, end = window.begin_wall, window.begin_wall + window.length_s
        known.fed_wall = known.told_wall = max(known.told_wall, end)
        for series in sorted(window.sketches.keys() | window.categories.keys()):
            if series.startswith(FEATURE_PREFIX):
                each = self._feature(known, series.removeprefix(FEATURE_PREFIX), begin)
                if each is not None and begin >= each.upto_wall:
                    each.add(window.sketches.get(series), window.categories.get(series))
                    each.upto_wall = end
        known.streams.feed(window)

    def feed_counts(
        self,
        cohort: Cohort,
        begin_wall: float,
        end_wall: float,
        counts: Mapping[str, NumericWindow | CategoryWindow],
    ) -> None:
        """The same of features that are counted on their profile's edges already."""
        known = self._known(cohort)
        known.fed_wall = known.told_wall = max(known.told_wall, end_wall)
        for name, window in counts.items():
            each = self._feature(known, name, begin_wall)
            if each is None or begin_wall < each.upto_wall:
                continue
            each.count(window)
            each.upto_wall = end_wall

    def _known(self, cohort: Cohort) -> _Cohort:
        known = self._cohorts.get(cohort)
        if known is None:
            known = self._cohorts[cohort] = _Cohort(self._settings.concept, CohortMemory())
        return known

    def _feature(self, known: _Cohort, name: str, begin: float) -> Feature | None:
        each = known.features.get(name)
        if each is None and len(known.features) < FEATURES_MAX:
            each = known.features[name] = Feature(FeatureMemory(since_wall=begin))
        return each

    def judge(
        self,
        profiles: Mapping[Cohort, ProfileFile],
        now_wall: float,
        *,
        cohorts: int = 1,
        streams: int = 1,
    ) -> tuple[DriftVerdict, ...]:
        """What is thought of every cohort. ``profiles``: by version and segment; ``cohorts`` and ``streams``: how many
        of the whole fleet are judged, for they share one budget of false alarms."""
        in_fleet = max(streams, cohorts, self.streams)
        for cohort, known in self._cohorts.items():
            known.scored = self._scored(known, profile_of(profiles, cohort), now_wall)
        q = self._level(max(cohorts, len(self._cohorts)))
        adjusted = self._adjusted()
        found = []
        for cohort in sorted(self._cohorts):
            known, profile = self._cohorts[cohort], profile_of(profiles, cohort)
            for name, scored in known.scored.items():
                is_off = adjusted[cohort, name] <= q and live.is_material(
                    scored, self._settings.drift
                )
                ref = None if profile is None else profile.features.get(name)
                said = words.feature(name, scored, adjusted[cohort, name], ref)
                each = known.features[name]
                self._settle(each, said, scored.excess, is_off=is_off, now_wall=now_wall)
            features = self._features(cohort, profile, now_wall)
            said_of = known.streams.judge(now_wall, in_fleet)
            found.append(self._verdict(cohort, profile, features, said_of, now_wall))
        return tuple(found)

    def _level(self, cohorts: int) -> float:
        """Of one round: of the fleet's budget this service's part for as long as the round's windows took."""
        lengths = [
            each.length_s for known in self._cohorts.values() for each in known.scored.values()
        ]
        days = min(1.0, max(self._settings.round_s, min(lengths, default=0.0)) / DAY_S)
        return min(0.05, self._settings.drift.pages_per_day * days / max(1, cohorts))

    def _scored(
        self, known: _Cohort, profile: ProfileFile | None, now_wall: float
    ) -> dict[str, LiveScore]:
        """Of every feature whose window is full; the next begins where it ends."""
        found: dict[str, LiveScore] = {}
        for name, each in known.features.items():
            length_s = each.upto_wall - each.memory.since_wall
            if each.rows >= self._settings.rows and length_s >= self._settings.round_s:
                if profile is not None and name in profile.features:
                    ref = profile.features[name]
                    scored = score(ref, each, self._settings)
                    if scored is not None and profile.rows >= self._settings.reference_min:
                        found[name] = replace(scored, length_s=length_s)
                        is_large = live.is_material(scored, self._settings.drift)
                        each.shape = shapes.of(ref, each) if is_large or each.is_off else None
                each.start(each.upto_wall)
            elif now_wall - each.memory.since_wall > self._settings.stale_s:
                each.start(max(each.upto_wall, now_wall - self._settings.stale_s))
        return found

    def _adjusted(self) -> dict[tuple[Cohort, str], float]:
        """By Benjamini and Hochberg over all features of all versions and segments that were full together; a window
        must be unlikely for how its feature wanders, too."""
        tested = {
            (cohort, name): live.p_value(scored, known.features[name].memory.wander)
            for cohort, known in self._cohorts.items()
            for name, scored in known.scored.items()
        }
        with_p = {key: p for key, p in tested.items() if p is not None}
        adjusted = multiplicity.adjusted(list(with_p.values())) if with_p else ()
        found = dict(zip(with_p, map(float, adjusted), strict=True))
        return {key: found.get(key, 1.0) for key in tested}

    def _settle(
        self, each: Feature, said: FeatureDrift, excess: float, *, is_off: bool, now_wall: float
    ) -> None:
        """Enters at once, for the level is strict; leaves after ``leave_rounds``."""
        before = each.memory.said
        calm = 0 if is_off else each.memory.calm + 1
        was_off = each.is_off
        state = DriftState.STABLE if said.p_value is not None else DriftState.NOT_ENOUGH
        if is_off or (was_off and calm < self._settings.leave_rounds):
            state = DriftState.DRIFT
        since = before.since_wall if before is not None and before.state is state else now_wall
        said = replace(said, state=state, since_wall=since)
        usual = each.memory.wander
        if state is DriftState.STABLE:
            usual = wander.after(usual, excess)
        each.memory = replace(each.memory, said=said, calm=calm, wander=usual)

    def _features(
        self, cohort: Cohort, profile: ProfileFile | None, now_wall: float
    ) -> tuple[FeatureDrift, ...]:
        known = self._cohorts[cohort]
        names = sorted(known.features.keys() | (profile.features.keys() if profile else set()))
        before = {} if cohort not in self._said else _by_name(self._said[cohort])
        found = []
        for name in names[:FEATURES_MAX]:
            each = known.features.get(name)
            said = self._unjudged(known, name, profile, now_wall)
            if said is not None:
                old = before.get(name)
                since = old.since_wall if old and old.state is said.state else now_wall
                found.append(replace(said, since_wall=since))
            elif each is not None and each.memory.said is not None:
                shape = each.shape if each.is_off else None
                found.append(replace(each.memory.said, shape=shape))
        return tuple(found)

    def _unjudged(
        self, known: _Cohort, name: str, profile: ProfileFile | None, now_wall: float
    ) -> FeatureDrift | None:
        """What is said of a feature that cannot be judged; None: it can."""
        each = known.features.get(name)
        ref = None if profile is None else profile.features.get(name)
        rows = 0 if each is None else each.rows
        state, why = DriftState.NOT_ENOUGH, f"{rows} of {self._settings.rows} rows"
        if ref is None or profile is None:
            state = DriftState.NO_PROFILE
            why = "no profile" if profile is None else "the profile does not know it"
        elif each is not None and is_other_kind(each, ref):
            wanted = "a number" if isinstance(ref, NumericProfile) else "a category"
            state, why = DriftState.SCHEMA, f"the profile has it as {wanted}"
        elif profile.rows < self._settings.reference_min:
            why = f"a reference of {profile.rows} rows, {self._settings.reference_min} are needed"
        elif self._is_silent(known, each):
            state, why = DriftState.SCHEMA, "nobody tells it any more"
        elif each is not None and each.memory.said is not None:
            return None
        return FeatureDrift(feature=name, state=state, since_wall=now_wall, rows=rows, why=why)

    def _is_silent(self, known: _Cohort, each: Feature | None) -> bool:
        """Others have half a window of rows since it was told last."""
        last = 0.0 if each is None else each.upto_wall
        enough = self._settings.rows / 2
        return any(
            other is not each and other.rows >= enough and other.memory.since_wall >= last
            for other in known.features.values()
        )

    def _verdict(
        self,
        cohort: Cohort,
        profile: ProfileFile | None,
        features: tuple[FeatureDrift, ...],
        streams: tuple[StreamDrift, ...],
        now_wall: float,
    ) -> DriftVerdict:
        judged = [each.state for each in features] + [each.state for each in streams]
        if profile is None and not streams:
            judged = [DriftState.NO_PROFILE]
        state = worst(tuple(judged))
        since = [e.since_wall for e in features if e.state is state]
        since += [e.since_wall for e in streams if e.state is state]
        verdict = DriftVerdict(
            cohort=cohort,
            state=state,
            since_wall=min(since, default=now_wall),
            at_wall=now_wall,
            features=features,
            streams=streams,
            summary=words.summary(cohort, state, features, streams),
            proposals=words.proposals(cohort, features, streams, now_wall),
        )
        self._said[cohort] = verdict
        return verdict


def profile_of(profiles: Mapping[Cohort, ProfileFile], cohort: Cohort) -> ProfileFile | None:
    """That of this version and segment, or of any version of this segment. Never that of all segments together: old
    equipment is no drift of the new."""
    exact = profiles.get(replace(cohort, arm=""))
    return exact or profiles.get(replace(cohort, arm="", version=""))


def _by_name(verdict: DriftVerdict) -> dict[str, FeatureDrift]:
    return {each.feature: each for each in verdict.features}
