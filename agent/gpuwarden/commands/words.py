"""Numbers and times as people read them, and other people's text made safe for a terminal."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_BARS = "▁▂▃▄▅▆▇█"


def plain(text: str) -> str:
    """Text of strangers without escape sequences, line breaks and direction marks."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else "?" for each in text)


def size(count: float | None) -> str:
    """``23.0 GiB``; ``-`` for what is not known."""
    if count is None or not math.isfinite(count):
        return "-"
    scaled, unit = float(count), 0
    while abs(scaled) >= 1024 and unit < len(_UNITS) - 1:
        scaled, unit = scaled / 1024, unit + 1
    return f"{scaled:.0f} B" if unit == 0 else f"{scaled:.1f} {_UNITS[unit]}"


def share(ratio: float | None) -> str:
    """``97 %``; ``-`` for what is not known."""
    return "-" if ratio is None or not math.isfinite(ratio) else f"{ratio * 100:.0f} %"


def span(seconds: float) -> str:
    """``40 ms``, ``1.2 s``, ``42 s``, ``3 min 05 s``, ``2 h 10 min``, ``4 d 3 h``."""
    if not math.isfinite(seconds):
        return "-"
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if seconds < 1:
        return f"{sign}{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{sign}{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{sign}{whole} s"
    for unit, name, below, below_name in (
        (60, "min", 1, "s"),
        (3600, "h", 60, "min"),
        (86400, "d", 3600, "h"),
    ):
        if whole < {60: 3600, 3600: 86400}.get(unit, math.inf):
            first, rest = divmod(whole, unit)
            return f"{sign}{first} {name} {rest // below:02d} {below_name}"
    return f"{sign}{whole} s"


def clock(wall: float, *, has_year: bool = True) -> str:
    """Local date and time to the second; ``-`` for what cannot be a time."""
    form = "%Y-%m-%d %H:%M:%S" if has_year else "%m-%d %H:%M:%S"
    try:
        return datetime.fromtimestamp(wall, UTC).astimezone().strftime(form)
    except (OverflowError, ValueError, OSError):
        return "-"


def offset(seconds: float) -> str:
    """A time since the start of something: ``+0.11 s``."""
    return (
        f"{seconds:+.2f} s"
        if abs(seconds) < 100
        else f"{'-' if seconds < 0 else '+'}{span(abs(seconds))}"
    )


def sparkline(values: Sequence[float], *, is_unicode: bool = True) -> str:
    """One character a value, from nothing to the largest."""
    top = max(values, default=0)
    if top <= 0:
        return ("▁" if is_unicode else ".") * len(values)
    if not is_unicode:
        return "".join("0123456789"[min(9, int(value / top * 9.999))] for value in values)
    return "".join(_BARS[min(7, max(0, math.ceil(value / top * 8) - 1))] for value in values)


def bar(ratio: float, width: int, *, is_unicode: bool = True) -> str:
    """A bar of ``width`` characters, filled by ``ratio``."""
    filled = round(min(1.0, max(0.0, ratio)) * width)
    full, empty = ("█", "░") if is_unicode else ("#", ".")
    return full * filled + empty * (width - filled)
