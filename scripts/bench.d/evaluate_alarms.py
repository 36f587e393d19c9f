"""False alarms of stationary services, and how soon real changes are found, at the shipped settings.

Services of minute resolution: a daily load, values that stay high or low for a while (AR(1)), and counts
that scatter as counts do. What pages is judged: every guardrail of the default pack that pages, by the
functions the aggregator judges with. Beside them a judge that never fires and one that always does, so that
a figure can be read.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
from dataclasses import dataclass
from typing import Any

import evaluate_screen
import numpy as np
import numpy.typing as npt

from gpuwarden.config_guardrails import pack
from gpuwarden.evaluate.fast import accuracy, decline, shift
from gpuwarden.model.guardrail import Guardrail

Floats = npt.NDArray[np.float64]
MINUTES_A_DAY = 1440
RUNS = 100
HISTORY_MIN = 360
"""Minutes of a service before the change that is to be found."""
SIGMA, TAIL = 0.35, 0.0267
"""Log-spread of one request's latency, and the normal density at its 99th percentile."""
ERROR_SHARE = 0.01
ACCURACIES = (0.98, 0.97, 0.95, 0.90)
SHOWN_ACCURACY = 0.97
"""The accuracy that the bounds are for; what five points off the others can give is shown without one."""
LABELS_A_MINUTE = 1.0
REFERENCE_LABELS = 10_000
SCREEN_PART = 0.8
"""Of the usual labels a day: a series whose evidence never comes near a limit for that many is not walked."""
BOUNDS = {"pages_30_days": 1, "screen_disagreements": 0}
LEAST = {
    "latency_x2_in_2_min": 95,
    "errors_1_to_3_percent_in_3_min": 95,
    "accuracy_5_points_in_1000_labels": 95,
}
ROWS = (
    ("services", "stationary services"),
    ("days", "  days of each, minute by minute"),
    ("pages_30_days", "pages, all guardrails that page together"),
    ("pages_latency", "  of which latency"),
    ("pages_errors", "  of which errors"),
    ("pages_accuracy", "  of which accuracy"),
    ("screen_disagreements", "  series on which screen and product disagree, of 16"),
    ("pages_never", "  a judge that never fires"),
    ("pages_always", "  a judge that always fires"),
    ("latency_x2_in_2_min", "p99 doubled, found in 2 minutes, of 100 runs"),
    ("errors_1_to_3_percent_in_3_min", "error rate from 1 % to 3 %, found in 3 minutes, of 100 runs"),
    ("accuracy_5_points_in_1000_labels", "accuracy five points down, found in 1,000 labels, of 100 runs"),
    ("found_never", "  each by a judge that never fires"),
    ("found_always", "  each by a judge that always fires"),
    *(
        row
        for a in ACCURACIES
        for row in (
            (f"accuracy_{a:g}_found", f"    five points off {a:g}: found in 1,000 labels"),
            (f"accuracy_{a:g}_pages", f"    five points off {a:g}: false alarms, services all of this kind"),
        )
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What one service shows minute by minute."""

    requests: Floats
    p99_s: Floats
    errors: Floats
    labels: Floats
    wrong: Floats


def ar1(r: np.random.Generator, minutes: int, *, phi: float, spread: float) -> Floats:
    """Noise of standard deviation ``spread`` that forgets with ``phi`` a minute."""
    import scipy.signal

    steps = r.normal(0, spread * math.sqrt(1 - phi * phi), minutes)
    steps[0] = r.normal(0, spread)
    return np.asarray(scipy.signal.lfilter([1.0], [1.0, -phi], steps))


def draw(
    r: np.random.Generator,
    minutes: int,
    *,
    change_at: int | None = None,
    latency: float = 1.0,
    errors: float = 1.0,
    error_of_model: float = 1 - SHOWN_ACCURACY,
    drop: float = 0.0,
) -> Service:
    """A service of its own size (1,000 to 10,000 requests a minute), level and hour; from ``change_at`` on with these factors."""
    t = np.arange(minutes)
    day = np.sin(2 * math.pi * (t / MINUTES_A_DAY + r.random()))
    load = (1 + 0.5 * day) * np.exp(ar1(r, minutes, phi=0.95, spread=0.1))
    n = r.poisson(1000 * 10 ** r.random() * load).astype(np.float64)
    after = (t >= change_at) if change_at is not None else np.zeros(minutes, dtype=bool)
    level = math.log(r.uniform(0.08, 0.2)) + 0.1 * day + ar1(r, minutes, phi=0.9, spread=0.06)
    scatter = SIGMA * math.sqrt(0.0099) / TAIL / np.sqrt(np.maximum(n, 1)) * r.normal(size=minutes)
    p99 = np.exp(level + scatter) * np.where(after, latency, 1.0)
    share = ERROR_SHARE * np.exp(0.1 * day + ar1(r, minutes, phi=0.9, spread=0.1))
    k = r.binomial(n.astype(int), np.minimum(share * np.where(after, errors, 1.0), 1.0))
    labels = r.poisson(LABELS_A_MINUTE * load)
    miss = error_of_model * np.exp(ar1(r, minutes, phi=0.98, spread=0.05)) + np.where(
        after, drop, 0.0
    )
    return Service(
        requests=n,
        p99_s=p99,
        errors=k.astype(np.float64),
        labels=labels.astype(np.float64),
        wrong=r.binomial(labels, np.minimum(miss, 1.0)).astype(np.float64),
    )


def onsets(is_beyond: list[bool], leave: int) -> list[int]:
    """Minutes at which it turns red, red lasting until it has been well for ``leave`` minutes."""
    found, well, is_red = [], 0, False
    for minute, bad in enumerate(is_beyond):
        well = 0 if bad else well + 1
        if bad and not is_red:
            found.append(minute)
            is_red = True
        elif is_red and well >= leave:
            is_red = False
    return found


def by_shift(spec: Guardrail, points: list[shift.Point], leave: int) -> list[int]:
    """Onsets by the pack's own test of a step against the past."""
    if not evaluate_screen.may_fire(spec, points):
        return []
    trail, beyond, well, is_red = shift.Trail(), [], 0, False
    for point in points:
        trail = shift.add(spec, trail, point, is_red=is_red)
        change = shift.look(spec, trail)
        bad = change is not None and change.is_beyond
        well = 0 if bad else well + 1
        is_red = bad or (is_red and well < leave)
        beyond.append(bad)
    return onsets(beyond, leave)


def shares(events: Floats, trials: Floats, least: float) -> list[shift.Point]:
    return [
        shift.Point(at=60.0 * i, value=e / n, events=e, trials=n)
        for i, (e, n) in enumerate(zip(events.tolist(), trials.tolist(), strict=True))
        if n >= max(least, 1)
    ]


def pages(service: Service) -> dict[str, list[int]]:
    """Onsets of everything that pages, by what it is about; minutes."""
    packed = {each.name: each for each in pack(())}
    leave = 2
    levels = [shift.Point(at=60.0 * i, value=v) for i, v in enumerate(service.p99_s.tolist())]
    latency = by_shift(packed["latency-p99-shift"], levels, leave)
    latency += onsets((service.p99_s > packed["latency-p99"].limit).tolist(), leave)
    errors = by_shift(
        packed["error-rate-shift"], shares(service.errors, service.requests, 100), leave
    )
    limit = packed["error-rate"].limit
    errors += onsets((service.errors > limit * np.maximum(service.requests, 1)).tolist(), leave)
    return {"latency": latency, "errors": errors}


def accuracy_onsets(service: Service, wrong: int) -> list[float]:
    """Labels seen when accuracy turns red, by the pack's own judge, minute by minute; ``wrong`` of the reference's
    ``REFERENCE_LABELS`` were mistakes."""
    spec = {each.name: each for each in pack(())}["accuracy-drop"]
    begun = decline.Decline(
        since=-REFERENCE_LABELS / LABELS_A_MINUTE * 60.0,
        told_at=0.0,
        reference_labels=REFERENCE_LABELS,
        reference_wrong=wrong,
    )
    settings = decline.settings_of(spec)
    reference = accuracy.reference_error(REFERENCE_LABELS, wrong, settings)
    assert reference is not None
    # All minutes at once: the evidence is the sum so far less its least value so far.
    up = math.log((reference + settings.drop) / reference)
    down = math.log((1 - reference) / (1 - reference - settings.drop))
    total = np.cumsum(service.wrong * (up + down) - service.labels * down)
    limit = accuracy.limit(reference, SCREEN_PART * LABELS_A_MINUTE * MINUTES_A_DAY, settings)
    if (total - np.minimum(np.minimum.accumulate(total), 0.0)).max() < limit:
        return []
    known, found, is_red, seen = begun, [], False, 0
    for minute, (n, k) in enumerate(
        zip(service.labels.tolist(), service.wrong.tolist(), strict=True)
    ):
        known, seen = decline.add(spec, known, 60.0 * minute, int(n), int(k)), seen + int(n)
        if known.state.is_red and not is_red:
            found.append(seen)
        is_red = known.state.is_red
    return found


def known_error(r: np.random.Generator, error: float) -> int:
    """Mistakes in the reference as it would have been measured."""
    return int(r.binomial(REFERENCE_LABELS, error))


def quiet_service(task: tuple[int, int, int]) -> dict[str, int]:
    """Pages of one stationary service: seed, number, minutes."""
    seed, number, minutes = task
    r = np.random.default_rng([seed, number])
    service = draw(r, minutes)
    found = {name: len(each) for name, each in pages(service).items()}
    found["accuracy"] = len(accuracy_onsets(service, known_error(r, 1 - SHOWN_ACCURACY)))
    for good in ACCURACIES:
        other = draw(r, minutes, error_of_model=1 - good)
        found[f"accuracy_{good:g}"] = len(accuracy_onsets(other, known_error(r, 1 - good)))
    return found


def changed_service(task: tuple[int, int]) -> dict[str, int]:
    """Which of the changes one run finds in time: seed, number."""
    seed, number = task
    r = np.random.default_rng([seed, number, 1])
    at = HISTORY_MIN
    slow = draw(r, at + 2, change_at=at, latency=2.0)
    failing = draw(r, at + 3, change_at=at, errors=3.0)
    found = {
        "latency_x2_in_2_min": any(m >= at for m in pages(slow)["latency"]),
        "errors_1_to_3_percent_in_3_min": any(m >= at for m in pages(failing)["errors"]),
    }
    for good in ACCURACIES:
        error = 1 - good
        before = 14 * MINUTES_A_DAY
        worse = draw(r, before + 2000, change_at=before, error_of_model=error, drop=0.05)
        start = float(worse.labels[:before].sum())
        by_cusum = accuracy_onsets(worse, known_error(r, error))
        found[f"accuracy_{good:g}_found"] = any(start < s <= start + 1000 for s in by_cusum)
    return {name: int(value) for name, value in found.items()}


def self_check(seed: int) -> int:
    """Series on which the screen and the product disagree: quiet ones, and ones that change slightly."""
    packed = {each.name: each for each in pack(())}
    wrong = 0
    for number in range(8):
        r = np.random.default_rng([seed, number, 2])
        some = draw(r, 420, change_at=380, latency=1 + 0.15 * number, errors=1 + 0.3 * number)
        levels = [shift.Point(at=60.0 * i, value=v) for i, v in enumerate(some.p99_s.tolist())]
        counted = shares(some.errors, some.requests, 100)
        wrong += evaluate_screen.disagreements(packed["latency-p99-shift"], [levels])
        wrong += evaluate_screen.disagreements(packed["error-rate-shift"], [counted])
    return wrong


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rows; on every core this process may use."""
    minutes = options.days * MINUTES_A_DAY
    with multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0))) as pool:
        quiet = pool.map(
            quiet_service, [(options.seed, i, minutes) for i in range(options.services)], 1
        )
        changed = pool.map(changed_service, [(options.seed, i) for i in range(RUNS)], 4)
        screened_wrong = pool.apply(self_check, (options.seed,))
    wrong = {name: sum(each[name] for each in quiet) for name in quiet[0]}
    found = {name: sum(each[name] for each in changed) for name in changed[0]}
    return {
        "services": options.services,
        "days": options.days,
        "pages_30_days": wrong["latency"] + wrong["errors"] + wrong["accuracy"],
        "pages_latency": wrong["latency"],
        "pages_errors": wrong["errors"],
        "pages_accuracy": wrong["accuracy"],
        "screen_disagreements": screened_wrong,
        "pages_never": 0,
        "pages_always": options.services * minutes,
        "found_never": 0,
        "found_always": RUNS,
        "accuracy_5_points_in_1000_labels": found[f"accuracy_{SHOWN_ACCURACY:g}_found"],
        **{f"accuracy_{good:g}_pages": wrong[f"accuracy_{good:g}"] for good in ACCURACIES},
        **found,
    }
