"""A service beside its own days: quiet months, and what is found in others."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from gpuwarden.model.anomaly import Layer, Oddity
from gpuwarden.policy.fleet import odd_scales
from gpuwarden.policy.fleet.oddlines import OddSettings
from tests.policy.fleet.odd_days import DAY, FIRST, Told, days, slot_of


def of(found: list[Oddity], series: str, layer: Layer) -> list[Oddity]:
    return [each for each in found if (each.series, each.layer) == (series, layer)]


def test_quiet_months_are_quiet() -> None:
    """At the shipped settings; a hundred such months have one finding at most (``docs/anomalies.md``)."""
    for seed in range(3):
        told = Told(days(seed, 30))
        told.until(30)
        assert told.odds.begun == 0, told.said


def test_it_says_how_many_days_it_knows() -> None:
    told = Told(days(1, 4))
    told.until(1.5, step=48)
    assert told.said is not None
    assert (told.said.is_learning, told.said.days, told.said.days_min) == (True, 1, 3)
    told.until(3.0, step=48)
    assert not told.said.is_learning
    assert set(told.said.series) == set(told.series)


@pytest.mark.parametrize("seed", range(3))
def test_a_doubled_hour_is_found_and_told_as_a_point(seed: int) -> None:
    series = days(seed, 8)
    series["latency_p50_s"][7 * DAY + 40 : 7 * DAY + 44] *= 2
    found = Told(series).until(8, step=4)
    (point,) = of(found, "latency_p50_s", Layer.POINT)
    assert 7 + 40 / DAY <= slot_of(point.since_wall) < slot_of(point.wall) <= 7 + 44 / DAY
    assert point.value is not None
    assert point.usual is not None
    assert point.value / point.usual == pytest.approx(2, rel=0.4)
    assert point.sigmas > 6


def test_a_day_that_is_a_little_off_is_found_as_a_stretch() -> None:
    """Two deviations: no value of it is odd by itself."""
    missed = 0
    for seed in range(10, 13):
        series = days(seed, 16)
        series["latency_p50_s"][14 * DAY : 15 * DAY] *= np.exp(0.2)
        told = Told(series)
        told.until(14)
        found = of(told.until(15, step=24), "latency_p50_s", Layer.WINDOW)
        missed += not found
        for each in found:
            assert slot_of(each.since_wall) == pytest.approx(14, abs=0.3)
            assert each.value is not None
            assert each.usual is not None
            assert each.value / each.usual == pytest.approx(1.22, abs=0.08)
    assert missed == 0


@pytest.mark.parametrize("how", ["pca", "autoencoder"])
def test_series_that_do_not_fit_together_are_found_though_each_is_usual(
    how: Literal["pca", "autoencoder"],
) -> None:
    series = days(3, 9, shared=0.97)  # all of them follow the load
    hour = slice(8 * DAY + 40, 8 * DAY + 44)
    series["requests_per_s"][hour] *= np.exp(-0.25)
    series["gpu_utilization"][hour] += 0.12
    found = Told(series, OddSettings(reconstruction=how)).until(9, step=4)
    assert {each.layer for each in found} == {Layer.RECONSTRUCTION}
    (together,) = found
    assert together.series == "together"
    assert "sigma" in together.detail
    assert "requests_per_s" in together.detail or "gpu_utilization" in together.detail


def test_a_state_that_was_never_seen_is_found() -> None:
    """Every series 5.2 deviations off, which is no point of any, all but one upwards."""
    told = Told(days(5, 9, shared=0.9))
    told.until(8 + 40 / DAY, step=8)
    slot = (FIRST + told.at) % DAY
    for name, day in told.odds._days.items():
        sign = -1 if name == "requests_per_s" else 1
        off = day.medians[slot] + sign * 5.2 * day.spreads[slot]
        told.series[name][told.at] = odd_scales.shown(name, float(off))
    found = told.until(8 + 41 / DAY)
    assert Layer.CLUSTER in {each.layer for each in found}
    assert Layer.POINT not in {each.layer for each in found}


def test_what_was_odd_is_not_the_new_usual_at_once_and_is_after_a_while() -> None:
    """A new level is told for a week, and is what is usual once most days have it."""
    series = days(7, 22)
    series["latency_p50_s"][6 * DAY :] *= 1.8
    told = Told(series)
    odd_days = []
    for day in range(6, 22):
        told.until(day + 1, step=32)
        assert told.said is not None
        if of(list(told.said.findings), "latency_p50_s", Layer.WINDOW):
            odd_days.append(day - 6)
    assert odd_days[:5] == [0, 1, 2, 3, 4]
    assert max(odd_days) <= 8
    z = told.odds._scores("latency_p50_s")[-DAY:]
    assert abs(float(np.nanmean(z))) < 1.5


def test_a_weekend_is_told_once() -> None:
    series = days(8, 29)
    for day in (5, 6, 12, 13, 19, 20, 26, 27):
        series["requests_per_s"][day * DAY : (day + 1) * DAY] *= 0.5
    told = Told(series)
    told.until(8, step=24)
    first = told.odds.begun
    assert first > 0
    told.until(29)
    assert told.odds.begun == first


def test_one_quarter_at_a_time_says_what_a_day_at_once_says() -> None:
    series = days(9, 6)
    series["latency_p95_s"][5 * DAY + 30 : 5 * DAY + 34] *= 4
    slowly, at_once = Told(series), Told(series)
    slowly.until(5)
    at_once.until(5)
    one = of(slowly.until(6, step=1), "latency_p95_s", Layer.POINT)
    other = of(at_once.until(6), "latency_p95_s", Layer.POINT)
    assert [(each.since_wall, each.wall) for each in one] == [
        (each.since_wall, each.wall) for each in other
    ]
    assert len(one) == 1


def test_what_is_not_told_is_not_judged() -> None:
    """A series that is never told, gaps, and a service that falls silent."""
    series = days(2, 6)
    del series["gpu_utilization"]
    series["latency_p50_s"][2 * DAY + 10 : 2 * DAY + 60] = np.nan
    series["latency_p95_s"][:] = np.nan
    for values in series.values():
        values[5 * DAY :] = np.nan
    told = Told(series)
    told.until(6, step=24)
    assert told.said is not None
    assert set(told.said.series) == {"requests_per_s", "error_ratio", "latency_p50_s"}
    assert told.odds.begun == 0


def test_series_that_never_move_and_few_requests_are_no_alarm() -> None:
    """One error among thirty requests a quarter is chance; a constant moves by a hair."""
    r = np.random.default_rng(4)
    many = 8 * DAY
    series = {
        "requests_per_s": r.poisson(60, many) / 900,
        "error_ratio": r.binomial(60, 0.01, many) / 60,
        "queue_length": np.zeros(many),
        "gpu_utilization": np.full(many, 0.3),
    }
    series["gpu_utilization"][7 * DAY] = 0.32
    told = Told(series)
    told.until(8)
    assert told.odds.begun == 0, told.said
