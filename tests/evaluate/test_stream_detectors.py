"""Stream detectors: river's through one function, and four by their formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import river
import scipy.stats
from river import drift

from gpuwarden.evaluate.drift import alarm_rates, cusum, ecdd, gma, stepd, stream

SETTINGS: dict[str, dict[str, Any]] = {
    "adwin": {
        "delta": 0.002,
        "clock": 32,
        "max_buckets": 5,
        "min_window_length": 5,
        "grace_period": 10,
    },
    "ddm": {"warm_start": 30, "warning_threshold": 2.0, "drift_threshold": 3.0},
    "eddm": {"warm_start": 30, "alpha": 0.95, "beta": 0.9},
    "fhddm": {"sliding_window_size": 100, "confidence_level": 1e-6, "short_window_size": None},
    "hddm_a": {"drift_confidence": 0.001, "warning_confidence": 0.005, "two_sided_test": False},
    "hddm_w": {
        "drift_confidence": 0.001,
        "warning_confidence": 0.005,
        "lambda": 0.05,
        "two_sided_test": True,
    },
    "kswin": {"alpha": 0.005, "window_size": 60, "stat_size": 20, "seed": 3},
    "page_hinkley": {
        "min_instances": 30,
        "delta": 0.005,
        "threshold": 20.0,
        "alpha": 0.9999,
        "mode": "both",
    },
}


def errors(seed: int, *rates: float, n: int = 1500) -> list[float]:
    r = np.random.default_rng(seed)
    found: list[float] = np.concatenate([r.random(n) < p for p in rates]).astype(float).tolist()
    return found


@pytest.mark.parametrize("name", [n for n in stream.DETECTORS if n != "fhddm"])
def test_each_finds_a_large_change_and_starts_afresh(name: str) -> None:
    values: list[Any] = errors(1, 0.1, 0.6)
    found = stream.alarms(name, [v > 0 for v in values], SETTINGS[name])
    assert any(1500 <= index < 1700 for index in found)
    first = found[0]
    again = stream.alarms(name, [v > 0 for v in values[first + 1 :]], SETTINGS[name])
    if name != "adwin":  # which keeps its newest values
        assert name == "kswin" or [i + first + 1 for i in again] == found[1:]


def test_fhddm_sees_ones_become_rarer_and_nothing_else() -> None:
    """In river 0.26.1, whatever its documentation says of errors: feed it what went well."""
    rising, falling = errors(1, 0.0, 0.9), errors(1, 0.9, 0.0)
    assert stream.alarms("fhddm", [v > 0 for v in rising], SETTINGS["fhddm"]) == []
    found = stream.alarms("fhddm", [v > 0 for v in falling], SETTINGS["fhddm"])
    assert found
    assert 1500 <= found[0] < 1600


def test_version_is_the_pinned_one() -> None:
    from river.__version__ import __version__

    assert river.__name__ == "river"
    assert f"river {__version__}" == stream.VERSION == "river 0.26.1"


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize(
    ("alpha", "window", "stat"), [(0.005, 60, 20), (0.05, 40, 20), (0.0001, 90, 15)]
)
def test_kswin_alarms_where_rivers_does(
    is_tied: bool, alpha: float, window: int, stat: int
) -> None:
    r = np.random.default_rng(8)
    values = np.concatenate([r.normal(0, 1, 250), r.normal(1.5, 1, 250), r.normal(0, 3, 200)])
    if is_tied:
        values = np.round(values)
    theirs = drift.KSWIN(alpha=alpha, window_size=window, stat_size=stat, seed=11)
    expected = []
    for index, x in enumerate(values.tolist()):
        theirs.update(x)
        if theirs.drift_detected:
            expected.append(index)
    settings = {"alpha": alpha, "window_size": window, "stat_size": stat, "seed": 11}
    assert stream.alarms("kswin", values.tolist(), settings) == expected
    assert alpha < 0.001 or expected


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("adwin", {"delta": 1e301}),
        ("adwin", {"clock": 0}),
        ("adwin", {"max_buckets": 0}),
        ("kswin", {"stat_size": 31}),
        ("kswin", {"alpha": 7}),
        ("page_hinkley", {"mode": "sideways"}),
        ("hddm_a", {"drift_confidence": 0}),
        ("fhddm", {"sliding_window_size": 0}),
    ],
)
def test_settings_that_do_not_fit(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=name):
        stream.check(name, SETTINGS[name] | change)


def test_unknown_and_missing() -> None:
    with pytest.raises(ValueError, match="no detector"):
        stream.new("oracle", {})
    with pytest.raises(ValueError, match="'clock' is missing"):
        stream.new("adwin", {"delta": 0.1})


# --- by their formulas, written the slow way ---


def slow_cusum(values: Sequence[float], n0: int, delta: float, threshold: float) -> list[int]:
    found, start, total = [], 0, 0.0
    for i in range(len(values)):
        seen = values[start : i + 1]
        total = max(0.0, total + values[i] - math.fsum(seen) / len(seen) - delta)
        if len(seen) >= n0 and total > threshold:
            found.append(i)
            start, total = i + 1, 0.0
    return found


def slow_gma(values: Sequence[float], n0: int, alpha: float, threshold: float) -> list[int]:
    found, start, s = [], 0, 0.0
    for i in range(len(values)):
        seen = values[start : i + 1]
        s = alpha * s + (1 - alpha) * (values[i] - math.fsum(seen) / len(seen))
        if len(seen) >= n0 and s > threshold:
            found.append(i)
            start, s = i + 1, 0.0
    return found


def slow_stepd(values: Sequence[float], w: int, alpha: float) -> list[int]:
    found, start = [], 0
    for i in range(len(values)):
        seen = values[start : i + 1]
        n = len(seen)
        if n < 2 * w:
            continue
        older, newest = sum(seen[:-w]), sum(seen[-w:])
        inverse = 1 / (n - w) + 1 / w
        q = (older + newest) / n
        if q in (0, 1):
            is_alarm = True  # T is infinite
        else:
            t = (abs(older / (n - w) - newest / w) - 0.5 * inverse) / math.sqrt(
                q * (1 - q) * inverse
            )
            is_alarm = scipy.stats.norm.sf(abs(t)) < alpha
        if is_alarm:
            found.append(i)
            start = i + 1
    return found


def slow_ecdd(values: Sequence[float], lam: float, n0: int) -> list[int]:
    found, start = [], 0
    for i in range(len(values)):
        seen = values[start : i + 1]
        n = len(seen)
        z = sum(lam * x * (1 - lam) ** (n - 1 - k) for k, x in enumerate(seen))
        p = sum(seen) / n
        s = math.sqrt(p * (1 - p) * lam / (2 - lam) * (1 - (1 - lam) ** (2 * n)))
        if n >= n0 and z > p + (2.0 - 1.5 * p**2) * s:
            found.append(i)
            start = i + 1
    return found


def test_formulas() -> None:
    x = np.random.default_rng(4).normal(size=600)
    x[300:] += 1
    xs = x.tolist()
    got = cusum.alarms(xs, min_instances=20, delta=0.1, threshold=8)
    assert got == slow_cusum(xs, 20, 0.1, 8)
    assert got
    got = gma.alarms(xs, min_instances=20, alpha=0.95, threshold=0.4)
    assert got == slow_gma(xs, 20, 0.95, 0.4)
    assert got
    bits = errors(5, 0.15, 0.4, n=400)
    got = stepd.alarms(bits, window_size=25, alpha_drift=0.01)
    assert got == slow_stepd(bits, 25, 0.01)
    assert got
    polynomial = [(2.0, 0.0), (-1.5, 2.0)]
    got = ecdd.alarms(bits, weight=0.2, limit_polynomial=polynomial, min_instances=30)
    assert got == slow_ecdd(bits, 0.2, 30)
    assert got


def test_nothing_to_find_nothing_found() -> None:
    flat = [0.0] * 300
    assert cusum.alarms(flat, min_instances=5, delta=0.1, threshold=1) == []
    assert gma.alarms(flat, min_instances=5, alpha=0.9, threshold=0.1) == []
    assert ecdd.alarms(flat, weight=0.2, limit_polynomial=[(3, 0), (1, -1)], min_instances=5) == []
    assert cusum.alarms([], min_instances=5, delta=0.1, threshold=1) == []


def test_values_that_are_no_errors() -> None:
    with pytest.raises(ValueError, match="0 or 1"):
        stepd.alarms([0, 1, 2], window_size=2, alpha_drift=0.1)
    with pytest.raises(ValueError, match="0 or 1"):
        ecdd.alarms([0, -1], weight=0.2, limit_polynomial=[(3, 0)], min_instances=5)


def test_rates_by_hand() -> None:
    got = alarm_rates.rates([[5, 99], [100, 150], []], length=200, drift_at=100)
    assert got.false_alarms_per_1000 == pytest.approx(1000 * 2 / 300)
    assert got.share_of_runs_with_false_alarm == pytest.approx(1 / 3)
    assert got.detection_rate == pytest.approx(1 / 3)
    assert got.mean_delay == 0
    quiet = alarm_rates.rates([[7], []], length=50, drift_at=None)
    assert (quiet.false_alarms_per_1000, quiet.detection_rate, quiet.mean_delay) == (10, None, None)
    never = alarm_rates.rates([[], []], length=50, drift_at=10)
    assert (never.detection_rate, never.mean_delay) == (0, None)
    at_once = alarm_rates.rates([[0]], length=50, drift_at=0)
    assert (at_once.false_alarms_per_1000, at_once.mean_delay) == (0, 0)
    with pytest.raises(ValueError, match="drift_at"):
        alarm_rates.rates([[1]], length=5, drift_at=6)
