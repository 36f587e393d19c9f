"""When to train again: by the calendar, by a trigger, in steps; and what holds it back."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from gpuwarden.evaluate.quality.retrain import (
    Hold,
    ModelState,
    Reason,
    RetrainPolicy,
    Training,
    decide,
)

DAY = 86_400.0
NOW = 100 * DAY
POLICY = RetrainPolicy(every_s=30 * DAY, incremental_labels=500, cooldown_s=DAY)
QUIET: dict[str, Any] = {
    "trained_wall": NOW - 10 * DAY,
    "accuracy_baseline": 0.90,
    "accuracy_low": 0.88,
    "accuracy_high": 0.91,
    "features": 20,
    "drifted": ("age",),
    "new_labels": 300,
}


def _state(**changed: Any) -> ModelState:
    return ModelState(**{**QUIET, **changed})


def test_nothing_to_do_until_the_calendar_says_so() -> None:
    found = decide(POLICY, _state(), NOW)
    assert (found.training, found.evidence, found.holds) == (Training.NONE, (), ())
    assert found.next_wall == NOW + 20 * DAY


@pytest.mark.parametrize(
    ("changed", "training", "reasons"),
    [
        ({"trained_wall": NOW - 30 * DAY}, Training.FULL, [Reason.SCHEDULED]),
        ({"trained_wall": NOW - 30 * DAY + 1}, Training.NONE, []),
        ({"accuracy_high": 0.849}, Training.FULL, [Reason.ACCURACY]),
        ({"accuracy_high": 0.851}, Training.NONE, []),
        (
            {"accuracy_high": 0.82, "new_labels": 500},
            Training.INCREMENTAL,
            [Reason.ACCURACY, Reason.LABELS],
        ),
        (
            {"accuracy_high": 0.79, "new_labels": 500},
            Training.FULL,
            [Reason.ACCURACY, Reason.LABELS],
        ),
        ({"drifted": tuple("abcdef")}, Training.FULL, [Reason.DRIFT]),
        ({"drifted": tuple("abcde")}, Training.NONE, []),
        (
            {"drifted": tuple("abcdef"), "new_labels": 900},
            Training.FULL,
            [Reason.DRIFT, Reason.LABELS],
        ),
        ({"new_labels": 500}, Training.INCREMENTAL, [Reason.LABELS]),
        ({"new_labels": 499}, Training.NONE, []),
    ],
)
def test_what_asks_for_what(
    changed: dict[str, Any], training: Training, reasons: list[Reason]
) -> None:
    found = decide(POLICY, _state(**changed), NOW)
    assert (found.training, [each.reason for each in found.evidence]) == (training, reasons)
    assert found.wanted is training
    assert all(each.value >= each.limit for each in found.evidence)


def test_the_evidence_names_the_features() -> None:
    (found,) = decide(
        POLICY, _state(drifted=("size", "age", "age", "site", "dose", "kvp", "spot")), NOW
    ).evidence
    assert (found.detail, found.value, found.limit) == (
        "age, dose, kvp, site, size, spot",
        0.3,
        0.3,
    )


@pytest.mark.parametrize(
    ("changed", "hold"),
    [
        ({"is_frozen": True}, Hold.FROZEN),
        ({"is_running": True}, Hold.RUNNING),
        ({"trained_wall": NOW - DAY + 1}, Hold.COOLDOWN),
        ({"trained_wall": NOW + DAY}, Hold.COOLDOWN),
        ({"new_labels": 199}, Hold.TOO_FEW_LABELS),
    ],
)
def test_what_holds_it_back_leaves_the_evidence(changed: dict[str, Any], hold: Hold) -> None:
    found = decide(POLICY, _state(accuracy_high=0.7, **changed), NOW)
    assert (found.training, found.wanted, found.holds) == (Training.NONE, Training.FULL, (hold,))
    assert found.evidence[0].reason is Reason.ACCURACY
    assert (found.next_wall is not None) == (hold is Hold.COOLDOWN)


def test_the_calendar_needs_no_new_labels() -> None:
    found = decide(POLICY, _state(trained_wall=0.0, new_labels=0), NOW)
    assert (found.training, found.holds) == (Training.FULL, ())


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_what_is_not_known_triggers_nothing(unknown: float | None) -> None:
    state = _state(accuracy_baseline=unknown, trained_wall=unknown, features=0, drifted=("a", "b"))
    assert decide(POLICY, state, NOW).training is Training.NONE
    assert decide(POLICY, ModelState(), NOW).evidence == ()


def test_policies_that_are_off() -> None:
    off = RetrainPolicy(accuracy_drop=None, drifted_share=None)
    state = _state(
        accuracy_high=0.1, drifted=tuple("abcdefghijkl"), new_labels=10**6, trained_wall=0.0
    )
    assert decide(off, state, NOW).evidence == ()


def test_every_combination_holds_the_promises() -> None:
    choices: dict[str, tuple[Any, ...]] = {
        "trained_wall": (None, 0.0, NOW - 1.0),
        "accuracy_high": (None, 0.5, 0.84, 0.91),
        "drifted": ((), tuple("abcdefgh")),
        "new_labels": (0, 250, 600),
        "is_frozen": (False, True),
        "is_running": (False, True),
    }
    for values in itertools.product(*choices.values()):
        state = _state(**dict(zip(choices, values, strict=True)))
        found = decide(POLICY, state, NOW)
        assert found.training in (Training.NONE, found.wanted)
        assert (found.training is Training.NONE) == (
            found.wanted is Training.NONE or bool(found.holds)
        )
        if found.training is not Training.NONE:
            assert found.evidence
            assert not state.is_frozen
            assert not state.is_running
