"""Inputs that are missing more often than in the profile: named and told, whatever the values that are there say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gpuwarden.evaluate.drift import absence, profile
from gpuwarden.evaluate.drift.profile import CategoryProfile, NumericProfile
from gpuwarden.evaluate.drift.profile_file import ProfileFile
from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.model.drift import DriftState, DriftVerdict, FeatureDrift
from gpuwarden.model.evaluation import Categories, Cohort, Window
from gpuwarden.policy.fleet.drift_memory import LineSettings
from gpuwarden.policy.fleet.driftlines import ServiceDrift

V1 = Cohort(service="scan", version="v1")
ROWS = 1000
KNOWN = NumericProfile(
    edges=(0.0,),
    counts=(2450, 2450),
    centres=(-1.0, 1.0),
    missing=100,
    mean=0.0,
    std=1.0,
    low=-2.0,
    high=2.0,
)


def known(share: float = 0.02) -> ProfileFile:
    values = np.random.default_rng(1).normal(size=5000)
    values[: round(share * 5000)] = np.nan
    site = CategoryProfile(counts={"north": 3000, "south": 1900}, other=0, missing=100)
    return ProfileFile(rows=5000, features={"age": profile.of_numbers(values), "site": site})


def told(minute: int, *, age: int = 0, site: int = 0, has_names: bool = True) -> Window:
    """Of 1,000 rows so many lack it."""
    r = np.random.default_rng(minute)
    north = round((ROWS - site) * 0.61)
    categories = {"missing": Categories(counts={"age": age, "site": site})} if has_names else {}
    if site < ROWS:
        counts = {"north": north, "south": ROWS - site - north}
        categories["feature.site"] = Categories(counts=counts)
    values = r.normal(size=ROWS - age).tolist()
    return Window(
        cohort=V1,
        begin_wall=60.0 * minute,
        length_s=60.0,
        sketches={"feature.age": sketches.of(values)} if values else {},
        categories=categories,
    )


def judged(judge: ServiceDrift, window: Window, of: ProfileFile | None = None) -> DriftVerdict:
    judge.feed(V1, window)
    end = window.begin_wall + window.length_s
    (verdict,) = judge.judge({V1: of or known()}, end, cohorts=100)
    return verdict


def row(verdict: DriftVerdict, name: str) -> FeatureDrift:
    return next(each for each in verdict.features if each.feature == name)


def test_an_input_that_goes_missing_is_named_with_how_often() -> None:
    judge = ServiceDrift("scan", LineSettings())
    assert judged(judge, told(0, age=20, site=20)).state is DriftState.STABLE
    verdict = judged(judge, told(1, age=320, site=20))
    assert verdict.drifted == ("age",)
    age = row(verdict, "age")
    assert (age.missing_share, age.was_missing) == (0.32, 0.02)
    assert age.why == "missing in 32.0%, in the profile 2.0%"
    assert "age (missing in 32.0%, was 2.0%" in verdict.summary
    # Two calm windows end it, as any drift.
    assert judged(judge, told(2, age=20, site=20)).drifted == ("age",)
    assert judged(judge, told(3, age=20, site=20)).state is DriftState.STABLE


@pytest.mark.parametrize("name", ["age", "site"])
def test_one_that_is_there_no_more_at_all_is_missing_and_no_other_schema(name: str) -> None:
    judge = ServiceDrift("scan", LineSettings())
    judged(judge, told(0, age=20, site=20))
    gone = {"age": 20, "site": 20, name: ROWS}
    verdict = judged(judge, told(1, **gone))  # type: ignore[arg-type]
    assert verdict.drifted == (name,)
    assert row(verdict, name).missing_share == 1.0
    assert row(verdict, name).state is DriftState.DRIFT
    assert "PSI" not in verdict.summary


def test_a_little_more_a_fall_and_a_node_that_does_not_tell_are_no_news() -> None:
    judge = ServiceDrift("scan", LineSettings())
    assert judged(judge, told(0, age=60, site=20)).state is DriftState.STABLE
    assert judged(judge, told(1, age=1, site=1)).state is DriftState.STABLE
    verdict = judged(judge, told(2, has_names=False))
    assert verdict.state is DriftState.STABLE
    assert row(verdict, "age").missing_share is None
    often = known(0.5)
    assert judged(ServiceDrift("scan", LineSettings()), told(3, age=500), often).state is (
        DriftState.STABLE
    )


def test_what_is_usual_stays_quiet() -> None:
    """A share of 2 % in 1,000 rows is 20 give or take 4.4; ten thousand windows of it are no finding."""
    r, limits = np.random.default_rng(5), LineSettings().drift
    counts = r.binomial(ROWS, 0.02, 10_000).tolist()
    for missing in {int(count) for count in counts}:
        found = absence.of(KNOWN, rows=ROWS - missing, missing=missing)
        if found is not None:
            assert not absence.is_material(found, limits)


def test_the_chance_counts_how_small_the_profile_is() -> None:
    small = replace(KNOWN, counts=(49, 49), missing=2)
    of_small = absence.of(small, rows=900, missing=100)
    of_large = absence.of(KNOWN, rows=900, missing=100)
    assert of_small is not None
    assert of_large is not None
    assert of_large.p_value < 1e-10
    assert 1e-3 < of_small.p_value < 0.1
    assert absence.of(KNOWN, rows=10, missing=20) is None
    site = CategoryProfile(counts={"a": 98}, other=0, missing=2)
    assert absence.of(site, rows=900, missing=100) == of_small


def test_a_flood_of_names_is_bounded() -> None:
    judge = ServiceDrift("scan", LineSettings())
    names = {f"x{n}": 1 for n in range(400)}
    flood = {"missing": Categories(counts=names), "feature.site": Categories(counts={"north": 9})}
    judge.feed(V1, replace(told(0), categories=flood))
    assert len(judge.memory.cohorts[V1].features) == 256
