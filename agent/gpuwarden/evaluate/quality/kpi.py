"""Do a model's numbers and the business' numbers move together, and which goes first.

Two series that wander slowly seem to belong together although neither knows of the other (Yule 1926): with an
autocorrelation of 0.8 each, plain regression of 200 points calls a third of unrelated pairs significant at 5 %. So a
season can be taken out; both series go through the filter that leaves of the metric only what is new in each step (Box
and Jenkins' prewhitening; the slope between them stays what it was); errors are Newey and West's (1987) with the bandwidth
of Andrews (1991), critical values allow for that bandwidth (Kiefer and Vogelsang 2005), and p-values are corrected over
all pairs and lags (Benjamini and Hochberg).

A correlation is no cause, whatever its p-value: what is told is that they move together, and which is earlier.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from gpuwarden.evaluate.drift.multiplicity import adjusted
from gpuwarden.model.drift_report import KpiLag, KpiTrack

Floats = NDArray[np.float64]
POINTS_MIN = 30
"""Fewer pairs of points say nothing of series that remember their past."""
ORDER_MAX = 4
"""Of the autoregression that the filter is made from; chosen by Akaike's criterion."""
SERIES_MAX = 200
LAGS_MAX = 500
POINTS_MAX = 100_000
_NORMAL = NormalDist()


class Unfit(StrEnum):
    """Why a pair has no result."""

    TOO_SHORT = "too-short"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """One metric with one KPI at one lag. Positive ``lag``: the metric is that many steps earlier than the KPI."""

    metric: str
    kpi: str
    lag: int
    points: int
    unfit: Unfit | None = None
    correlation: float | None = None
    """Of the series as they are (without their season): what a plot shows. The slope and all below it are of what is
    new in each step, and may well be nothing where this is large."""
    slope: float | None = None
    """Of the KPI a unit of the metric."""
    low: float | None = None
    high: float | None = None
    """Interval of the slope at ``confidence``, for this pair and lag alone."""
    error: float | None = None
    p: float | None = None
    q: float | None = None
    """p corrected over all pairs and lags that were asked for."""
    is_significant: bool = False
    """``q`` is at or below the rate of false findings that was asked for."""


def associations(
    metrics: Mapping[str, Sequence[float | None]],
    kpis: Mapping[str, Sequence[float | None]],
    *,
    lags: int = 0,
    leads: int = 0,
    season: int | None = None,
    confidence: float = 0.95,
    false_rate: float = 0.05,
) -> list[Association]:
    """All pairs at lags from ``-leads`` to ``lags``, in the order of names and lags. All series have the same steps.

    None and not-a-number are left out by pairs. ``season``: steps of one, such as 24 or 7; its mean is taken out.
    """
    _check(metrics, kpis, lags, leads, season)
    first = {name: _prepared(values, season) for name, values in metrics.items()}
    second = {name: _prepared(values, season) for name, values in kpis.items()}
    found = [
        _scaled_back(_associated(metric, kpi, x, y, lag, confidence), y_scale / x_scale)
        for metric, (x, x_scale) in first.items()
        for kpi, (y, y_scale) in second.items()
        for lag in range(-leads, lags + 1)
    ]
    judged = [k for k, each in enumerate(found) if each.p is not None]
    corrected: Floats | list[float] = (
        adjusted([found[k].p or 0.0 for k in judged]) if judged else []
    )
    for k, q in zip(judged, corrected, strict=True):
        found[k] = _with_q(found[k], float(q), false_rate)
    return found


def strongest(found: Sequence[Association]) -> list[Association]:
    """Of each pair the lag with the smallest q, significant ones first; pairs without a result last."""
    best: dict[tuple[str, str], Association] = {}
    for each in found:
        pair = (each.metric, each.kpi)
        if pair not in best or _order(each) < _order(best[pair]):
            best[pair] = each
    return sorted(best.values(), key=_order)


def tracks(
    metrics: Mapping[str, Sequence[float | None]],
    kpis: Mapping[str, Sequence[float | None]],
    *,
    lags: int,
    season: int | None = None,
) -> tuple[KpiTrack, ...]:
    """Each pair for a report: both series, every lag, and the strongest one in words."""
    found = associations(metrics, kpis, lags=lags, season=season)
    return tuple(
        KpiTrack(
            metric=best.metric,
            kpi=best.kpi,
            metric_values=tuple(metrics[best.metric]),
            kpi_values=tuple(kpis[best.kpi]),
            lags=tuple(
                KpiLag(
                    lag=each.lag,
                    slope=each.slope,
                    low=each.low,
                    high=each.high,
                    q=each.q,
                    is_significant=each.is_significant,
                )
                for each in found
                if (each.metric, each.kpi) == (best.metric, best.kpi)
            ),
            told=told(best),
        )
        for best in strongest(found)
    )


