"""Accuracy five points down: found in a thousand labels, and not where nothing happened."""

from __future__ import annotations

import numpy as np
import pytest

from gpuwarden.evaluate.fast import accuracy
from gpuwarden.evaluate.fast.accuracy import AccuracyFinding, AccuracySettings, AccuracyState

SETTINGS = AccuracySettings()


def step(
    state: AccuracyState, labels: int, wrong: int, reference: float, limit_nats: float = 12.0
) -> AccuracyState:
    return accuracy.step(
        state, labels, wrong, reference=reference, limit_nats=limit_nats, settings=SETTINGS
    )


def run(error: list[bool], reference: float, state: AccuracyState | None = None) -> list[bool]:
    """Red or not after each label."""
    state = state or AccuracyState()
    reds = []
    for wrong in error:
        state = step(state, 1, int(wrong), reference)
        reds.append(state.is_red)
    return reds


def test_five_points_are_found_in_a_thousand_labels() -> None:
    r = np.random.default_rng(1)
    found = 0
    for _ in range(100):
        before = r.random(2000) < 0.03
        after = r.random(1000) < 0.08
        reds = run([*before.tolist(), *after.tolist()], 0.03)
        assert not any(reds[:2000])
        found += any(reds)
    assert found >= 95


def test_better_than_before_is_never_red() -> None:
    r = np.random.default_rng(2)
    assert not any(run((r.random(20_000) < 0.02).tolist(), 0.05))


def test_a_batch_is_its_labels_in_any_order_where_the_evidence_stays_above_zero() -> None:
    start = AccuracyState(evidence_nats=8)
    singles = start
    for wrong in (1, 0, 0, 1, 0):
        singles = step(singles, 1, wrong, 0.05)
    batch = step(start, 5, 2, 0.05)
    assert batch.evidence_nats == pytest.approx(singles.evidence_nats)
    assert batch.labels == singles.labels == 5


def test_it_stays_red_until_it_has_been_well_for_long() -> None:
    state = step(AccuracyState(), 200, 100, 0.05)
    assert accuracy.finding(state, 0.05) is AccuracyFinding.RED
    assert state.evidence_nats > 12
    seen = 0
    while accuracy.finding(state, 0.05) is AccuracyFinding.RED:
        state = step(state, 10, 0, 0.05)
        seen += 10
        assert seen < 2000
    assert seen >= SETTINGS.recovery_labels
    assert step(state, 60, 40, 0.05).is_red


def test_reference() -> None:
    assert accuracy.reference_error(999, 10, SETTINGS) is None
    large, small = (accuracy.reference_error(n, n // 20, SETTINGS) for n in (10**9, 1000))
    assert large == pytest.approx(0.05, rel=1e-3)
    assert small == pytest.approx(0.05 + 1 * (0.05 * 0.95 / 1000) ** 0.5)
    flawless = accuracy.reference_error(10**9, 0, SETTINGS)
    assert flawless == pytest.approx(SETTINGS.error_floor, rel=1e-2)
    worst = accuracy.reference_error(1000, 1000, SETTINGS)
    assert worst is not None
    assert step(AccuracyState(), 10, 10, worst).labels == 10
    with pytest.raises(ValueError, match="wrong of"):
        accuracy.reference_error(10, 11, SETTINGS)


def test_findings() -> None:
    assert accuracy.finding(AccuracyState(), None) is AccuracyFinding.NO_DATA
    assert accuracy.finding(AccuracyState(), 0.05) is AccuracyFinding.GOOD
    assert accuracy.finding(AccuracyState(is_red=True), 0.05) is AccuracyFinding.RED
    assert step(AccuracyState(), 0, 0, 0.05) == AccuracyState()
    with pytest.raises(ValueError, match="wrong of"):
        step(AccuracyState(), 1, 2, 0.05)


@pytest.mark.parametrize(("error", "limit_nats"), [(0.03, 3.0), (0.05, 4.0), (0.2, 3.5)])
def test_labels_to_a_false_alarm_by_drawing(error: float, limit_nats: float) -> None:
    """Of 600 runs side by side; the approximation is at most a third off, to the careful side."""
    r = np.random.default_rng(4)
    up, down = np.log((error + 0.05) / error), np.log((1 - error) / (0.95 - error))
    evidence, ends, at = np.zeros(600), np.zeros(600), 0
    while (ends == 0).any():
        at += 1
        evidence = np.maximum(0, evidence + np.where(r.random(600) < error, up, -down))
        ends = np.where((ends == 0) & (evidence >= limit_nats), at, ends)
    expected = accuracy.labels_to_false_alarm(error, limit_nats, 0.05)
    assert ends.mean() == pytest.approx(expected, rel=0.3)


def test_the_limit_keeps_the_budget_of_each_service() -> None:
    rare, often = (accuracy.limit(0.05, n, SETTINGS) for n in (50, 5000))
    assert often > rare > SETTINGS.least_limit_nats
    run = accuracy.labels_to_false_alarm(0.05, often, 0.05)
    assert run == pytest.approx(5000 / SETTINGS.false_alarms_per_day, rel=0.02)
    assert accuracy.limit(0.05, 0, SETTINGS) == pytest.approx(SETTINGS.least_limit_nats, abs=0.02)
    with pytest.raises(ValueError, match="labels_per_day"):
        accuracy.limit(0.05, -1, SETTINGS)
