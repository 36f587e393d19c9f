"""Series that move together are found with their lag; series that only wander are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from gpuwarden.evaluate.quality.kpi import (
    Association,
    Unfit,
    associations,
    filtered,
    long_run_variance,
    strongest,
    told,
    widening,
)

Floats = NDArray[np.float64]


def _wander(chance: np.random.Generator, count: int, memory: float) -> Floats:
    noise = chance.normal(size=count + 200)
    out = np.zeros(count + 200)
    for t in range(1, count + 200):
        out[t] = memory * out[t - 1] + noise[t]
    return out[200:]


def _one(x: Floats, y: Floats, **more: int) -> Association:
    (found,) = associations({"m": x.tolist()}, {"k": y.tolist()}, **more)
    return found


@pytest.mark.parametrize("memory", [0.0, 0.8, 0.95, 1.0])
def test_series_that_know_nothing_of_each_other(memory: float) -> None:
    """At 5 %, of 300 unrelated pairs: 15 expected, four deviations of the binomial are 15 more. Plain regression calls
    85 to 250 of them significant from a memory of 0.8 on."""
    chance = np.random.default_rng(4)
    alarms = plain = 0
    for _ in range(300):
        x, y = _wander(chance, 200, memory), _wander(chance, 200, memory)
        alarms += (_one(x, y).p or 0.0) <= 0.05
        r = float(np.corrcoef(x, y)[0, 1])
        plain += abs(r) * math.sqrt(198 / (1 - r * r)) > 1.96
    assert alarms <= 30
    assert plain > 60 or memory == 0.0


@pytest.mark.parametrize("memory", [0.0, 0.8, 1.0])
def test_the_slope_is_found_and_its_interval_holds_it(memory: float) -> None:
    chance = np.random.default_rng(9)
    inside = found = 0
    for _ in range(200):
        x = _wander(chance, 200, memory)
        y = 100.0 - 5.0 * x + 10.0 * _wander(chance, 200, memory)
        each = _one(x, y)
        assert each.low is not None
        assert each.high is not None
        inside += each.low <= -5.0 <= each.high
        found += each.is_significant
    assert inside >= 178  # 190 expected; four deviations are 12
    assert found >= 190


def test_the_lag_is_found_and_its_direction() -> None:
    chance = np.random.default_rng(1)
    x = _wander(chance, 400, 0.7)
    later = np.roll(2.0 * x, 3) + 0.5 * _wander(chance, 400, 0.7)
    found = associations({"accuracy": x.tolist()}, {"revenue": later.tolist()}, lags=6, leads=6)
    assert len(found) == 13
    best = strongest(found)[0]
    assert (best.lag, best.is_significant) == (3, True)
    assert best.slope == pytest.approx(2.0, abs=0.15)
    assert "revenue rises with accuracy, 3 steps later" in told(best)
    assert "no proof of a cause" in told(best)
    turned = strongest(associations({"a": later.tolist()}, {"b": x.tolist()}, lags=6, leads=6))[0]
    assert turned.lag == -3
    assert "3 steps earlier: the metric follows" in told(turned)


def test_a_common_season_is_no_common_cause() -> None:
    chance = np.random.default_rng(2)
    day = np.sin(np.arange(480) * 2 * math.pi / 24)
    x, y = (5 * day + chance.normal(size=480) for _ in range(2))
    plain = _one(x, y)
    assert plain.correlation is not None
    assert plain.correlation > 0.9
    assert not plain.is_significant, "what the day foretells is nothing new"
    found = _one(x, y, season=24)
    assert not found.is_significant
    assert abs(found.correlation or 0.0) < 0.15


def test_many_pairs_are_corrected() -> None:
    chance = np.random.default_rng(3)
    metrics = {f"m{k}": chance.normal(size=100).tolist() for k in range(15)}
    kpis = {f"k{k}": chance.normal(size=100).tolist() for k in range(15)}
    found = associations(metrics, kpis)
    assert sum((each.p or 0.0) <= 0.05 for each in found) > 3
    assert sum(each.is_significant for each in found) <= 1
    assert all((each.q or 0.0) >= (each.p or 0.0) for each in found)


def test_gaps_are_left_out_and_constants_are_unfit() -> None:
    chance = np.random.default_rng(6)
    x = chance.normal(size=120)
    y: list[float | None] = [None if k % 10 == 3 else 3.0 * value for k, value in enumerate(x)]
    y[50] = math.inf
    (found,) = associations({"m": x.tolist()}, {"k": y})
    assert found.slope == pytest.approx(3.0)
    assert found.points < 107
    assert found.is_significant
    for odd, why in (([1.0] * 120, Unfit.CONSTANT), ([None] * 120, Unfit.TOO_SHORT)):
        (found,) = associations({"m": x.tolist()}, {"k": odd})
        assert (found.unfit, found.p, found.q, found.is_significant) == (why, None, None, False)
        assert told(found).startswith(f"m and k: {why.value}")
    (short,) = associations({"m": x[:20].tolist()}, {"k": x[:20].tolist()}, lags=0)
    assert short.unfit is Unfit.TOO_SHORT
    assert associations({"m": [1.0, 2.0]}, {"k": [2.0, 1.0]}, lags=4)[4].points == 0


def test_scale_does_not_matter() -> None:
    chance = np.random.default_rng(8)
    x = chance.normal(size=100)
    y = x + chance.normal(size=100)
    plain, big = _one(x, y), _one(x * 1e300, y * 1e-300)
    assert big.p == pytest.approx(plain.p)
    assert big.correlation == pytest.approx(plain.correlation)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        associations({"m": [1.0]}, {"k": [1.0, 2.0]})
    with pytest.raises(ValueError, match="lags and leads"):
        associations({"m": [1.0]}, {"k": [1.0]}, lags=-1)
    with pytest.raises(ValueError, match="season"):
        associations({"m": [1.0]}, {"k": [1.0]}, season=1)
    assert associations({}, {}) == []


def test_the_long_run_variance_against_double_sums() -> None:
    """Newey and West's estimate as the quadratic form it is, with weights by distance."""
    chance = np.random.default_rng(5)
    scores = _wander(chance, 150, 0.6)
    found, share = long_run_variance(scores)
    lags = round(share * 150) - 1
    centred = scores - scores.mean()
    counted = sum(
        max(0.0, 1 - abs(a - b) / (lags + 1)) * centred[a] * centred[b]
        for a in range(150)
        for b in range(150)
    )
    assert lags >= 2
    assert found == pytest.approx(counted / 150)


def test_the_filter_leaves_what_is_new() -> None:
    x = _wander(np.random.default_rng(7), 3000, 0.8)
    new, _ = filtered(x, x)
    assert abs(float(np.corrcoef(new[1:], new[:-1])[0, 1])) < 0.05
    assert float(np.std(new)) == pytest.approx(1.0, abs=0.05)


def test_critical_values_widen_with_the_bandwidth() -> None:
    """Kiefer and Vogelsang 2005: 1.96 at b = 0, 4.813 at b = 1."""
    assert widening(0.0) == 1.0
    assert 1.96 * widening(1.0) == pytest.approx(4.813, abs=5e-4)
