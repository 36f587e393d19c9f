"""People's scores of answers: a fall is found, whatever their scale; what is usual is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydantic import TypeAdapter

from gpuwarden.evaluate.drift.concept import ConceptSettings
from gpuwarden.evaluate.drift.scores import ScoreMemory, Scores, cut_of, low_of
from gpuwarden.evaluate.fast import sketch as sketches

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

STEP = 50
SETTINGS = ConceptSettings()


def stars(r: Generator, n: int, fall: float = 0.0) -> list[float]:
    """One to five, as people give them; ``fall`` in stars, of a spread of about one."""
    found: list[float] = np.clip(np.rint(r.normal(4.0 - fall, 1.0, n)), 1, 5).tolist()
    return found


def errors(r: Generator, n: int, fall: float = 0.0) -> list[float]:
    """A regression's negated errors: negative, of no fixed scale."""
    found: list[float] = (-np.abs(r.normal(0, 30.0, n)) - fall * 18.0).tolist()
    return found


def shares(r: Generator, n: int, fall: float = 0.0) -> list[float]:
    found: list[float] = np.clip(r.normal(0.8 - 0.1 * fall, 0.1, n), 0, 1).tolist()
    return found


def fed(known: Scores, values: list[float], *, at: int = 0, streams: int = 100) -> int | None:
    """Step by step; how many scores had come when it was a drift."""
    for start in range(0, len(values), STEP):
        step = at + start // STEP
        known.add(60.0 * step, 60.0 * (step + 1), sketches.of(values[start : start + STEP]))
        known.judge(60.0 * (step + 1), streams=streams)
        if known.concept.is_drift:
            return start + STEP
    return None


@pytest.mark.parametrize("draw", [stars, errors, shares])
def test_a_fall_by_one_spread_is_found_within_a_thousand(
    draw: Callable[[Generator, int, float], list[float]],
) -> None:
    for seed in range(5):
        r, known = np.random.default_rng(seed), Scores(SETTINGS)
        assert fed(known, draw(r, 4000, 0.0)) is None
        found = fed(known, draw(r, 1000, 1.0), at=80)
        assert found is not None, seed
        assert known.newest is not None
        assert known.baseline is not None
        assert known.newest < known.baseline


@pytest.mark.parametrize("draw", [stars, errors, shares])
def test_what_is_usual_is_no_fall_and_a_rise_is_none(
    draw: Callable[[Generator, int, float], list[float]],
) -> None:
    r, known = np.random.default_rng(7), Scores(SETTINGS)
    assert fed(known, draw(r, 20_000, 0.0)) is None
    assert fed(known, draw(r, 2000, -1.0), at=400) is None


def test_it_goes_on_after_a_restart_and_takes_each_step_once() -> None:
    r, adapter = np.random.default_rng(1), TypeAdapter(ScoreMemory)
    whole, cut = Scores(SETTINGS), Scores(SETTINGS)
    values = stars(r, 3000)
    fed(whole, values)
    for start in range(0, 3000, 600):  # before its reference is whole, and after
        fed(cut, values[start : start + 600], at=start // STEP)
        cut = Scores(SETTINGS, adapter.validate_json(adapter.dump_json(cut.memory)))
        again = sketches.of(values[start : start + STEP])
        assert not cut.add(60.0 * (start // STEP), 60.0 * (start // STEP + 1), again)
    assert cut.memory == whole.memory


def test_until_its_reference_is_whole_nothing_is_said() -> None:
    known = Scores(SETTINGS)
    fed(known, stars(np.random.default_rng(2), 950))
    assert known.is_told
    assert not Scores(SETTINGS).is_told
    assert (known.learning, known.cut, known.newest) == (950, None, None)


@pytest.mark.parametrize(
    ("values", "low"),
    [
        ([1.0] * 10 + [2.0] * 10 + [3.0] * 30 + [4.0] * 50, 20),
        ([5.0] * 90 + [4.0] * 10, 10),
        ([5.0] * 100, 0),
        ([0.0] * 30 + [1.0] * 70, 30),
        ([1.0] * 90 + [2.0] * 10, 0),
        ([-3.0] * 15 + [0.0] * 85, 15),
        ([-7.0] * 100, 0),
    ],
)
def test_about_a_fifth_is_low_as_near_as_ties_let_it(values: list[float], low: int) -> None:
    reference = sketches.of(values)
    cut = cut_of(reference)
    assert low_of(reference, cut) == low
    worse = sketches.of([min(values) - 1.0] * 4)
    assert low_of(worse, cut) == 4


def test_a_score_that_never_moved_and_then_falls_is_found() -> None:
    known = Scores(SETTINGS)
    assert fed(known, [5.0] * 3000) is None
    assert fed(known, [4.0] * 1000, at=60) is not None
