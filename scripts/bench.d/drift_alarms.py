"""False alarms of stationary services, and how soon real changes are found, at the shipped settings.

Each service has 20 features (16 of numbers in five shapes, 4 of categories; ``drift_world`` says how their rows hang together), a
reference of the week before, and labels. Windows of 1,000 rows are judged by the aggregator's own functions: sketches as nodes
make them, scores, correction over the features of a round, the fleet's budget. Windows that a cheap bound shows to be
far from material are not walked; ``screen_missed`` holds that bound to the judge. Beside it a judge that never fires
and one that always does, so that a figure can be read.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import drift_world as world
import numpy as np
import numpy.typing as npt
import scipy.stats

from gpuwarden.aggregator.drift_memories import settings_of
from gpuwarden.config_drift import DriftConfig
from gpuwarden.evaluate.drift import feature, from_sketch, live, multiplicity, wander
from gpuwarden.evaluate.drift.concept import SCANS, Concept
from gpuwarden.evaluate.drift.findings import level
from gpuwarden.evaluate.drift.live import LiveScore
from gpuwarden.evaluate.drift.profile import CategoryProfile, CategoryWindow, NumericProfile
from gpuwarden.evaluate.drift.wander import Wander
from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.evaluate.inputs import Floats

LINE = settings_of(DriftConfig())
"""What an aggregator judges by where nobody has set anything."""
RUNS = 100
SHIFT_SIGMA, LOSS = 0.5, 0.05
LABELS_AN_HOUR = 100.0
ACCURACIES = (0.97, 0.95, 0.90)
SHOWN_ACCURACY = 0.97
"""The accuracy that the bounds are for; what five points off the others can give is shown without one."""
STEP_S = 86_400.0 / world.STEPS_A_DAY
HISTORY_DAYS = 5
"""Of labels before the loss: 12,000, more than a reference holds."""
SCREEN_PSI, SCREEN_MOVED = 0.85, 0.85
"""Of what is material: windows below are not walked."""
BOUNDS = {"drift_pages_30_days": 1, "drift_screen_missed": 0}
LEAST = {"drift_shift_found": 95, "drift_loss_found": 95}
ROWS = (
    ("drift_services", "stationary services of 20 features each"),
    ("drift_days", "  days of each, about 1,000 rows and 100 labels an hour"),
    ("drift_pages_30_days", "pages, features and accuracy together"),
    ("drift_pages_features", "  of which features"),
    ("drift_pages_accuracy", f"  of which accuracy, base {SHOWN_ACCURACY:g}"),
    ("drift_windows", "  windows of 1,000 rows judged, of all services"),
    ("drift_windows_walked", "  of which the screen left to the judge"),
    ("drift_screen_missed", "  windows that the screen dropped and the judge finds, of 5 a service looked at"),
    ("drift_pages_never", "  a judge that never fires"),
    ("drift_pages_always", "  a judge that always fires"),
    ("drift_shift_found", "a feature half a sigma off, found in 2 windows of 1,000 rows, of 100 runs"),
    ("drift_shift_found_first", "  in the first of them"),
    ("drift_shift_others", "  runs in which another feature was named, too"),
    ("drift_loss_found", f"accuracy five points off {SHOWN_ACCURACY:g}, found in 1,000 labels, of 100 runs"),
    ("drift_found_never", "  each by a judge that never fires"),
    ("drift_found_always", "  each by a judge that always fires"),
    *(
        row
        for a in ACCURACIES
        for row in (
            (f"drift_loss_{a:g}_found", f"    five points off {a:g}: found in 1,000 labels"),
            (f"drift_loss_{a:g}_pages", f"    five points off {a:g}: false alarms, services all of this kind"),
        )
    ),
)  # fmt: skip

Flags = npt.NDArray[np.bool_]
Profile = NumericProfile | CategoryProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Rows of the live time, and profiles of the week before."""

    values: dict[str, Floats]
    profiles: dict[str, Profile]


def draw(r: np.random.Generator, days: float) -> Service:
    """A service of its own: the reference ends where the live time begins."""
    clock = world.Clock.of(r, world.REFERENCE_DAYS + days)
    split = int(np.searchsorted(clock.hour, world.REFERENCE_DAYS * 24))
    values: dict[str, Floats] = {}
    profiles: dict[str, Profile] = {}
    for place in range(world.NUMBERS):
        rows = world.Number.of(r, place).values(r, clock)
        values[f"n{place}"] = rows[split:]
        profiles[f"n{place}"] = world.number_profile(rows[:split])
    for place in range(world.CATEGORIES):
        rows = world.categories(r, clock, r.normal(size=2 + place))
        values[f"c{place}"] = rows[split:]
        profiles[f"c{place}"] = world.category_profile(rows[:split])
    return Service(values=values, profiles=profiles)


