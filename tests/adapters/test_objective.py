"""A service's objective, judged reading by reading: edges of entering, leaving, stalling, idling."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.adapters.objective import Objective
from gpuwarden.adapters.service_page import PageReading
from gpuwarden.adapters.service_series import PageSeries
from gpuwarden.config_services import ServiceConfig
from gpuwarden.evaluate.fast.histogram import Cumulative
from gpuwarden.model.snapshot import Health

INF = float("inf")
CFG = ServiceConfig(name="risk", url="http://127.0.0.1:1/metrics")
"""Limit 0.5 s, enter after 0.5 s, leave after 1 s, stalled after 1 s, window 2 s."""


def reading(
    at: float, fast: float, slow: float = 0.0, in_flight: float | None = 1.0
) -> PageReading:
    """So many requests finished in 0.1 s and in 2 s since the service started."""
    spread = Cumulative(
        bounds=(0.1, 0.5, 2.0, INF), counts=(fast, fast, fast + slow, fast + slow), total=None
    )
    levels = {} if in_flight is None else {"in_flight": in_flight}
    return PageReading(at=at, spreads={"latency_s": spread}, levels=levels)


class Feed:
    """A service that finishes requests as told, read every 0.25 s."""

    def __init__(self) -> None:
        self.at = 100.0
        self.fast = 0.0
        self.slow = 0.0
        self.objective = Objective(CFG, self.at)
        self.series = PageSeries("risk")

    def go(
        self, steps: int, *, fast: int = 0, slow: int = 0, in_flight: float | None = 1.0
    ) -> list[Health]:
        """Health after each of so many readings."""
        seen = []
        for _ in range(steps):
            self.at += 0.25
            self.fast += fast
            self.slow += slow
            window = self.series.look(reading(self.at, self.fast, self.slow, in_flight))
            if window is not None:
                self.objective.read(window)
            seen.append(self.objective.state.health)
        return seen


def test_green_at_the_first_evidence_and_not_before() -> None:
    feed = Feed()
    assert feed.go(3, fast=5) == [Health.UNKNOWN, Health.GREEN, Health.GREEN]
    assert feed.objective.state.p99_s == pytest.approx(0.1, rel=0.02)


def test_red_after_enter_s_and_green_again_after_leave_s() -> None:
    feed = Feed()
    feed.go(8, fast=10)
    seen = feed.go(4, slow=10)
    assert seen == [Health.GREEN, Health.GREEN, Health.RED, Health.RED]
    since = feed.objective.state.since
    assert feed.objective.state.p99_s is not None
    assert feed.objective.state.p99_s > 0.5
    # The slow ones leave the window two seconds later; then a second of good ones is asked for.
    seen = feed.go(24, fast=10)
    back = seen.index(Health.GREEN)
    assert set(seen[:back]) == {Health.RED}
    assert set(seen[back:]) == {Health.GREEN}
    assert (back + 1) * 0.25 >= CFG.leave_s + CFG.window_s
    assert feed.objective.state.since > since


def test_since_when_it_is_late_is_known_where_it_was_seen_to_be_well_before() -> None:
    feed = Feed()
    feed.go(8, fast=10)
    assert feed.objective.state.late_since is None
    feed.go(1, slow=10)
    late_since = feed.at
    feed.go(4, slow=10)
    state = feed.objective.state
    assert (state.health, state.late_since) == (Health.RED, late_since)
    assert state.since > late_since
    feed.go(24, fast=10)
    assert feed.objective.state.late_since is None


@pytest.mark.parametrize("is_missed", [False, True])
def test_since_when_it_is_late_is_not_known_where_nobody_saw_it_begin(is_missed: bool) -> None:
    feed = Feed()
    if is_missed:
        feed.go(8, fast=10)
        feed.objective.miss(feed.at)
    feed.go(6, slow=10)
    assert feed.objective.state.health is Health.RED
    assert feed.objective.state.late_since is None


def test_one_slow_reading_convicts_nobody() -> None:
    feed = Feed()
    cfg = CFG.model_copy(update={"window_s": 0.25})
    feed.objective = Objective(cfg, feed.at)
    feed.go(4, fast=10)
    assert feed.go(1, slow=10) == [Health.GREEN]
    assert Health.RED not in feed.go(8, fast=10)


def test_nothing_finishing_while_requests_wait_is_red() -> None:
    feed = Feed()
    feed.go(4, fast=10)
    seen = feed.go(12, in_flight=3.0)
    red = seen.index(Health.RED)
    assert CFG.stall_s + CFG.enter_s <= (red + 1) * 0.25 <= CFG.stall_s + CFG.enter_s + 0.75
    assert feed.objective.state.p99_s is None


@pytest.mark.parametrize("in_flight", [0.0, None])
def test_a_service_that_is_idle_or_does_not_tell_keeps_its_green(in_flight: float | None) -> None:
    feed = Feed()
    feed.go(4, fast=10)
    assert set(feed.go(40, in_flight=in_flight)) == {Health.GREEN}
    assert feed.objective.state.p99_s is None
    assert feed.objective.state.at == feed.at


def test_a_red_service_that_falls_idle_is_unknown_not_green() -> None:
    feed = Feed()
    feed.go(8, slow=10)
    assert feed.objective.state.health is Health.RED
    seen = feed.go(20, in_flight=0.0)
    assert seen[0] is Health.RED
    assert seen[-1] is Health.UNKNOWN
    assert Health.GREEN not in seen


def test_a_red_service_that_does_not_tell_what_is_in_flight_stays_red() -> None:
    feed = Feed()
    feed.go(8, slow=10)
    assert set(feed.go(40, in_flight=None)) == {Health.RED}


def test_a_miss_is_unknown_at_once_and_green_is_earned_again() -> None:
    feed = Feed()
    feed.go(8, fast=10)
    feed.series.miss()
    assert feed.objective.miss(feed.at)
    assert feed.objective.state.health is Health.UNKNOWN
    assert not feed.objective.miss(feed.at)
    seen = feed.go(8, fast=10)
    assert seen.index(Health.GREEN) * 0.25 >= CFG.leave_s


def test_a_restart_of_the_service_is_no_negative_latency() -> None:
    feed = Feed()
    feed.go(8, fast=10)
    feed.fast = 0
    assert set(feed.go(8, fast=10)) == {Health.GREEN}


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 20), st.sampled_from([None, 0.0, 2.0])),
        max_size=60,
    )
)
def test_health_moves_only_on_evidence_that_has_lasted(
    steps: list[tuple[int, int, float | None]],
) -> None:
    feed = Feed()
    seen = [Health.UNKNOWN]
    for fast, slow, in_flight in steps:
        seen += feed.go(1, fast=fast, slow=slow, in_flight=in_flight)
    times = [100 + 0.25 * number for number in range(len(seen))]
    changes = [at for at, (old, new) in zip(times[1:], pairwise(seen), strict=True) if new != old]
    for first, second in pairwise(changes):
        assert second - first >= min(CFG.enter_s, CFG.leave_s)