def told(each: Association) -> str:
    """One sentence for people."""
    if each.unfit is not None or each.q is None or each.slope is None:
        return f"{each.metric} and {each.kpi}: {each.unfit.value if each.unfit else 'no result'} ({each.points} points)"
    if not each.is_significant:
        return f"{each.metric} and {each.kpi}: nothing that chance does not explain (q {chance_of(each.q)})"
    way = "rises" if each.slope > 0 else "falls"
    when = f"{abs(each.lag)} steps later" if each.lag > 0 else "at the same time"
    if each.lag < 0:
        when = f"{abs(each.lag)} steps earlier: the metric follows"
    return (
        f"{each.kpi} {way} with {each.metric}, {when} (slope {each.slope:.3g}, "
        f"{each.low:.3g} to {each.high:.3g}, r {each.correlation:.2f}, q {chance_of(each.q)}); this is no proof of a cause"
    )


def chance_of(value: float) -> str:
    """A p-value for people. Beyond 15 digits the normal distribution says nothing that anybody could believe."""
    return "<1e-15" if value < 1e-15 else f"{value:.2g}"


def _check(
    metrics: Mapping[str, Sequence[float | None]],
    kpis: Mapping[str, Sequence[float | None]],
    lags: int,
    leads: int,
    season: int | None,
) -> None:
    if len(metrics) > SERIES_MAX or len(kpis) > SERIES_MAX:
        raise ValueError(f"more than {SERIES_MAX} series")
    if not 0 <= lags <= LAGS_MAX or not 0 <= leads <= LAGS_MAX:
        raise ValueError(f"lags and leads: expected 0 to {LAGS_MAX}")
    if season is not None and season < 2:
        raise ValueError("season: expected 2 steps or more")
    lengths = {len(values) for values in (*metrics.values(), *kpis.values())}
    if len(lengths) > 1:
        raise ValueError(f"series of different lengths: {sorted(lengths)[:5]}")
    if lengths and max(lengths) > POINTS_MAX:
        raise ValueError(f"more than {POINTS_MAX} points")


def _order(each: Association) -> tuple[bool, float, float, str, str]:
    q = math.inf if each.q is None else each.q
    p = math.inf if each.p is None else each.p
    return (not each.is_significant, q, p, each.metric, each.kpi)


def _with_q(each: Association, q: float, false_rate: float) -> Association:
    return dataclasses.replace(each, q=q, is_significant=q <= false_rate)


def _scaled_back(each: Association, unit: float) -> Association:
    def scaled(value: float | None) -> float | None:
        return None if value is None else value * unit

    return dataclasses.replace(
        each,
        slope=scaled(each.slope),
        low=scaled(each.low),
        high=scaled(each.high),
        error=scaled(each.error),
    )


def _prepared(values: Sequence[float | None], season: int | None) -> tuple[Floats, float]:
    """As an array with not-a-number for what is missing, without its season; 1 is its largest value, told beside it."""
    array = np.asarray([math.nan if v is None else float(v) for v in values], dtype=np.float64)
    array = np.where(np.isfinite(array), array, math.nan)
    there = np.abs(array[np.isfinite(array)])
    scale = float(there.max()) if there.size and there.max() > 0 else 1.0
    array = array / scale
    if season is not None and season < len(array):
        for phase in range(season):
            part = array[phase::season]
            if np.isfinite(part).any():
                array[phase::season] = part - np.nanmean(part)
    return array, scale


