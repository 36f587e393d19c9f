"""Is one arm's rate of events higher than the other's? A test that may be looked at after every batch.

Events are anything counted per request: errors, requests slower than a bound. Of the events of one
batch the candidate's share is binomial with n_c r/(n_c r + n_b) for a ratio r of rates, whatever the
rate itself does with the time of day: load and peaks cancel, and so do moving shares.
"""

import math
from dataclasses import dataclass

RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Ratios, over the tolerated one, that the evidence is averaged over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Requests and events of both arms in the same time."""

    canary_requests: int
    canary_events: int
    baseline_requests: int
    baseline_events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioState:
    """Sums so far, and the log evidence for each of RATIOS; ``best`` is the largest ever seen."""

    canary_requests: int = 0
    canary_events: int = 0
    baseline_requests: int = 0
    baseline_events: int = 0
    log_evidence: tuple[float, ...] = (0.0,) * len(RATIOS)
    best: float = 0.0

    @property
    def p_always_valid(self) -> float:
        """Chance of ever seeing so much evidence while the ratio is tolerable."""
        return math.exp(-min(700.0, max(0.0, self.best)))

    @property
    def ratio(self) -> float | None:
        """Rate of the canary over that of the baseline; None where the baseline has no events."""
        if not self.canary_requests or not self.baseline_events:
            return None
        return (self.canary_events / self.canary_requests) / (
            self.baseline_events / self.baseline_requests
        )


def step(state: RatioState, batch: Batch, *, tolerated: float = 1.0) -> RatioState:
    """State after one more batch; ``tolerated`` is the largest ratio that is no harm.

    A likelihood ratio against the tolerated ratio, averaged over RATIOS (Robbins' mixture): it is a
    supermartingale for every ratio up to ``tolerated``, so Ville's inequality bounds all looks at once.
    """
    if not 0 < tolerated < math.inf:
        raise ValueError(f"tolerated: expected a number above 0, got {tolerated:g}")
    for requests, events in (
        (batch.canary_requests, batch.canary_events),
        (batch.baseline_requests, batch.baseline_events),
    ):
        if not 0 <= events <= requests:
            raise ValueError(f"{events} events of {requests} requests")
    logs = state.log_evidence
    if batch.canary_requests and batch.baseline_requests:  # else there is nothing to compare with
        logs = tuple(
            log + _gain(batch, tolerated, tolerated * ratio)
            for log, ratio in zip(logs, RATIOS, strict=True)
        )
    top = max(logs)
    mean = top + math.log(math.fsum(math.exp(log - top) for log in logs) / len(logs))
    return RatioState(
        canary_requests=state.canary_requests + batch.canary_requests,
        canary_events=state.canary_events + batch.canary_events,
        baseline_requests=state.baseline_requests + batch.baseline_requests,
        baseline_events=state.baseline_events + batch.baseline_events,
        log_evidence=logs,
        best=max(state.best, mean),
    )


def _gain(batch: Batch, null: float, ratio: float) -> float:
    n_c, n_b = batch.canary_requests, batch.baseline_requests
    null_total, total = n_c * null + n_b, n_c * ratio + n_b
    return batch.canary_events * math.log(ratio / null) + (
        batch.canary_events + batch.baseline_events
    ) * math.log(null_total / total)
