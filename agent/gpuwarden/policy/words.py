"""How sizes and times are written in summaries."""


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
