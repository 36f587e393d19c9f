"""What grows is found out, and a minute of the soak passes whole."""

from __future__ import annotations

import pytest

from tests.soak.judge import Look, growth, slope, warm
from tests.soak.run import soak


def looks(*, rss_mib_h: float = 0.0, begin_mib: float = 60.0, leak: int = 0) -> list[Look]:
    """Half an hour, every ten seconds."""
    return [
        Look(
            at=float(at),
            rss_mib=begin_mib + rss_mib_h * at / 3600,
            descriptors=20 + leak * at // 600,
            threads=9 + at % 2,
        )
        for at in range(0, 1800, 10)
    ]


def test_a_slope_is_that_of_the_line() -> None:
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == pytest.approx(2.0)
    assert slope([(0.0, 1.0)]) == slope([]) == 0.0
    assert slope([(1.0, 1.0), (1.0, 9.0)]) == 0.0


def test_what_fills_at_the_begin_is_left_out() -> None:
    first, *_ = warm(looks())
    assert first.at == 600.0
    filling = [*looks(begin_mib=10.0)[:50], *looks()[50:]]
    assert growth("agent", filling).faults == []


def test_memory_that_grows_is_found() -> None:
    assert growth("agent", looks(rss_mib_h=0.9)).faults == []
    (fault,) = growth("agent", looks(rss_mib_h=1.1)).faults
    assert fault == "agent: grows by 1.10 MiB an hour"


def test_descriptors_that_become_more_are_found() -> None:
    (fault,) = growth("agent", looks(leak=6)).faults
    assert "descriptors" in fault


def test_nothing_seen_is_nothing_grown() -> None:
    assert growth("agent", []).faults == []


def test_case_50_a_short_one_does_everything_and_sees_every_process() -> None:
    """The half hour is scripts/soak's: of what grows a minute says nothing."""
    told = soak(62.0, 50).as_json()
    assert set(told["deeds"]) == {"reload", "eviction", "xid", "fleet read", "read", "job"}
    names = [each["name"] for each in told["processes"]]
    assert names[0] == "agent"
    assert {"probe 0", "aggregator"} <= set(names)
    leaks = ("grows", "descriptors", "threads")
    assert [f for f in told["faults"] if all(word not in f for word in leaks)] == []
