"""Times of live rows: seconds, ISO 8601 with and without a zone, and what is none."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.commands import live_times


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2026-03-02T00:00:00", 1_772_409_600),
        ("2026-03-02T01:00:00+01:00", 1_772_409_600),
        ("1772409600.5", 1_772_409_600.5),
        (7, 7.0),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        (None, None),
    ],
)
def test_times(value: Any, seconds: float | None) -> None:
    assert live_times.seconds_of(value) == seconds


def test_shown_to_the_nearest_minute() -> None:
    assert live_times.shown(1_772_409_600 + 3599.8) == "03-02 01:00"
