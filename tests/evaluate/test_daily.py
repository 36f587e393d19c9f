"""What a slot of the day is usually, from days with gaps; held against days that were not learnt from."""

from __future__ import annotations

import numpy as np
import pytest

from gpuwarden.evaluate.anomaly import daily


def days(seed: int, many: int = 4, slots: int = 96) -> np.ndarray:
    r = np.random.default_rng(seed)
    return np.asarray(10 + np.sin(np.arange(slots) / 10) + 0.5 * r.normal(size=(many, slots)))


def test_each_day_is_held_against_the_others() -> None:
    x = days(1)
    x[2, 5] = np.nan
    x[:, 7] = np.nan
    x[1:, 8] = np.nan
    found, own = daily.learn(x)
    for slot in range(96):
        for day in range(4):
            others = np.delete(x[:, slot], day)
            if np.isnan(x[day, slot]) or np.isnan(others).all():
                assert np.isnan(own[day, slot])
                continue
            left = (x[day, slot] - np.nanmedian(others)) / found.spreads[slot]
            assert own[day, slot] == pytest.approx(left)
    assert np.isnan(found.medians[[7, 8]]).all()
    assert found.medians[5] == pytest.approx(np.nanmedian(x[:, 5]))


def test_a_spread_is_that_of_a_day_that_was_not_learnt_from() -> None:
    """Three days: the median of two others has half a variance of its own."""
    found, _ = daily.learn(days(2, many=3, slots=2000))
    assert found.spreads[0] == pytest.approx(0.5 * np.sqrt(1.5), rel=0.1)
    fresh = daily.scores(found, days(3, many=1, slots=2000)[0], first_slot=0)
    assert fresh.std() == pytest.approx(1.0, abs=0.1)


def test_no_spread_is_below_what_is_said() -> None:
    least = np.full(96, 0.1)
    least[3] = 2.0
    found, _ = daily.learn(np.ones((3, 96)), least=least)
    assert found.spreads[3] == 2.0
    assert found.spreads[4] == 0.1
    z = daily.scores(found, [1.0, 3.0, np.nan], first_slot=95)
    assert z[0] == 0.0
    assert z[1] == pytest.approx(20.0)
    assert np.isnan(z[2])


def test_correlation_is_not_taken_for_less_than_it_is() -> None:
    independent, _ = daily.learn(days(4, many=10))
    assert independent.phi < 0.1
    slow = np.repeat(np.random.default_rng(5).normal(size=(10, 24)), 4, axis=1)
    assert daily.learn(slow)[0].phi > 0.7


@pytest.mark.parametrize("bad", [[[1.0, 2.0]], [1.0], [[np.inf], [1.0]], [[np.nan], [np.nan]]])
def test_what_cannot_be_learnt_from(bad: object) -> None:
    with pytest.raises(ValueError, match="days: "):
        daily.learn(bad)  # type: ignore[arg-type]
