"""A canary against its baseline of the same time: errors and latency, looked at after every window."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from gpuwarden.evaluate.experiment import rate_ratio
from gpuwarden.evaluate.experiment.rate_ratio import Batch, RatioState


class CanaryFinding(StrEnum):
    """``NO_DATA`` is neither good nor bad: it holds the step, it does not fail it."""

    NO_DATA = "no_data"
    UNDECIDED = "undecided"
    WORSE = "worse"
    NO_WORSE = "no_worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Counts of one window of the same time; slow ones are above ``slow_bound`` of the window before.

    They come out of merged DDSketches or histograms by rank, on a bucket's edge, so they are exact.
    """

    canary_requests: int
    canary_errors: int
    canary_slow: int
    baseline_requests: int
    baseline_errors: int
    baseline_slow: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CanarySettings:
    """``alpha`` is for both questions together, over all looks."""

    alpha: float = 0.01
    tolerated_error_ratio: float = 1.1
    tolerated_slow_ratio: float = 1.25
    min_harm_error_share: float = 0.002  # of requests, above the baseline's: less is no harm
    min_harm_slow_share: float = 0.01
    min_requests: int = 2000  # of the canary, before it may be called no worse
    min_baseline_requests: int = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryState:
    """What is kept between windows; all of it numbers, so that it survives a restart."""

    errors: RatioState = field(default_factory=RatioState)
    slow: RatioState = field(default_factory=RatioState)


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryVerdict:
    """The finding and what it rests on."""

    finding: CanaryFinding
    why: str
    p_errors: float
    p_slow: float


def step(state: CanaryState, window: Window, settings: CanarySettings) -> CanaryState:
    """State after one window."""
    return CanaryState(
        errors=rate_ratio.step(
            state.errors,
            Batch(
                canary_requests=window.canary_requests,
                canary_events=window.canary_errors,
                baseline_requests=window.baseline_requests,
                baseline_events=window.baseline_errors,
            ),
            tolerated=settings.tolerated_error_ratio,
        ),
        slow=rate_ratio.step(
            state.slow,
            Batch(
                canary_requests=window.canary_requests,
                canary_events=window.canary_slow,
                baseline_requests=window.baseline_requests,
                baseline_events=window.baseline_slow,
            ),
            tolerated=settings.tolerated_slow_ratio,
        ),
    )


def judge(state: CanaryState, settings: CanarySettings) -> CanaryVerdict:
    """Worse: surely beyond the tolerated ratio, and by enough to matter.

    Canary and baseline are of the same time, so load, peaks and neighbours hit both; only what differs
    between versions is left.
    """
    alpha = settings.alpha / 2
    p_errors, p_slow = state.errors.p_always_valid, state.slow.p_always_valid
    for name, ratio, least in (
        ("errors", state.errors, settings.min_harm_error_share),
        ("slow requests", state.slow, settings.min_harm_slow_share),
    ):
        gap = _gap(ratio)
        if ratio.p_always_valid < alpha and gap >= least:
            why = f"{name}: {gap:+.2%} of requests beside the baseline"
            return _verdict(CanaryFinding.WORSE, why, p_errors, p_slow)
    seen, beside = state.errors.canary_requests, state.errors.baseline_requests
    if not seen or not beside:
        who = "canary" if not seen else "baseline"
        return _verdict(CanaryFinding.NO_DATA, f"no request of the {who}", p_errors, p_slow)
    if seen < settings.min_requests or beside < settings.min_baseline_requests:
        why = f"{seen} requests of the canary, {beside} of the baseline"
        return _verdict(CanaryFinding.UNDECIDED, why, p_errors, p_slow)
    return _verdict(CanaryFinding.NO_WORSE, f"no worse in {seen} requests", p_errors, p_slow)


def _verdict(finding: CanaryFinding, why: str, p_errors: float, p_slow: float) -> CanaryVerdict:
    return CanaryVerdict(finding=finding, why=why, p_errors=p_errors, p_slow=p_slow)


def _gap(state: RatioState) -> float:
    """Share of events of the canary's requests above that of the baseline's."""
    if not state.canary_requests or not state.baseline_requests:
        return -math.inf
    return (
        state.canary_events / state.canary_requests
        - state.baseline_events / state.baseline_requests
    )
