"""Counters over a window: what grew, and never what began anew."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.model.health import Errors, Vitals
from gpuwarden.model.health_memory import Window
from gpuwarden.policy.health import window


def over(*samples: tuple[float, Mapping[str, int | None]], window_s: float = 60.0) -> Window:
    found: Window | None = None
    for at, counters in samples:
        found = window.over_errors(found, Errors(at=at, **counters), window_s)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_one_sample_is_no_rate() -> None:
    found = over((0.0, {"pcie_replays_total": 900}))
    assert (found.span_s, found.grown) == (0.0, {})


def test_growth_counts_once_the_window_is_whole() -> None:
    early = over((0.0, {"pcie_replays_total": 1}), (45.0, {"pcie_replays_total": 9}))
    assert early.grown == {}
    whole = over((0.0, {"pcie_replays_total": 1}), (60.0, {"pcie_replays_total": 9}))
    assert (whole.span_s, whole.grown) == (60.0, {"pcie_replays_total": 8})


def test_a_counter_that_went_back_has_not_grown_and_is_counted_from_there() -> None:
    """The driver was loaded again: 5000 errors, then 3, then 7."""
    samples = [(0.0, 5000), (15.0, 3), (30.0, 3), (45.0, 7), (60.0, 7)]
    found = over(*((at, {"ecc_corrected_volatile_total": n}) for at, n in samples))
    assert found.grown == {"ecc_corrected_volatile_total": 4}


def test_one_that_goes_back_hides_no_other() -> None:
    samples = [
        (at, {"nvlink_replay_errors_total": 10 - n, "pcie_replays_total": 5 * n})
        for n, at in enumerate((0.0, 15.0, 30.0, 45.0, 60.0))
    ]
    assert over(*samples).grown == {"pcie_replays_total": 20}


def test_what_is_not_told_at_one_end_has_not_grown() -> None:
    assert over((0.0, {"pcie_replays_total": None}), (60.0, {"pcie_replays_total": 9})).grown == {}
    assert over((0.0, {"pcie_replays_total": 9}), (60.0, {"pcie_replays_total": None})).grown == {}


def test_what_grew_stands_until_the_next_window_is_whole() -> None:
    samples = [(0.0, 0), (60.0, 8), (75.0, 8), (119.0, 8)]
    found = over(*((at, {"pcie_replays_total": n}) for at, n in samples))
    assert found.grown == {"pcie_replays_total": 8}
    later = window.over_errors(found, Errors(at=120.0, pcie_replays_total=8), 60.0)
    assert later.grown == {}


def test_time_held_down_is_a_counter_too() -> None:
    first = window.over_vitals(None, Vitals(at=0.0, clock_event_hw_thermal_s_total=100.0), 60.0)
    last = window.over_vitals(first, Vitals(at=60.0, clock_event_hw_thermal_s_total=130.5), 60.0)
    assert last.grown == {"clock_event_hw_thermal_s_total": 30.5}


def test_counters_of_an_older_program_are_begun_anew() -> None:
    old = Window(at=0.0, base=(1.0, 2.0))
    assert window.over_errors(old, Errors(at=60.0), 60.0).span_s == 0.0


@given(st.lists(st.none() | st.integers(0, 2**40), min_size=2, max_size=40))
def test_nothing_grows_by_more_than_it_rose(counts: list[int | None]) -> None:
    found: Window | None = None
    for n, count in enumerate(counts):
        found = window.over_errors(found, Errors(at=n * 15.0, pcie_replays_total=count), 60.0)
    assert found is not None
    told = [count for count in counts if count is not None]
    rises = [after - before for before, after in itertools.pairwise(told)]
    assert sum(found.grown.values()) <= sum(rise for rise in rises if rise > 0)
