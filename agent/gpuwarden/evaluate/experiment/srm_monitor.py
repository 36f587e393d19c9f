"""The sample ratio as an interlock: while the split is wrong, nobody reads results or moves shares."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gpuwarden.evaluate.drift import multiplicity
from gpuwarden.evaluate.experiment import srm, srm_sequential


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Traffic of a time in which the shares stood still. Units, not requests; all may be merged sums."""

    shares: Mapping[str, float]
    counts: Mapping[str, int]
    by_segment: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SrmSettings:
    """``alpha`` over all looks together; 0.001 is the usual level (Kohavi, Tang & Xu)."""

    alpha: float = 0.001
    min_relative_deviation: float = 0.01  # of an arm's promised traffic; less biases nothing
    min_units: int = 100  # of all arms together, before anything is said
    concentration: float = 1000.0  # of the Dirichlet prior: tuned to deviations of a few percent
    segment_q: float = 0.05  # false discovery rate of the hints


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """A segment whose split is wrong by itself; deviation of its worst arm, relative."""

    segment: str
    arm: str
    deviation: float
    adjusted_p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SrmState:
    """``must_withhold``: results are not shown and decisions frozen until somebody releases it."""

    must_withhold: bool
    has_enough: bool  # False: too few units to say that the split is right
    p_now: float | None  # chi-square at this moment; for people, not for the decision
    p_always_valid: float
    max_relative_deviation: float | None
    leaks: tuple[str, ...]  # arms with traffic in a time when their share was 0
    hints: tuple[Hint, ...]
    why: str


def judge(periods: Sequence[Period], settings: SrmSettings = SrmSettings()) -> SrmState:
    """The state after all periods since the start, or since the last release, in order of time.

    Expected counts are the sum over periods of traffic x share in force, so a bandit's moving shares are
    no mismatch. The sequential test starts a new Dirichlet factor where the shares change; a product of
    such factors may still be looked at at any time. A leak withholds whatever the numbers say.
    """
    arms = sorted({arm for period in periods for arm in (*period.shares, *period.counts)})
    observed, expected, leaks = _sums(periods, arms)
    total = int(observed.sum())
    if not periods or total < settings.min_units:
        return _state(settings, leaks, enough=False)
    p_valid = math.exp(-min(700.0, _evidence(periods, arms, settings)))
    used = expected > 0
    gate = srm.practical_gate(
        [int(n) for n in observed[used]],
        expected[used].tolist(),
        alpha=settings.alpha,
        min_relative_deviation=settings.min_relative_deviation,
    )
    deviation = gate.max_relative_deviation or 0.0
    is_wrong = p_valid < settings.alpha and deviation >= settings.min_relative_deviation
    return _state(
        settings,
        leaks,
        enough=True,
        is_wrong=is_wrong,
        p_now=gate.p_value,
        p_valid=p_valid,
        deviation=deviation,
        hints=_hints(periods, arms, settings) if is_wrong or leaks else (),
    )


def _state(
    settings: SrmSettings,
    leaks: tuple[str, ...],
    *,
    enough: bool,
    is_wrong: bool = False,
    p_now: float | None = None,
    p_valid: float = 1.0,
    deviation: float | None = None,
    hints: tuple[Hint, ...] = (),
) -> SrmState:
    if leaks:
        why = f"traffic in {', '.join(leaks)}, which was promised none"
    elif not enough:
        why = f"fewer than {settings.min_units} units"
    elif is_wrong:
        why = f"an arm is {deviation:.1%} off its promised traffic (p {p_valid:.2g} at any look)"
    else:
        why = "the split is as promised"
    return SrmState(
        must_withhold=is_wrong or bool(leaks),
        has_enough=enough,
        p_now=p_now,
        p_always_valid=p_valid,
        max_relative_deviation=deviation,
        leaks=leaks,
        hints=hints,
        why=why,
    )


def _sums(
    periods: Sequence[Period], arms: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Observed and expected counts of each arm without what leaked, and the arms that leaked."""
    observed, expected = np.zeros(len(arms)), np.zeros(len(arms))
    leaks: set[str] = set()
    for period in periods:
        n, shares = _row(period.counts, arms), _row(period.shares, arms)
        if (n < 0).any() or (shares < 0).any() or not np.isfinite(n + shares).all():
            raise ValueError("periods: a count or a share is negative or not finite")
        if shares.sum() <= 0:
            raise ValueError("periods: the shares of a period sum to 0")
        leaks |= {arm for arm, k, s in zip(arms, n, shares, strict=True) if k and not s}
        n = np.where(shares > 0, n, 0.0)
        observed += n
        expected += n.sum() * shares / shares.sum()
    return observed, expected, tuple(sorted(leaks))


def _row(values: Mapping[str, float], arms: Sequence[str]) -> np.ndarray:
    return np.array([values.get(arm, 0) for arm in arms], dtype=np.float64)


def _evidence(periods: Sequence[Period], arms: Sequence[str], settings: SrmSettings) -> float:
    """Largest log evidence so far against the promised shares: sum over stretches of equal shares."""
    closed = best = 0.0
    stretch: list[list[int]] = []
    for index, period in enumerate(periods):
        shares = _row(period.shares, arms)
        used = shares > 0
        stretch.append([int(n) for n in _row(period.counts, arms)[used]])
        log_b = srm_sequential.log_factors(
            stretch, null=shares[used].tolist(), concentration=settings.concentration
        )[-1]
        best = max(best, closed + log_b)
        following = periods[index + 1].shares if index + 1 < len(periods) else period.shares
        if not np.allclose(_row(following, arms) / sum(following.values()), shares / shares.sum()):
            closed, stretch = closed + log_b, []
        else:
            stretch = [[sum(column) for column in zip(*stretch, strict=True)]]
    return best


def _hints(
    periods: Sequence[Period], arms: Sequence[str], settings: SrmSettings
) -> tuple[Hint, ...]:
    """Segments that mismatch by themselves, the surest first; corrected over all segments."""
    found = []
    for segment in sorted({name for period in periods for name in period.by_segment}):
        own = [
            Period(shares=period.shares, counts=period.by_segment[segment])
            for period in periods
            if segment in period.by_segment
        ]
        observed, expected, _ = _sums(own, arms)
        used = expected > 0
        if observed.sum() < settings.min_units:
            continue
        test = srm.expected_counts(
            [int(n) for n in observed[used]], expected[used].tolist(), alpha=settings.alpha
        )
        deviation = np.divide(observed, expected, out=np.ones_like(observed), where=used) - 1
        worst = int(np.abs(deviation).argmax())
        found.append((segment, arms[worst], float(deviation[worst]), test.p_value or 0.0))
    adjusted = multiplicity.adjusted([p for *_, p in found])
    hints = [
        Hint(segment=segment, arm=arm, deviation=deviation, adjusted_p=float(p))
        for (segment, arm, deviation, _), p in zip(found, adjusted, strict=True)
        if p <= settings.segment_q
    ]
    return tuple(sorted(hints, key=lambda hint: (hint.adjusted_p, hint.segment)))
