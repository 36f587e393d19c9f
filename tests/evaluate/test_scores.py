"""Scores: a fall that matters is found soon, chance and wild values are none, and it goes on after a restart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpuwarden.evaluate.drift.concept import ConceptSettings
from gpuwarden.evaluate.drift.scores import Moments, Scores, moments
from gpuwarden.evaluate.fast import sketch

STEP = 20


def told(scores: Scores, values: list[float], minute: int, streams: int = 100) -> bool:
    was_taken = scores.add(60.0 * minute, 60.0 * minute + 60.0, sketch.of(values))
    scores.judge(60.0 * minute + 60.0, streams=streams)
    return was_taken


def drawn(rng: np.random.Generator, loc: float, sigma: float = 1.0) -> list[float]:
    found: list[float] = rng.normal(loc, sigma, STEP).tolist()
    return found


def learnt(seed: int = 1, minutes: int = 100) -> Scores:
    rng, scores = np.random.default_rng(seed), Scores(ConceptSettings())
    for minute in range(minutes):
        assert told(scores, drawn(rng, 3.6), minute)
    return scores


def test_services_that_stay_as_they_are_have_no_alarm() -> None:
    for seed in range(20):  # services, 5,000 scores each: as people give them
        rng, scores = np.random.default_rng(seed), Scores(ConceptSettings())
        for minute in range(250):
            stars = np.clip(np.round(rng.normal(3.6, 1, STEP)), 1, 5).tolist()
            told(scores, stars, minute, streams=20)
            assert not scores.memory.is_drift


def test_a_fall_by_a_standard_deviation_is_found_within_1000_scores_and_ends() -> None:
    for seed in range(10):
        scores, rng = learnt(seed), np.random.default_rng(100 + seed)
        found = [
            told(scores, drawn(rng, 2.6), 100 + n) and scores.memory.is_drift for n in range(50)
        ]
        assert found[-1]
        assert scores.memory.voted
        assert scores.memory.drift_since_wall is not None
        for n in range(150, 210):
            told(scores, drawn(rng, 3.6), n)
        assert not scores.memory.is_drift


@pytest.mark.parametrize("by", [-0.3, 1.0], ids=["too-small", "a-rise"])
def test_what_does_not_matter_is_no_drift(by: float) -> None:
    scores, rng = learnt(), np.random.default_rng(7)
    for n in range(100):
        told(scores, drawn(rng, 3.6 + by), 100 + n)
        assert not scores.memory.is_drift


def test_one_wild_score_is_no_fall() -> None:
    scores, rng = learnt(), np.random.default_rng(7)
    told(scores, [*drawn(rng, 3.6), -1e9], 100)
    for n in range(40):
        told(scores, drawn(rng, 3.6), 101 + n)
        assert not scores.memory.is_drift


def test_a_baseline_without_spread_is_judged_coarsely_not_by_rounding() -> None:
    scores = Scores(ConceptSettings())
    for minute in range(150):
        told(scores, [5.0] * STEP, minute)
    assert not scores.memory.is_drift
    for minute in range(150, 200):
        told(scores, [5.0] * (STEP - 4) + [1.0] * 4, minute)
    assert scores.memory.is_drift


def test_a_step_counts_once_and_memory_is_enough_to_go_on() -> None:
    scores, rng = learnt(), np.random.default_rng(9)
    again = Scores(ConceptSettings(), scores.memory)
    assert not told(again, [1.0] * STEP, 99)
    assert again.memory == scores.memory
    for n in range(50):
        told(again, drawn(rng, 2.6), 100 + n)
    assert again.memory.is_drift
    assert Scores(ConceptSettings(), again.memory).memory.is_drift


def test_moments_are_those_of_the_values_and_add_up() -> None:
    rng = np.random.default_rng(3)
    parts = [rng.normal(-2, 3, 400), rng.normal(5, 1, 100)]
    both = sum((moments(sketch.of(each.tolist())) for each in parts), Moments())
    every = np.concatenate(parts)
    assert both.count == 500
    assert both.mean == pytest.approx(every.mean())
    assert math.sqrt(both.square / both.count) == pytest.approx(every.std(), rel=0.02)
    assert moments(sketch.of([])) == Moments()
