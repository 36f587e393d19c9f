"""How sizes and times are written in summaries."""

from functools import lru_cache


@lru_cache(maxsize=1024)  # the same sizes are written every tick of a breach
def size(count: int | None) -> str:
    """Bytes for people: ``11.2 GiB``."""
    if count is None:
        return "an unknown size"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
