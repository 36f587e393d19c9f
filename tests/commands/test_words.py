"""Numbers and times as people read them, and text that is safe for a terminal."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.commands.words import bar, clock, offset, plain, share, size, span, sparkline

NAN = float("nan")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (23 * 2**30, "23.0 GiB"),
        (-(2**20), "-1.0 MiB"),
        (2**70, "1048576.0 PiB"),
        (None, "-"),
        (NAN, "-"),
    ],
)
def test_size(count: float | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.04, "40 ms"),
        (1.25, "1.2 s"),
        (42.4, "42 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3600, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (86400 * 4 + 3 * 3600, "4 d 03 h"),
        (-5, "-5.0 s"),
        (NAN, "-"),
        (float("inf"), "-"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_share() -> None:
    assert (share(0.966), share(None), share(NAN)) == ("97 %", "-", "-")


@pytest.mark.parametrize("wall", [NAN, float("inf"), 1e300, -1e300])
def test_what_is_no_time_stops_nothing(wall: float) -> None:
    assert clock(wall) == "-"


def test_clock_is_a_date_and_a_time() -> None:
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", clock(1_770_000_000))
    assert re.fullmatch(r"\d\d-\d\d \d\d:\d\d:\d\d", clock(1_770_000_000, has_year=False))


def test_offset() -> None:
    assert (offset(0.114), offset(-0.6), offset(300), offset(-300)) == (
        "+0.11 s",
        "-0.60 s",
        "+5 min 00 s",
        "-5 min 00 s",
    )


def test_sparkline_reaches_the_top_and_the_bottom() -> None:
    assert sparkline([0, 1, 4, 8]) == "▁▁▄█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([0, 4, 8], is_unicode=False) == "049"


def test_bar() -> None:
    assert bar(0.5, 4) == "██░░"
    assert bar(7, 4, is_unicode=False) == "####"
    assert bar(-1, 4, is_unicode=False) == "...."


@given(st.text())
def test_nothing_a_stranger_writes_moves_the_cursor(text: str) -> None:
    assert plain(text).isprintable()
    assert len(plain(text)) == len(text)
