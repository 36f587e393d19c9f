"""Has a service left its own recent past: by how many times, and is that more than its noise?

Robust to daily load (the past is the last two hours), to single odd steps (two in a row are asked for), and to noise
that goes on for a while (the mean of some steps is not taken to be less noisy than one). What is judged is not part
of the past, and what was red never becomes it before ``FORGET_S``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from gpuwarden.evaluate.fast.reading import Reading
from gpuwarden.model.guardrail import Guardrail, Side

SPANS = (2, 3, 6, 10)
"""So many of the newest steps are looked at together, for shares of counts; the first alone for levels."""
STEPS_MIN = 60
"""Before there are so many steps in the past nothing is said."""
_FEW_STEPS = 20
"""Noise that goes on for a while makes 60 steps tell less than they seem to: (1 + 20/n) times what they say."""
STEPS_MAX = 240
FORGET_S = 86_400.0
"""A shift that has lasted so long is what the service is like now."""
EVENTS_MIN = 5.0
_REFRESH = 5
_MAD = 1.4826
_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One step: its value, and the counts where it is a share."""

    at: float
    """Its end."""
    value: float
    events: float | None = None
    trials: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What the past says: median and noise of the logarithm; of shares the sums and the noise beyond chance."""

    centre: float
    spread: float
    events: float = 0.0
    trials: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """The newest steps, and those that have become the past."""

    newest: tuple[Point, ...] = ()
    past: tuple[Point, ...] = ()
    base: Base | None = None
    waiting: int = 0
    """Steps added to the past since ``base`` was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was found. ``times`` the past's value; ``z`` standard deviations, bad is positive."""

    is_beyond: bool
    times: float
    z: float
    value: float
    was: float


def point_of(at: float, reading: Reading) -> Point:
    return Point(at=at, value=reading.value, events=reading.events, trials=reading.trials)


def add(spec: Guardrail, trail: Trail, point: Point, *, is_red: bool) -> Trail:
    """The trail with one more step. While it is red the past stays as it was."""
    newest = (*trail.newest, point)
    if len(newest) <= SPANS[-1]:
        return replace(trail, newest=newest)
    oldest, newest = newest[0], newest[1:]
    if is_red:
        return replace(trail, newest=newest)
    many = min(STEPS_MAX, max(STEPS_MIN, int(spec.past_s / max(spec.step_s, 1.0))))
    past = (*trail.past, oldest)[-many:]
    waiting = trail.waiting + 1
    if trail.base is not None and waiting < _REFRESH:
        return replace(trail, newest=newest, past=past, waiting=waiting)
    base = _base(spec, past) if len(past) >= STEPS_MIN else None
    return Trail(newest=newest, past=past, base=base, waiting=0)


def look(spec: Guardrail, trail: Trail) -> Change | None:
    """The clearest change of the newest steps; ``None`` while the past is too short."""
    if trail.base is None or len(trail.newest) < SPANS[0]:
        return None
    if trail.newest[-1].trials is None or trail.base.trials <= 0:
        return _level(spec, trail.base, trail.newest[-SPANS[0] :])
    found = [
        _share(spec, trail.base, trail.newest[-span:])
        for span in SPANS
        if span <= len(trail.newest)
    ]
    return max(found, key=lambda change: (change.is_beyond, change.z))


def _base(spec: Guardrail, past: Sequence[Point]) -> Base:
    logs = sorted(math.log(max(p.value, _TINY)) for p in past)
    centre = median(logs)
    if all(p.trials is not None for p in past):
        return _share_base(spec, past)
    # The upper and the lower tenth as well: a MAD alone is blind to a heavy tail.
    last = len(logs) - 1
    spread = max(
        _MAD * median(abs(x - centre) for x in logs),
        (logs[round(0.95 * last)] - centre) / 1.645,
        (centre - logs[round(0.05 * last)]) / 1.645,
    )
    return Base(centre=centre, spread=max(spec.spread_min / 2, spread * _for_few(past)))


def _share_base(spec: Guardrail, past: Sequence[Point]) -> Base:
    bad = [(_bad(spec, p), p.trials or 0.0) for p in past]
    events, trials = sum(e for e, _ in bad), sum(n for _, n in bad)
    share = (events + 0.5) / (trials + 1.0)
    # Moments: what the squares of (k - m) are beyond k, over the squares of m.
    expected = [n * share for _, n in bad]
    beyond = sum((e - m) ** 2 - e for (e, _), m in zip(bad, expected, strict=True))
    noise = math.sqrt(max(0.0, beyond) / max(sum(m * m for m in expected), _TINY))
    return Base(
        centre=math.log(share),
        spread=max(spec.spread_min, noise * _for_few(past)),
        events=events,
        trials=trials,
    )


def _for_few(past: Sequence[Point]) -> float:
    return 1 + _FEW_STEPS / len(past)


def _bad(spec: Guardrail, point: Point) -> float:
    """Events that are bad: where too few are bad, those that did not happen."""
    events, trials = point.events or 0.0, point.trials or 0.0
    return events if spec.side is Side.ABOVE else max(0.0, trials - events)


def _level(spec: Guardrail, base: Base, points: Sequence[Point]) -> Change:
    sign = 1.0 if spec.side is Side.ABOVE else -1.0
    far = [sign * (math.log(max(p.value, _TINY)) - base.centre) for p in points]
    mean, was = sum(far) / len(far), math.exp(base.centre)
    z = mean / base.spread
    worst = min(points, key=lambda p: sign * p.value)
    enough = sign * math.log(max(spec.limit, _TINY))
    is_beyond = min(far) >= enough and z >= spec.evidence_z and worst.value >= spec.least
    return Change(
        is_beyond=is_beyond, times=math.exp(sign * mean), z=z, value=points[-1].value, was=was
    )


def _share(spec: Guardrail, base: Base, points: Sequence[Point]) -> Change:
    """Signed root of the deviance of a Poisson count, for noise beyond chance: (k log(k/m) - (k-m)) x 2 over
    (1 + m s^2 + m/K), with m expected, s the noise of the past and K the events it stands on."""
    events = sum(_bad(spec, p) for p in points)
    trials = sum(p.trials or 0.0 for p in points)
    share = math.exp(base.centre)
    expected = max(trials * share, _TINY)
    deviance = 2 * ((events * math.log(events / expected) if events else 0.0) - events + expected)
    scale = 1 + expected * base.spread**2 + expected / max(base.events, 1.0)
    z = math.copysign(math.sqrt(max(0.0, deviance) / scale), events - expected)
    value = events / trials if trials else 0.0
    times = value / share if share > 0 else math.inf
    is_beyond = (
        z >= spec.evidence_z
        and times >= spec.limit
        and value >= spec.least
        and events >= EVENTS_MIN
        and trials >= spec.min_support
    )
    if spec.side is Side.BELOW:
        value, share = 1 - value, 1 - share
    return Change(is_beyond=is_beyond, times=times, z=z, value=value, was=share)
