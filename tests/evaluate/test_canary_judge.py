"""A canary beside its baseline: found when worse, left alone when not, whatever the load does."""

from __future__ import annotations

import numpy as np
import pytest

from gpuwarden.evaluate.experiment import canary, rate_ratio
from gpuwarden.evaluate.experiment.canary import (
    CanaryFinding,
    CanarySettings,
    CanaryState,
    Window,
)
from gpuwarden.evaluate.experiment.rate_ratio import Batch, RatioState

SETTINGS = CanarySettings()


def windows(
    seed: int, *, errors: float, canary_errors: float, slow: float, canary_slow: float, n: int = 200
) -> list[Window]:
    """5 % canary; load and both rates swing together over the day."""
    r = np.random.default_rng(seed)
    found = []
    for index in range(n):
        load = 1 + 0.6 * np.sin(index / 20)
        base, few = int(r.poisson(3800 * load)), int(r.poisson(200 * load))
        found.append(
            Window(
                canary_requests=few,
                canary_errors=int(r.binomial(few, canary_errors * load)),
                canary_slow=int(r.binomial(few, canary_slow * load)),
                baseline_requests=base,
                baseline_errors=int(r.binomial(base, errors * load)),
                baseline_slow=int(r.binomial(base, slow * load)),
            )
        )
    return found


def first(windows_: list[Window], finding: CanaryFinding) -> int | None:
    state = CanaryState()
    for index, window in enumerate(windows_):
        state = canary.step(state, window, SETTINGS)
        if canary.judge(state, SETTINGS).finding is finding:
            return index
    return None


def test_alike_is_never_worse() -> None:
    for seed in range(60):
        alike = windows(seed, errors=0.01, canary_errors=0.01, slow=0.05, canary_slow=0.05)
        assert first(alike, CanaryFinding.WORSE) is None
        assert first(alike, CanaryFinding.NO_WORSE) is not None


def test_errors_tripled_are_found_soon() -> None:
    late = [
        first(
            windows(seed, errors=0.01, canary_errors=0.03, slow=0.05, canary_slow=0.05),
            CanaryFinding.WORSE,
        )
        for seed in range(40)
    ]
    found = [index for index in late if index is not None]
    assert len(found) == 40
    assert np.median(found) <= 6  # windows of 200 requests of the canary


def test_slow_requests_doubled_are_found() -> None:
    late = [
        first(
            windows(seed, errors=0.01, canary_errors=0.01, slow=0.05, canary_slow=0.10),
            CanaryFinding.WORSE,
        )
        for seed in range(40)
    ]
    assert all(index is not None for index in late)


def test_a_small_certain_difference_is_no_harm() -> None:
    state = CanaryState()
    for _ in range(50):
        state = canary.step(
            state,
            Window(
                canary_requests=10**6,
                canary_errors=300,
                canary_slow=0,
                baseline_requests=10**6,
                baseline_errors=100,
                baseline_slow=0,
            ),
            SETTINGS,
        )
    got = canary.judge(state, SETTINGS)
    assert got.p_errors < 1e-9
    assert got.finding is CanaryFinding.NO_WORSE


@pytest.mark.parametrize(
    ("of_canary", "of_baseline", "finding"),
    [
        (0, 0, CanaryFinding.NO_DATA),
        (0, 5000, CanaryFinding.NO_DATA),
        (5000, 0, CanaryFinding.NO_DATA),
        (1999, 5000, CanaryFinding.UNDECIDED),
        (5000, 1999, CanaryFinding.UNDECIDED),
        (2000, 2000, CanaryFinding.NO_WORSE),
    ],
)
def test_silence_is_no_pass(of_canary: int, of_baseline: int, finding: CanaryFinding) -> None:
    window = Window(
        canary_requests=of_canary,
        canary_errors=0,
        canary_slow=0,
        baseline_requests=of_baseline,
        baseline_errors=0,
        baseline_slow=0,
    )
    state = canary.step(CanaryState(), window, SETTINGS)
    assert canary.judge(state, SETTINGS).finding is finding


def test_false_alarms_over_all_looks_stay_below_the_level() -> None:
    alarms = 0
    r = np.random.default_rng(1)
    for _ in range(400):
        state, is_alarm = RatioState(), False
        for c, b in zip(r.binomial(300, 0.05, 100), r.binomial(900, 0.05, 100), strict=True):
            batch = Batch(
                canary_requests=300,
                canary_events=int(c),
                baseline_requests=900,
                baseline_events=int(b),
            )
            state = rate_ratio.step(state, batch)
            is_alarm |= state.p_always_valid < 0.1
        alarms += is_alarm
    assert alarms / 400 <= 0.1 + 3 * (0.1 * 0.9 / 400) ** 0.5


def test_order_of_batches_does_not_matter() -> None:
    batches = [
        Batch(canary_requests=9, canary_events=3, baseline_requests=90, baseline_events=4),
        Batch(canary_requests=50, canary_events=1, baseline_requests=10, baseline_events=1),
        Batch(canary_requests=0, canary_events=0, baseline_requests=10, baseline_events=9),
    ]
    ends = []
    for order in (batches, batches[::-1]):
        state = RatioState()
        for batch in order:
            state = rate_ratio.step(state, batch)
        ends.append(state)
    assert ends[0].log_evidence == pytest.approx(ends[1].log_evidence)
    assert ends[0].ratio == pytest.approx((4 / 59) / (14 / 110))


def test_a_batch_without_a_baseline_says_nothing() -> None:
    batch = Batch(canary_requests=50, canary_events=50, baseline_requests=0, baseline_events=0)
    state = rate_ratio.step(RatioState(), batch)
    assert state.p_always_valid == 1
    assert state.ratio is None


def test_counts_that_do_not_fit() -> None:
    for c, b in (((1, 2), (3, 0)), ((3, -1), (3, 0)), ((3, 1), (3, 4))):
        batch = Batch(
            canary_requests=c[0],
            canary_events=c[1],
            baseline_requests=b[0],
            baseline_events=b[1],
        )
        with pytest.raises(ValueError, match="events of"):
            rate_ratio.step(RatioState(), batch)