def found(
    service: Service, window: int, q: float, usual: Mapping[str, Wander] | None = None
) -> tuple[str, ...]:
    """Features of one round that are findings, as the aggregator judges it; ``usual``: what is remembered of each."""
    scored = {name: _p_value(service, name, window, usual) for name in service.profiles}
    p_values = {name: p for name, (p, _) in scored.items() if p is not None}
    adjusted = multiplicity.adjusted(list(p_values.values()))
    return tuple(
        name for name, p in zip(p_values, adjusted, strict=True) if p <= q and scored[name][1]
    )


def may_be_found(
    service: Service, names: Iterable[str], window: int, q: float, usual: Mapping[str, Wander]
) -> bool:
    """Whether one of these is material and its p, which a correction only raises, within the level."""
    for name in names:
        p, is_material = _p_value(service, name, window, usual)
        if is_material and p is not None and p <= q:
            return True
    return False


def _p_value(
    service: Service, name: str, window: int, usual: Mapping[str, Wander] | None
) -> tuple[float | None, bool]:
    rows = slice(window * LINE.rows, (window + 1) * LINE.rows)
    scored = _score(service.profiles[name], service.values[name][rows])
    p = live.p_value(scored, Wander() if usual is None else usual[name])
    return p, live.is_material(scored, LINE.drift)


def _score(known: Profile, values: Floats) -> LiveScore:
    if isinstance(known, CategoryProfile):
        counts = np.bincount(values.astype(int), minlength=len(world.NAMES))
        names = {n: int(c) for n, c in zip(world.NAMES, counts, strict=True) if n in known.counts}
        other = int(counts.sum()) - sum(names.values())
        return live.categories(known, CategoryWindow(counts=names, other=other))
    told = values[np.isfinite(values)]
    sketch = sketches.of(told.tolist())
    window = from_sketch.window(known, sketch)
    return live.numbers(known, window, low=sketch.low, high=sketch.high)


def screened(known: Profile, values: Floats) -> tuple[Flags, Floats]:
    """Windows in which this feature may be material, and its PSI beyond noise in each: all of them at once."""
    whole = values.size // LINE.rows
    values = values[: whole * LINE.rows]
    window = np.repeat(np.arange(whole), LINE.rows)
    settings = LINE.drift
    if isinstance(known, CategoryProfile):
        ref = np.array([float(known.counts.get(name, 0)) for name in world.NAMES])
        which, is_told = values.astype(int), np.ones(values.size, dtype=bool)
    else:
        ref = np.array(known.counts, dtype=np.float64)
        is_told = np.isfinite(values)
        which = np.searchsorted(np.array(known.edges), values, side="right")
    counts = np.bincount((window * ref.size + which)[is_told], minlength=whole * ref.size).reshape(
        whole, ref.size
    )
    seen = counts.sum(axis=1)
    p = np.maximum(ref / ref.sum(), feature.FLOOR)
    q = np.maximum(counts / seen[:, None], feature.FLOOR)
    psi = ((q - p) * np.log(q / p)).sum(axis=1)
    noise = (np.count_nonzero(ref) - 1) * (1 / seen + 1 / ref.sum())
    if isinstance(known, CategoryProfile) or not known.std:
        return psi >= SCREEN_PSI * settings.material_psi, psi - noise
    below = np.cumsum(ref)[:-1] / ref.sum() - np.cumsum(counts, axis=1)[:, :-1] / seen[:, None]
    area = np.abs(below) @ np.diff(np.array(known.centres))
    sums = np.bincount(window[is_told], weights=values[is_told], minlength=whole)
    moved = np.maximum(area, np.abs(sums / seen - known.mean)) / known.std
    return moved >= SCREEN_MOVED * settings.material_wasserstein_norm, psi - noise


def quiet_service(task: tuple[int, int, int, int]) -> dict[str, int]:
    """Pages of one stationary service: seed, number, days, services."""
    seed, number, days, services = task
    r = np.random.default_rng([seed, number])
    service, q = draw(r, days), quota(services)
    looked = {name: screened(each, service.values[name]) for name, each in service.profiles.items()}
    may = np.logical_or.reduce([one for one, _ in looked.values()])
    leave = LINE.leave_rounds
    last: dict[str, int] = {}
    usual = {name: Wander() for name in service.profiles}
    pages = walked = 0
    for window in range(may.size):
        named: tuple[str, ...] = ()
        if may[window]:
            walked += 1
            near = [name for name, (one, _) in looked.items() if one[window]]
            if may_be_found(service, near, window, q, usual):
                named = found(service, window, q, usual)
        for name in named:
            pages += window - last.get(name, -leave - 1) > leave
            last[name] = window
        for name, (_, excess) in looked.items():
            if window - last.get(name, -leave - 1) > leave:
                usual[name] = wander.after(usual[name], float(excess[window]))
    dropped = r.choice(np.flatnonzero(~may), size=5, replace=False).tolist()
    result = {
        "pages": pages,
        "windows": int(may.size),
        "walked": walked,
        "missed": sum(bool(found(service, window, q, usual)) for window in dropped),
    }
    for good in ACCURACIES:
        said = world.labels(r, days, an_hour=LABELS_AN_HOUR, error=1 - good)
        result[f"loss_{good:g}"] = len(losses(said, services)) if may_lose(said, services) else 0
    return result


