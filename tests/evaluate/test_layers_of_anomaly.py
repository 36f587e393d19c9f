"""Seasons, windows, groups, reconstruction and peers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from gpuwarden.evaluate.anomaly import clusters, layers, peers, reconstruction, seasonal
from gpuwarden.evaluate.anomaly.layers import LayerSettings

DAY = 144  # slots of ten minutes


def series(seed: int, days: int, phi: float = 0.9) -> np.ndarray:
    r = np.random.default_rng(seed)
    noise = scipy.signal.lfilter([1], [1, -phi], r.normal(0, np.sqrt(1 - phi**2), days * DAY + 500))
    t = np.arange(days * DAY)
    return np.asarray(100 + 20 * np.sin(2 * np.pi * t / DAY) + 2 * noise[500:])


SEASON = seasonal.learn(series(0, 28), period=DAY)


def found(values: np.ndarray) -> layers.Anomalies:
    return layers.find(SEASON, values, first_slot=0, settings=LayerSettings())


def test_a_season_is_learnt_without_its_noise() -> None:
    t = np.arange(DAY)
    true = 100 + 20 * np.sin(2 * np.pi * t / DAY)
    assert np.abs(np.array(SEASON.medians) - true).max() < 2.5
    assert SEASON.spread == pytest.approx(2, rel=0.15)
    assert SEASON.phi == pytest.approx(0.9, abs=0.05)


def test_a_quiet_month_of_a_correlated_series_is_quiet() -> None:
    for seed in range(1, 21):
        got = found(series(seed, 30))
        assert (got.points, got.windows) == ((), ())


def test_a_spike_and_a_lasting_level_are_told_apart() -> None:
    spiky = series(40, 7)
    spiky[500] += 40
    assert found(spiky).points == (500,)
    lasting = series(41, 7)
    lasting[600:] += 10  # five sigmas, none of them a point
    got = found(lasting)
    assert got.points == ()
    assert 600 < got.windows[0] < 600 + 40


def test_a_value_that_is_usual_at_another_hour() -> None:
    odd = series(42, 7)
    odd[4 * DAY + 36] = 80.0  # the low of the night, at the height of the day
    assert 4 * DAY + 36 in found(odd).points


def test_a_series_that_never_moves() -> None:
    flat = seasonal.learn([7.0] * 20, period=5)
    assert seasonal.scores(flat, [7.0, 8.0], first_slot=3).tolist() == [0.0, 1e6]
    with pytest.raises(ValueError, match="at least"):
        seasonal.learn([1.0] * 9, period=5)


def rows(seed: int, n: int) -> np.ndarray:
    """Power, clock and temperature follow load."""
    r = np.random.default_rng(seed)
    load = r.random(n)
    return np.column_stack([300 * load, 1400 + 500 * load, 40 + 40 * load]) + r.normal(
        0, [5, 10, 1], (n, 3)
    )


def test_rows_that_do_not_fit_together() -> None:
    subspace = reconstruction.learn(rows(1, 5000))
    quiet = reconstruction.outliers(subspace, rows(2, 5000))
    assert len(quiet) <= 25
    odd = np.array([[280.0, 1450.0, 75.0]])  # full power at a low clock; each is usual by itself
    assert reconstruction.outliers(subspace, odd) == (0,)
    with pytest.raises(ValueError, match="3 columns"):
        reconstruction.errors(subspace, np.ones((2, 2)))
    with pytest.raises(ValueError, match="at least 50"):
        reconstruction.learn(rows(1, 49))
    with pytest.raises(ValueError, match="NaN"):
        reconstruction.learn(np.full((60, 2), np.nan))


def test_constant_columns_do_not_divide_by_zero() -> None:
    x = np.column_stack([np.full(200, 5.0), np.random.default_rng(1).normal(size=200)])
    subspace = reconstruction.learn(x)
    assert np.isfinite(reconstruction.errors(subspace, [[6.0, 0.0]])).all()
    assert reconstruction.outliers(subspace, [[9.0, 0.0]]) == (0,)


def test_a_new_group_is_told_once() -> None:
    known = clusters.start(rows(1, 2000))
    known, new = clusters.feed(known, rows(2, 500))
    assert new == ()
    strange = np.tile([[900.0, 100.0, 10.0]], (20, 1))
    known, new = clusters.feed(known, strange)
    assert new == (0,)
    _, again = clusters.feed(known, strange)
    assert again == ()


def test_groups_are_bounded() -> None:
    far = np.arange(300.0)[:, None] * 1000 * np.ones((1, 3))
    start = clusters.start(rows(1, 200))
    kept, _ = clusters.feed(start, far, groups_max=16)
    assert len(kept.centres) == len(kept.weights) == 16


def test_the_device_unlike_its_peers_is_named() -> None:
    r = np.random.default_rng(1)
    boards: dict[str, list[float | None]] = {
        f"gpu{i}": [float(v) for v in r.normal(300, 5, 20)] for i in range(8)
    }
    assert peers.unlike(boards) == ()
    lowered: list[float | None] = [float(v) for v in r.normal(240, 5, 20)]
    boards["gpu3"] = lowered
    got = peers.unlike(boards)
    assert [each.device for each in got] == ["gpu3"]
    assert got[0].z < -6
    boards["gpu3"] = [*[300.0] * 19, 10.0]  # one odd window
    assert peers.unlike(boards) == ()


def test_too_few_peers_or_windows_say_nothing() -> None:
    boards: dict[str, list[float | None]] = {f"gpu{i}": [1.0] * 5 for i in range(4)}
    boards["gpu0"] = [9.0] * 5
    assert peers.unlike(boards) == ()  # three others
    boards["gpu4"] = [1.0] * 5
    assert [each.device for each in peers.unlike(boards)] == ["gpu0"]
    boards["gpu0"] = [9.0, None, None, 9.0, 9.0]
    assert peers.unlike(boards) == ()


@pytest.mark.parametrize("many", [2, 5, 6, 9, 40])
def test_each_device_is_held_against_the_others_alone(many: int) -> None:
    r = np.random.default_rng(many)
    values = np.round(60 + r.normal(0, 3, many))  # with ties
    values[0] = 90.0
    told = {f"{n:02}": [value] * 5 for n, value in enumerate(values)}
    got = {each.device: each for each in peers.unlike(told, cut=0.0, min_peers=1)}
    for n, value in enumerate(values):
        others = np.delete(values, n)
        centre = np.median(others)
        spread = max(1.4826 * np.median(np.abs(others - centre)), 0.02 * centre)
        if value == centre:
            assert f"{n:02}" not in got
            continue
        assert got[f"{n:02}"].peers == centre
        assert got[f"{n:02}"].z == pytest.approx((value - centre) / spread)