def filtered(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Both through the autoregression of ``x``: each value less what the values before it foretell."""
    weights = _autoregression(x)
    made = []
    for values in (x, y):
        out = values[len(weights) :].copy()
        for back, weight in enumerate(weights, 1):
            out -= weight * values[len(weights) - back : len(values) - back]
        made.append(out)
    return made[0], made[1]


def _autoregression(values: Floats) -> list[float]:
    """Weights of the values before, by least squares; of order 1 the bias (1 + 3 rho) / n (Kendall 1954) is taken out."""
    rows = np.column_stack(
        [values[ORDER_MAX - back : len(values) - back] for back in range(ORDER_MAX + 1)]
    )
    rows = rows[np.isfinite(rows).all(axis=1)]
    count = len(rows)
    if count < POINTS_MIN:
        return []
    rows = rows - rows.mean(axis=0)
    best: tuple[float, list[float]] = (math.inf, [])
    for order in range(1, ORDER_MAX + 1):
        past, now = rows[:, 1 : order + 1], rows[:, 0]
        weights, *_ = np.linalg.lstsq(past, now, rcond=None)
        left = float(np.mean((now - past @ weights) ** 2))
        if left <= 0:
            return [float(weight) for weight in weights]
        worth = count * math.log(left) + 2 * order
        if worth < best[0]:
            best = (worth, [float(weight) for weight in weights])
    total = sum(best[1])
    if not 0 < total < 1:
        return best[1]
    grown = min(1.0, total + (1 + 3 * total) / count)
    return [weight * grown / total for weight in best[1]]


def _correlation(x: Floats, y: Floats) -> float | None:
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x)) * math.sqrt(float(y @ y))
    return float(x @ y) / scale if scale > 0 else None


def _shifted(x: Floats, y: Floats, lag: int) -> tuple[Floats, Floats]:
    if abs(lag) >= len(x):
        return x[:0], y[:0]
    if lag > 0:
        return x[:-lag], y[lag:]
    return (x[-lag:], y[:lag]) if lag < 0 else (x, y)


def _both(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    there = np.isfinite(x) & np.isfinite(y)
    return x[there], y[there]


def _associated(
    metric: str, kpi: str, x: Floats, y: Floats, lag: int, confidence: float
) -> Association:
    plain_x, plain_y = _both(*_shifted(x, y, lag))
    correlation = _correlation(plain_x, plain_y) if len(plain_x) else None
    x, y = _both(*_shifted(*filtered(x, y), lag))
    points = len(x)

    def unfit(why: Unfit) -> Association:
        return Association(metric=metric, kpi=kpi, lag=lag, points=points, unfit=why)

    if points < POINTS_MIN:
        return unfit(Unfit.TOO_SHORT)
    spreads = [_scaled(values) for values in (x, y)]
    if correlation is None or any(each is None for each in spreads):
        return unfit(Unfit.CONSTANT)
    (x, x_scale), (y, y_scale) = (each for each in spreads if each is not None)
    slope, error, widening = _regression(x, y)
    if not error > 0 or not math.isfinite(error):
        # A perfect line: no error at all is left to judge by.
        error, widening = 1e-12, 1.0
    z = abs(slope) / error / widening
    half = _NORMAL.inv_cdf(0.5 + confidence / 2) * error * widening
    unit = y_scale / x_scale
    return Association(
        metric=metric,
        kpi=kpi,
        lag=lag,
        points=points,
        correlation=max(-1.0, min(1.0, correlation)),
        slope=slope * unit,
        low=(slope - half) * unit,
        high=(slope + half) * unit,
        error=error * unit,
        p=math.erfc(z / math.sqrt(2)),
    )


def _scaled(values: Floats) -> tuple[Floats, float] | None:
    """Mean 0 and deviation 1, so that the slope is the correlation; None: constant."""
    centred = values - values.mean()
    scale = float(np.sqrt(np.mean(centred**2)))
    if scale < 1e-12:
        return None
    return centred / scale, scale


def _regression(x: Floats, y: Floats) -> tuple[float, float, float]:
    """Slope of standardised series, its error, and by how much critical values widen."""
    count = len(x)
    slope = float(x @ y) / count
    scores = x * (y - slope * x)
    variance, share = long_run_variance(scores)
    error = math.sqrt(max(0.0, variance) / (count - 2))
    return slope, error, widening(share)


def long_run_variance(scores: Floats) -> tuple[float, float]:
    """Of the mean of ``scores``, times their number; and the bandwidth as a share of that number.

    Bartlett's kernel with Andrews' bandwidth for an autoregression of order 1.
    """
    count = len(scores)
    white = scores - scores.mean()
    rho = max(-0.97, min(0.97, _lag_coefficient(white)))
    alpha = 4 * rho**2 / ((1 - rho) ** 2 * (1 + rho) ** 2)
    lags = min(int(1.1447 * (alpha * count) ** (1 / 3)), count // 3)
    total = float(white @ white)
    for lag in range(1, lags + 1):
        weight = 1 - lag / (lags + 1)
        total += 2 * weight * float(white[lag:] @ white[:-lag])
    return total / count, (lags + 1) / count


def _lag_coefficient(values: Floats) -> float:
    below = float(values[:-1] @ values[:-1])
    return float(values[1:] @ values[:-1]) / below if below > 0 else 0.0


def widening(share: float) -> float:
    """Critical value with Bartlett's kernel at a bandwidth of ``share`` of the points, over the normal one: 1 at 0.

    Kiefer and Vogelsang 2005, table 1, 97.5 %: 1.9600 + 2.9694 b + 0.4160 b^2 - 0.5324 b^3.
    """
    return (1.9600 + 2.9694 * share + 0.4160 * share**2 - 0.5324 * share**3) / 1.9600
