"""Profile and live window in a few numbers: what people see of a drift."""

from __future__ import annotations

import numpy as np
import pytest

from gpuwarden.evaluate.drift import profile
from gpuwarden.evaluate.drift.profile import CategoryProfile, CategoryWindow
from gpuwarden.evaluate.fast import sketch
from gpuwarden.model.drift import DriftState, NameShare
from gpuwarden.model.evaluation import Categories
from gpuwarden.policy.fleet import drift_shapes
from gpuwarden.policy.fleet.drift_feature import Feature
from gpuwarden.policy.fleet.drift_memory import FeatureMemory
from gpuwarden.policy.fleet.driftlines import ServiceDrift
from tests.policy.fleet.test_driftlines import SETTINGS, V1, drawn, known, window

VALUES = np.random.default_rng(3).gamma(2.0, 10.0, 4000)


def test_a_profile_has_the_quantiles_of_its_values() -> None:
    ref = profile.of_numbers(VALUES)
    made = drift_shapes.between(ref.low, ref.edges, ref.high, ref.counts)
    exact = np.quantile(VALUES, np.linspace(0, 1, 21))
    assert made[0] == pytest.approx(exact[0])
    assert made[-1] == pytest.approx(exact[-1])
    assert list(made) == pytest.approx(exact.tolist(), rel=0.02)
    assert list(made) == sorted(made)


def test_a_live_window_has_them_within_its_sketch() -> None:
    made = drift_shapes.quantiles(sketch.of(VALUES.tolist()))
    exact = np.quantile(VALUES, np.linspace(0, 1, 21))
    assert list(made) == pytest.approx(exact.tolist(), rel=0.03)
    assert drift_shapes.quantiles(sketch.of([])) == ()


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant(value: float) -> None:
    ref = profile.of_numbers([value] * 100)
    assert drift_shapes.between(ref.low, ref.edges, ref.high, ref.counts) == (value,) * 21
    assert drift_shapes.between(0.0, (), 0.0, (0,)) == ()


def test_names_are_the_commonest_of_either() -> None:
    ref = CategoryProfile(counts={f"n{i:02}": 100 - i for i in range(50)}, other=50, missing=7)
    window = CategoryWindow(counts={"new": 30, "n00": 10, "n49": 40}, other=20)
    shape = drift_shapes.names(ref, window)
    assert shape is not None
    assert len(shape.names) == 12
    assert shape.names[0] == NameShare(name="n00", profile=100 / 3825, live=0.1)
    assert NameShare(name="new", profile=0.0, live=0.3) in shape.names
    assert drift_shapes.names(ref, CategoryWindow(counts={}, other=0)) is None


def test_of_another_kind_there_is_none() -> None:
    each = Feature(FeatureMemory(since_wall=0.0))
    each.add(None, Categories(counts={"a": 5}, other=0))
    assert drift_shapes.of(profile.of_numbers(VALUES), each) is None


def test_what_has_drifted_has_a_shape_and_a_memory_has_none() -> None:
    judge, profiles = ServiceDrift("scan", SETTINGS), {V1: known("age", "dose")}
    judge.feed(V1, window(V1, 0, {"age": drawn(1, 300, 2.0), "dose": drawn(2, 300)}))
    (verdict,) = judge.judge(profiles, 60.0)
    age, dose = verdict.features
    assert (age.state, dose.state) == (DriftState.DRIFT, DriftState.STABLE)
    assert age.shape is not None
    assert age.shape.live[10] - age.shape.profile[10] == pytest.approx(2.0, abs=0.3)
    assert dose.shape is None
    memory = judge.memory.cohorts[V1].features["age"].said
    assert memory is not None
    assert memory.shape is None  # a document has no room for many
    again = ServiceDrift("scan", SETTINGS, judge.memory)
    (verdict,) = again.judge(profiles, 120.0)
    assert verdict.features[0].state is DriftState.DRIFT
    assert verdict.features[0].shape is None
