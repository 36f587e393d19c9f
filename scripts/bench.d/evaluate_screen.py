"""Screens a long series for the first minute at which the pack's shift test could fire, whole days at once.

The test itself takes 50 to 130 us a minute; a month of a hundred services would take half an hour. Until it
fires for the first time what it remembers does not depend on what it said, so all minutes can be computed
together; a series that the screen finds is then judged by the product's own functions from its beginning.
`disagreements` holds the screen to them.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.fast import shift
from gpuwarden.model.guardrail import Guardrail, Side

Floats = npt.NDArray[np.float64]
NEWEST = shift.SPANS[-1]
REFRESH = 5
"""Steps after which the past is summed up anew."""


def may_fire(spec: Guardrail, points: list[shift.Point]) -> bool:
    """Whether the test is beyond its limits at any of the points."""
    many = min(shift.STEPS_MAX, max(shift.STEPS_MIN, int(spec.past_s / max(spec.step_s, 1.0))))
    ends = np.arange(shift.STEPS_MIN + NEWEST - 1, len(points), REFRESH)  # newest point of a base
    if not ends.size:
        return False
    if points[0].trials is None:
        beyond = _levels(spec, np.array([p.value for p in points]), ends, many)
    else:
        trials = np.array([p.trials or 0.0 for p in points])
        events = np.array([p.events or 0.0 for p in points])
        bad = events if spec.side is Side.ABOVE else trials - events
        beyond = _shares(spec, bad, trials, ends, many)
    return bool(beyond.any())


def _held(base: Floats, ends: npt.NDArray[np.intp], length: int) -> Floats:
    """A base's figure at each of its minutes until the next base."""
    return np.repeat(base, REFRESH)[: length - int(ends[0])]


def _levels(
    spec: Guardrail, values: Floats, ends: npt.NDArray[np.intp], many: int
) -> npt.NDArray[np.bool_]:
    logs = np.log(np.maximum(values, 1e-12))
    centres, spreads = np.empty(ends.size), np.empty(ends.size)
    full = ends - NEWEST + 1 >= many
    if full.any():
        windows = np.lib.stride_tricks.sliding_window_view(logs, many)[
            ends[full] - NEWEST - many + 1
        ]
        centres[full], spreads[full] = _level_bases(np.sort(windows, axis=1))
    for place in np.flatnonzero(~full).tolist():
        past = np.sort(logs[: ends[place] - NEWEST + 1])[None, :]
        centre, spread = _level_bases(past)
        centres[place], spreads[place] = centre[0], spread[0]
    spreads = np.maximum(spec.spread_min / 2, spreads)
    start = int(ends[0])
    sign = 1.0 if spec.side is Side.ABOVE else -1.0
    centre, spread = _held(centres, ends, logs.size), _held(spreads, ends, logs.size)
    now, before = sign * (logs[start:] - centre), sign * (logs[start - 1 : -1] - centre)
    low, mean = np.minimum(now, before), (now + before) / 2
    worst = sign * np.minimum(sign * values[start:], sign * values[start - 1 : -1])
    enough = sign * math.log(max(spec.limit, 1e-12))
    return (low >= enough) & (mean / spread >= spec.evidence_z) & (worst >= spec.least)


def _level_bases(ordered: Floats) -> tuple[Floats, Floats]:
    centre = np.median(ordered, axis=1)
    last = ordered.shape[1] - 1
    spread = np.maximum.reduce(
        [
            1.4826 * np.median(np.abs(ordered - centre[:, None]), axis=1),
            (ordered[:, round(0.95 * last)] - centre) / 1.645,
            (centre - ordered[:, round(0.05 * last)]) / 1.645,
        ]
    )
    return centre, spread * (1 + 20 / ordered.shape[1])


def _shares(
    spec: Guardrail, bad: Floats, trials: Floats, ends: npt.NDArray[np.intp], many: int
) -> npt.NDArray[np.bool_]:
    def summed(x: Floats) -> Floats:
        return np.concatenate([[0.0], np.cumsum(x)])

    stop = ends - NEWEST + 1
    begin = np.maximum(0, stop - many)
    e, n, ee, en, nn = (
        (s := summed(x))[stop] - s[begin] for x in (bad, trials, bad**2, bad * trials, trials**2)
    )
    share = (e + 0.5) / (n + 1.0)
    beyond = ee - 2 * share * en + share**2 * nn - e
    noise = np.sqrt(np.maximum(0.0, beyond) / np.maximum(share**2 * nn, 1e-12))
    spread = np.maximum(spec.spread_min, noise * (1 + 20 / (stop - begin)))
    start = int(ends[0])
    share, spread, known = (_held(x, ends, bad.size) for x in (share, spread, e))
    fires = np.zeros(bad.size - start, dtype=bool)
    for span in shift.SPANS:
        up, down = np.arange(start, bad.size) + 1, np.arange(start, bad.size) + 1 - span
        k, m = summed(bad)[up] - summed(bad)[down], summed(trials)[up] - summed(trials)[down]
        expected = np.maximum(m * share, 1e-12)
        log = np.log(np.maximum(k, 1e-300) / expected)
        deviance = 2 * (np.where(k > 0, k * log, 0.0) - k + expected)
        scale = 1 + expected * spread**2 + expected / np.maximum(known, 1.0)
        z = np.copysign(np.sqrt(np.maximum(0.0, deviance) / scale), k - expected)
        value = k / np.maximum(m, 1e-12)
        fires |= (
            (z >= spec.evidence_z)
            & (value / share >= spec.limit)
            & (value >= spec.least)
            & (k >= shift.EVENTS_MIN)
            & (m >= spec.min_support)
        )
    return fires


def disagreements(spec: Guardrail, series: list[list[shift.Point]]) -> int:
    """Of how many series the screen and the product say different things."""
    wrong = 0
    for points in series:
        trail, fired = shift.Trail(), False
        for point in points:
            trail = shift.add(spec, trail, point, is_red=False)
            change = shift.look(spec, trail)
            if change is not None and change.is_beyond:
                fired = True
                break
        wrong += fired != may_fire(spec, points)
    return wrong