def quota(services: int) -> float:
    """The level of one round: of the fleet's budget the service's part for as long as a window takes."""
    hours = LINE.rows / world.ROWS_AN_HOUR
    return level(LINE.drift, rounds_per_day=services * 24 / hours)


def losses(said: world.Labels, streams: int) -> list[int]:
    """Labels seen at each new verdict that accuracy has dropped, step by step."""
    judge, seen, onsets, was = Concept(LINE.concept), 0, [], False
    for step, (n, k) in enumerate(zip(said.labels.tolist(), said.wrong.tolist(), strict=True)):
        judge.add(step * STEP_S, (step + 1) * STEP_S, int(n), int(k))
        judge.judge((step + 1) * STEP_S, streams=streams)
        seen += int(n)
        if judge.memory.is_drift and not was:
            onsets.append(seen)
        was = judge.memory.is_drift
    return onsets


def may_lose(said: world.Labels, streams: int) -> bool:
    """Whether any step's newest labels could be unlikely enough: a bound that is never above the judge's own chance.

    The reference is at least the least share of any stretch that it may be made of; everything else is the judge's.
    """
    settings = LINE.concept
    n, k = np.cumsum(said.labels), np.cumsum(said.wrong)
    days = np.arange(n.size) / world.STEPS_A_DAY
    may_be_learned = (n <= 2 * settings.reference_max) | (
        days <= 1.5 * settings.reference_span_s / 86_400
    )
    learned = (n >= settings.reference_min) & may_be_learned
    base = max(float((k / np.maximum(n, 1))[learned].min()) * 0.98, settings.share_floor)
    per_day = float(n[-1]) / (n.size / world.STEPS_A_DAY)
    for size, part in settings.windows:
        first = np.searchsorted(n, n - size, side="right") - 1  # the last step before the window
        before = np.where(first >= 0, n[first], 0.0), np.where(first >= 0, k[first], 0.0)
        labels, wrong = n - before[0], k - before[1]
        limit = 1.5 * settings.pages_per_day * part / (SCANS * per_day / size * streams)
        chance = scipy.stats.binom.sf(wrong - 1, labels, base)
        is_large = wrong / np.maximum(labels, 1) - base >= settings.material_loss
        if (is_large & (chance <= limit) & (labels >= size)).any():
            return True
    return False


def changed_service(task: tuple[int, int, int]) -> dict[str, int]:
    """What one run finds in time: seed, number, services."""
    seed, number, services = task
    r = np.random.default_rng([seed, number, 1])
    service = draw(r, 0.5)
    name = f"n{number % world.NUMBERS}"
    known = service.profiles[name]
    assert isinstance(known, NumericProfile)
    service.values[name][:] += SHIFT_SIGMA * known.std
    q = quota(services)
    rounds = [found(service, window, q) for window in range(2)]
    result = {
        "shift_found": int(any(name in each for each in rounds)),
        "shift_found_first": int(name in rounds[0]),
        "shift_others": int(any(set(each) - {name} for each in rounds)),
    }
    for good in ACCURACIES:
        said = world.labels(
            r,
            HISTORY_DAYS + 1,
            an_hour=LABELS_AN_HOUR,
            error=1 - good,
            drop=LOSS,
            drop_day=HISTORY_DAYS,
        )
        start = float(said.labels[: HISTORY_DAYS * world.STEPS_A_DAY].sum())
        onsets = losses(said, services)
        result[f"loss_{good:g}_found"] = int(any(start < seen <= start + 1000 for seen in onsets))
    return result


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rows; on every core this process may use."""
    with multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0))) as pool:
        quiet = pool.map(
            quiet_service,
            [(options.seed, n, options.days, options.services) for n in range(options.services)],
            1,
        )
        changed = pool.map(
            changed_service, [(options.seed, n, options.services) for n in range(RUNS)], 4
        )
    wrong = {key: sum(each[key] for each in quiet) for key in quiet[0]}
    right = {key: sum(each[key] for each in changed) for key in changed[0]}
    of_accuracy = wrong[f"loss_{SHOWN_ACCURACY:g}"]
    return {
        "drift_services": options.services,
        "drift_days": options.days,
        "drift_pages_30_days": wrong["pages"] + of_accuracy,
        "drift_pages_features": wrong["pages"],
        "drift_pages_accuracy": of_accuracy,
        "drift_windows": wrong["windows"],
        "drift_windows_walked": wrong["walked"],
        "drift_screen_missed": wrong["missed"],
        "drift_pages_never": 0,
        "drift_pages_always": wrong["windows"],
        "drift_found_never": 0,
        "drift_found_always": RUNS,
        "drift_loss_found": right[f"loss_{SHOWN_ACCURACY:g}_found"],
        **{f"drift_loss_{good:g}_pages": wrong[f"loss_{good:g}"] for good in ACCURACIES},
        **{f"drift_{key}": value for key, value in right.items()},
    }
