"""Drift of a service: windows of its versions and segments, each once, against their own profiles."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gpuwarden.evaluate.drift import profile
from gpuwarden.evaluate.drift.profile import CategoryWindow
from gpuwarden.evaluate.drift.profile_file import ProfileFile
from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.model.drift import DriftState, DriftVerdict, FeatureDrift
from gpuwarden.model.evaluation import Categories, Cohort, Window
from gpuwarden.policy.fleet.drift_memory import LineSettings
from gpuwarden.policy.fleet.driftlines import ServiceDrift, profile_of

if TYPE_CHECKING:
    from collections.abc import Mapping

V1 = Cohort(service="scan", version="v1")
OLD = Cohort(service="scan", version="v1", segment="old")
SETTINGS = LineSettings(rows=200)
RNG_ROWS = 5000


def drawn(seed: int, n: int, loc: float = 0.0) -> list[float]:
    found: list[float] = np.random.default_rng(seed).normal(loc, 1, n).tolist()
    return found


def known(*names: str, loc: float = 0.0) -> ProfileFile:
    features = {n: profile.of_numbers(drawn(i, RNG_ROWS, loc)) for i, n in enumerate(names)}
    return ProfileFile(rows=RNG_ROWS, features=dict(features))


def window(
    cohort: Cohort, minute: int, values: Mapping[str, list[float]], labels: int = 0, wrong: int = 0
) -> Window:
    return Window(
        cohort=cohort,
        begin_wall=60.0 * minute,
        length_s=60.0,
        sketches={f"feature.{name}": sketches.of(each) for name, each in values.items()},
        counts={"labels": float(labels), "correct": float(labels - wrong)} if labels else {},
    )


def of(verdicts: tuple[DriftVerdict, ...], cohort: Cohort) -> DriftVerdict:
    return next(each for each in verdicts if each.cohort == cohort)


def row(verdict: DriftVerdict, name: str) -> FeatureDrift:
    return next(each for each in verdict.features if each.feature == name)


def test_a_shift_is_found_named_and_ends_slowly() -> None:
    judge, profiles = ServiceDrift("scan", SETTINGS), {V1: known("age", "dose")}
    states = []
    for minute in range(8):
        loc = 1.0 if 2 <= minute < 4 else 0.0
        values = {"age": drawn(100 + minute, 300, loc), "dose": drawn(200 + minute, 300)}
        judge.feed(V1, window(V1, minute, values))
        verdict = of(judge.judge(profiles, 60.0 * (minute + 1), cohorts=100), V1)
        states.append(verdict.state)
        if minute == 2:
            assert verdict.drifted == ("age",)
            assert "age" in verdict.summary
            assert "version v1" in verdict.summary
            assert "sigma" in verdict.summary
            assert verdict.since_wall == 180.0
            found = row(verdict, "age")
            assert found.p_value is not None
            assert found.p_value < 1e-10
            assert found.wasserstein_norm == pytest.approx(1.0, abs=0.2)
            assert row(verdict, "dose").state is DriftState.STABLE
        if minute == 3:
            assert verdict.since_wall == 180.0
    drift, stable = DriftState.DRIFT, DriftState.STABLE
    assert states == [stable, stable, drift, drift, drift, stable, stable, stable]


def test_a_window_waits_until_it_is_full() -> None:
    judge, profiles = ServiceDrift("scan", SETTINGS), {V1: known("age")}
    for minute in range(3):
        judge.feed(V1, window(V1, minute, {"age": drawn(minute, 60, 2.0)}))
        verdict = of(judge.judge(profiles, 60.0 * (minute + 1)), V1)
        assert verdict.state is DriftState.NOT_ENOUGH
        assert f"{60 * (minute + 1)} of 200 rows" in row(verdict, "age").why
    judge.feed(V1, window(V1, 3, {"age": drawn(3, 60, 2.0)}))
    assert of(judge.judge(profiles, 240.0), V1).state is DriftState.DRIFT


def test_one_row_at_a_time_adds_up() -> None:
    judge, profiles = ServiceDrift("scan", SETTINGS), {V1: known("age")}
    for minute, value in enumerate(drawn(9, 200, 3.0)):
        judge.feed(V1, window(V1, minute, {"age": [value]}))
        verdict = of(judge.judge(profiles, 60.0 * (minute + 1)), V1)
        assert (verdict.state is DriftState.DRIFT) is (minute == 199)


def test_segments_have_their_own_profile() -> None:
    """Old equipment is no drift of the new; without a profile of its own nothing is said of it."""
    judge = ServiceDrift("scan", SETTINGS)
    for cohort, loc in ((V1, 0.0), (OLD, 4.0)):
        judge.feed(cohort, window(cohort, 0, {"age": drawn(50, 300, loc)}))
    verdicts = judge.judge({V1: known("age")}, 60.0)
    assert of(verdicts, V1).state is DriftState.STABLE
    assert of(verdicts, OLD).state is DriftState.NO_PROFILE
    for cohort, loc in ((V1, 0.0), (OLD, 4.0)):
        judge.feed(cohort, window(cohort, 1, {"age": drawn(51, 300, loc)}))
    own = judge.judge({V1: known("age"), OLD: known("age", loc=4.0)}, 120.0)
    assert of(own, OLD).state is DriftState.STABLE


def test_a_profile_of_any_version_holds_for_each() -> None:
    any_old, old = Cohort(service="scan", segment="old"), known("age")
    assert profile_of({any_old: old}, OLD) is old
    assert profile_of({any_old: old}, V1) is None
    assert profile_of({Cohort(service="scan"): old}, OLD) is None


def test_what_comes_twice_or_late_counts_once() -> None:
    one, two = ServiceDrift("scan", SETTINGS), ServiceDrift("scan", SETTINGS)
    profiles = {V1: known("age")}
    steps = [window(V1, m, {"age": drawn(m, 70)}, labels=20, wrong=m % 3) for m in range(30)]
    for minute, step in enumerate(steps):
        one.feed(V1, step)
        for each in (step, step, steps[minute // 2], steps[0]):
            two.feed(V1, each)
        at = 60.0 * (minute + 1)
        assert one.judge(profiles, at) == two.judge(profiles, at)
    assert one.memory == two.memory


def test_it_goes_on_after_a_restart() -> None:
    """Open windows are filled again from what is kept; what was judged is not judged again."""
    profiles = {V1: known("age")}
    steps = [window(V1, m, {"age": drawn(m, 70, 2.0 if m > 8 else 0)}, 20, 2) for m in range(20)]
    whole, first = ServiceDrift("scan", SETTINGS), ServiceDrift("scan", SETTINGS)
    for minute, step in enumerate(steps):
        at = 60.0 * (minute + 1)
        whole.feed(V1, step)
        said = whole.judge(profiles, at)
        if minute < 7:
            first.feed(V1, step)
            first.judge(profiles, at)
    again = ServiceDrift("scan", SETTINGS, first.memory)
    since = again.needed_since(V1)
    assert since <= 6 * 60.0
    for minute, step in enumerate(steps):
        if step.begin_wall >= since:
            again.feed(V1, step)
            late = again.judge(profiles, 60.0 * (minute + 1))
    assert late == said
    assert again.memory == whole.memory
    assert again.needed_since(V1) == 20 * 60.0


def test_what_the_schema_has_lost_or_changed_is_said() -> None:
    judge, profiles = ServiceDrift("scan", SETTINGS), {V1: known("age", "dose")}
    judge.feed(V1, window(V1, 0, {"age": drawn(1, 300), "dose": drawn(2, 300)}))
    judge.judge(profiles, 60.0)
    for minute in (1, 2):
        judge.feed(V1, window(V1, minute, {"age": drawn(minute, 150), "new": drawn(3, 150)}))
        verdict = of(judge.judge(profiles, 60.0 * (minute + 1)), V1)
    judge.feed(V1, window(V1, 3, {"age": drawn(4, 150), "new": drawn(3, 150)}))
    verdict = of(judge.judge(profiles, 240.0), V1)
    assert row(verdict, "dose").state is DriftState.SCHEMA
    assert "nobody tells it" in row(verdict, "dose").why
    assert row(verdict, "new").state is DriftState.NO_PROFILE
    assert verdict.state is DriftState.SCHEMA
    assert "dose" in verdict.summary


def test_a_kind_that_changed_is_said() -> None:
    named = ProfileFile(rows=1000, features={"age": profile.of_categories(["a"] * 1000)})
    judge = ServiceDrift("scan", SETTINGS)
    judge.feed(V1, window(V1, 0, {"age": drawn(1, 300)}))
    judge.judge({V1: named}, 60.0)
    judge.feed(V1, window(V1, 1, {"age": drawn(1, 100)}))
    verdict = of(judge.judge({V1: named}, 120.0), V1)
    assert row(verdict, "age").state is DriftState.SCHEMA
    assert "category" in row(verdict, "age").why


def test_categories_are_counted_on_the_profile() -> None:
    ref = ProfileFile(
        rows=1000, features={"site": profile.of_categories(["a"] * 600 + ["b"] * 400)}
    )
    judge = ServiceDrift("scan", SETTINGS)
    same = CategoryWindow(counts={"a": 180, "b": 120})
    judge.feed_counts(V1, 0.0, 60.0, {"site": same})
    assert of(judge.judge({V1: ref}, 60.0), V1).state is DriftState.STABLE
    judge.feed_counts(V1, 60.0, 120.0, {"site": CategoryWindow(counts={"a": 30}, other=270)})
    verdict = of(judge.judge({V1: ref}, 120.0), V1)
    assert verdict.drifted == ("site",)
    assert "90% in categories the profile does not have" in verdict.summary


def test_names_that_nodes_tell_are_counted_on_the_profile() -> None:
    kept = profile.of_categories(["a"] * 600 + ["b"] * 400)
    ref = ProfileFile(rows=1000, features={"site": kept, "age": profile.of_numbers([1.0] * 1000)})
    judge = ServiceDrift("scan", SETTINGS)
    for minute, other in enumerate((0, 270)):
        site = Categories(counts={"a": 180 - other // 2, "b": 120}, other=other)
        step = window(V1, minute, {"age": [1.0] * 300})
        judge.feed(V1, replace(step, categories={"feature.site": site}))
        verdict = of(judge.judge({V1: ref}, 60.0 * (minute + 1)), V1)
        assert verdict.drifted == (("site",) if other else ())
    mixed = replace(
        window(V1, 3, {"age": [1.0] * 150}),
        categories={"feature.age": Categories(counts={"old": 150})},
    )
    judge.feed(V1, mixed)
    assert judge.judge({V1: ref}, 240.0)  # numbers and names of one feature: no exception


def test_a_small_reference_is_not_enough() -> None:
    few = ProfileFile(rows=50, features={"age": profile.of_numbers(drawn(1, 50))})
    judge = ServiceDrift("scan", SETTINGS)
    judge.feed(V1, window(V1, 0, {"age": drawn(1, 300, 9.0)}))
    verdict = of(judge.judge({V1: few}, 60.0), V1)
    assert verdict.state is DriftState.NOT_ENOUGH
    assert "reference of 50 rows" in row(verdict, "age").why


def test_a_new_profile_holds_from_the_next_window_on() -> None:
    judge = ServiceDrift("scan", SETTINGS)
    judge.feed(V1, window(V1, 0, {"age": drawn(1, 300, 3.0)}))
    assert of(judge.judge({V1: known("age")}, 60.0), V1).state is DriftState.DRIFT
    for minute in (1, 2):
        judge.feed(V1, window(V1, minute, {"age": drawn(minute, 300, 3.0)}))
        last = of(judge.judge({V1: known("age", loc=3.0)}, 60.0 * (minute + 1)), V1)
    assert last.state is DriftState.STABLE


def test_errors_are_judged_without_a_profile_and_say_by_what() -> None:
    judge = ServiceDrift("scan", SETTINGS)
    r = np.random.default_rng(1)
    verdict = None
    for minute in range(400):
        share = 0.05 if minute < 250 else 0.30
        step = window(V1, minute, {}, labels=20, wrong=int(r.binomial(20, share)))
        judge.feed(V1, step)
        verdict = of(judge.judge({}, 60.0 * (minute + 1)), V1)
        if verdict.state is DriftState.DRIFT:
            break
    assert verdict is not None
    (errors,) = verdict.streams
    assert errors.state is DriftState.DRIFT
    assert errors.version.startswith("river ")
    assert len(errors.detectors) >= 2
    assert "became worse" in verdict.summary
    assert errors.version in verdict.summary
    assert minute < 300


def test_after_days_a_person_is_asked_and_nothing_is_changed() -> None:
    judge, profiles = ServiceDrift("scan", SETTINGS), {V1: known("age")}
    for minute in (0, 6000):
        judge.feed(V1, window(V1, minute, {"age": drawn(minute, 300, 3.0)}))
        verdict = of(judge.judge(profiles, 60.0 * (minute + 1)), V1)
        assert verdict.state is DriftState.DRIFT
        assert bool(verdict.proposals) is (minute > 0)
    assert "gpuwarden model profile push FILE --service scan --version v1" in verdict.proposals[0]


def test_what_is_forgotten_is_gone() -> None:
    judge = ServiceDrift("scan", SETTINGS)
    judge.feed(V1, window(V1, 0, {"age": drawn(1, 10)}))
    judge.feed(OLD, window(OLD, 0, {"age": drawn(1, 10)}))
    judge.forget([V1])
    assert [each.cohort for each in judge.judge({}, 60.0)] == [V1]
    assert judge.needed_since(OLD) == 0.0


def test_invented_features_are_bounded() -> None:
    judge = ServiceDrift("scan", SETTINGS)
    for minute in range(10):
        judge.feed(V1, window(V1, minute, {f"f{minute}-{i}": [1.0] for i in range(60)}))
    (verdict,) = judge.judge({}, 600.0)
    assert len(verdict.features) == 256


def scored(minute: int, seed: int, fall: float = 0.0) -> Window:
    stars = np.clip(np.rint(np.random.default_rng(seed).normal(4 - fall, 1, 100)), 1, 5).tolist()
    return Window(
        cohort=V1, begin_wall=60.0 * minute, length_s=60.0, sketches={"score": sketches.of(stars)}
    )


def test_scores_of_people_are_a_stream_beside_errors_and_share_the_budget() -> None:
    judge = ServiceDrift("scan", SETTINGS)
    judge.feed(V1, window(V1, 0, {}, labels=100, wrong=3))
    assert judge.streams == 1
    for minute in range(1, 21):
        judge.feed(V1, scored(minute, minute))
        verdict = of(judge.judge({}, 60.0 * (minute + 1)), V1)
    assert judge.streams == 2
    assert [each.stream for each in verdict.streams] == ["errors", "score"]
    assert verdict.streams[1].state is DriftState.STABLE
    for minute in range(21, 31):
        judge.feed(V1, scored(minute, minute, fall=1.0))
        verdict = of(judge.judge({}, 60.0 * (minute + 1)), V1)
    errors, score = verdict.streams
    assert errors.state is DriftState.NOT_ENOUGH
    assert score.state is DriftState.DRIFT
    assert score.value is not None
    assert score.baseline == pytest.approx(3.9, abs=0.15)
    assert score.value == pytest.approx(3.0, abs=0.15)
    assert verdict.summary.startswith("the model of version v1 became worse: score 3.8")
    # After a restart it is still so, and what is kept is not taken again.
    again = ServiceDrift("scan", SETTINGS, judge.memory)
    assert again.needed_since(V1) == 60.0
    again.feed(V1, scored(30, 30))
    assert again.memory == judge.memory
