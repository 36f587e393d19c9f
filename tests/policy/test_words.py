"""How sizes are written."""

from __future__ import annotations

import pytest

from gpuwarden.policy.words import size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "an unknown size"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (12 * 2**30 + 2**29, "12.5 GiB"),
        (-3 * 2**20, "-3.0 MiB"),
        (5 * 2**40, "5.0 TiB"),
        (5 * 2**50, "5120.0 TiB"),
    ],
)
def test_size(count: int | None, text: str) -> None:
    assert size(count) == text
