"""Times of a table of live rows: as they are written, and as they are shown on an axis."""

from __future__ import annotations

from datetime import UTC, datetime

WALL_MAX_S = 1e11
"""Unix seconds; a larger number is milliseconds, or no time at all."""


def seconds_of(value: str | float | bool | None) -> float | None:
    """Unix seconds of a number of them, or of a time as ISO 8601 (without a zone: UTC). None: it is none."""
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except ValueError:
        return _of_iso(str(value).strip())
    return number if 0 <= number < WALL_MAX_S else None


def _of_iso(text: str) -> float | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def shown(wall: float) -> str:
    """Month, day and the nearest minute, UTC."""
    return datetime.fromtimestamp(round(wall / 60) * 60, UTC).strftime("%m-%d %H:%M")
