"""Units as people write them, and what is not one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gpuwarden.config_types import (
    MAX_BYTES,
    MAX_SECONDS,
    parse_bytes,
    parse_class,
    parse_ratio,
    parse_seconds,
)
from gpuwarden.model.tenant import TenantClass

GARBAGE: tuple[object, ...] = (
    "",
    " ",
    "abc",
    "-1",
    "-1GiB",
    "1e9",
    "0x10",
    "1_000",
    "NaN",
    "inf",
    "1 GiB extra",
    "1..5GiB",
    "٣GiB",
    "8 Gi B",
    "9" * 16,
    "\x00",
    "8GiB\n\n8GiB",
    None,
    True,
    False,
    [],
    {},
    b"8GiB",
    float("nan"),
    float("inf"),
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 * 2**30),
        ("8Gi", 8 * 2**30),
        ("8gib", 8 * 2**30),
        (" 1.5 TiB ", 3 * 2**39),
        ("512 MB", 512 * 10**6),
        ("64MiB\n", 64 * 2**20),
        ("17", 17),
        ("17b", 17),
        (17, 17),
        ("0", 0),
        (MAX_BYTES, MAX_BYTES),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("250ms", 0.25),
        (" 1.5 m", 90.0),
        ("2min", 120.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        (3, 3.0),
        (0.25, 0.25),
        (MAX_SECONDS, MAX_SECONDS),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "ratio"),
    [(0.8, 0.8), ("80%", 0.8), (" 2.5 % ", 0.025), (0, 0.0), (1, 1.0), ("100%", 1.0)],
)
def test_ratios(text: object, ratio: float) -> None:
    assert parse_ratio(text) == pytest.approx(ratio)


def test_classes() -> None:
    for cls in TenantClass:
        assert parse_class(cls.label) is cls
        assert parse_class(f" {cls.label.upper()} ") is cls
        assert parse_class(cls) is cls


@pytest.mark.parametrize("value", GARBAGE)
@pytest.mark.parametrize("parse", [parse_bytes, parse_seconds, parse_ratio, parse_class])
def test_garbage_is_refused_in_one_printable_line(
    parse: Callable[[object], object], value: object
) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        parse(value)
    text = str(refused.value)
    assert text.isprintable()
    assert len(text) < 200


@pytest.mark.parametrize(
    ("parse", "value"),
    [
        (parse_bytes, "10s"),
        (parse_bytes, 1.5),
        (parse_bytes, MAX_BYTES + 1),
        (parse_bytes, -1),
        (parse_bytes, "2048TiB"),
        (parse_seconds, "8GiB"),
        (parse_seconds, -0.1),
        (parse_seconds, "5000d"),
        (parse_ratio, 1.01),
        (parse_ratio, "101%"),
        (parse_ratio, -0.1),
        (parse_class, "lowest"),
        (parse_class, "protected!"),
        (parse_class, 3),
    ],
)
def test_the_wrong_unit_or_out_of_range(parse: Callable[[object], object], value: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse(value)


def test_what_is_shown_back_is_cut_and_cleaned() -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        parse_bytes("\x1b[31m" + "x" * 500)
    assert "\x1b" not in str(refused.value)
    assert "..." in str(refused.value)


def test_classes_are_ranked() -> None:
    assert [c.label for c in sorted(TenantClass)] == [
        "best-effort",
        "low",
        "normal",
        "high",
        "protected",
    ]
