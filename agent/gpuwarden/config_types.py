"""Units as people write them: sizes (``8GiB``), durations (``10s``), ratios (``80%``), class
names.
"""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from gpuwarden.model.tenant import TenantClass

_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
_TIME_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
# 8GiB, 1.5 TiB, 512 MB
_SIZE = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]{0,3})\s*\Z", re.ASCII)
# 10s, 250 ms, 1.5m
_TIME = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([A-Za-z]{1,3})\s*\Z", re.ASCII)
MAX_BYTES = 2**50
MAX_SECONDS = 10 * 365 * 86400.0


class Section(BaseModel):
    """One table of the file: frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse_bytes(value: object) -> int:
    """Bytes from ``8GiB``/``512 MB``/an integer of bytes; ValueError says what was expected."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = _finite(value)
    elif isinstance(value, str) and (match := _SIZE.match(value)):
        unit = match[2].lower()
        if unit not in _SIZE_UNITS:
            raise ValueError(f'expected a size such as 8GiB, got the unit "{match[2]}"')
        size = float(match[1]) * _SIZE_UNITS[unit]
    else:
        raise ValueError(f"expected a size such as 8GiB, got {shown(value)}")
    if not 0 <= size <= MAX_BYTES:
        raise ValueError(f"expected a size from 0 to 1 PiB, got {shown(value)}")
    return int(size)


def parse_seconds(value: object) -> float:
    """Seconds from ``10s``/``250ms``/``1.5h``/a number; ValueError says what was expected."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = _finite(value)
    elif isinstance(value, str) and (match := _TIME.match(value)):
        unit = match[2].lower()
        if unit not in _TIME_UNITS:
            raise ValueError(f'expected a duration such as 10s, got the unit "{match[2]}"')
        seconds = float(match[1]) * _TIME_UNITS[unit]
    else:
        raise ValueError(f"expected seconds >= 0 or a duration such as 10s, got {shown(value)}")
    if not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(f"expected seconds >= 0 or a duration such as 10s, got {shown(value)}")
    return seconds


def parse_ratio(value: object) -> float:
    """A ratio 0..1 from ``0.8`` or ``80%``; ValueError says what was expected."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        ratio = _finite(value)
    elif isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,3}(\.[0-9]{1,4})?\s*%\s*", value):
        ratio = float(value.strip().rstrip("%").strip()) / 100
    else:
        raise ValueError(f'expected a ratio such as 0.8 or "80%", got {shown(value)}')
    if not 0 <= ratio <= 1:
        raise ValueError(f'expected a ratio from 0 to 1 (or "0%" to "100%"), got {shown(value)}')
    return ratio


def parse_class(value: object) -> TenantClass:
    """A class by its word; ValueError lists the words."""
    if isinstance(value, TenantClass):
        return value
    if isinstance(value, str):
        for cls in TenantClass:
            if value.strip().lower() == cls.label:
                return cls
    words = ", ".join(cls.label for cls in reversed(TenantClass))
    raise ValueError(f"expected one of {words}, got {shown(value)}")


def _finite(value: float) -> float:
    """The number, or infinity where a float cannot hold it: out of every range either way."""
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def shown(value: object) -> str:
    """A value as text for a message: printable, at most 60 characters."""
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 60 else text[:57] + "..."


def _before(parse: Any) -> BeforeValidator:
    return BeforeValidator(parse)


Bytes = Annotated[int, _before(parse_bytes)]
Seconds = Annotated[float, _before(parse_seconds)]
Ratio = Annotated[float, _before(parse_ratio)]
Class = Annotated[
    TenantClass,
    _before(parse_class),
    PlainSerializer(lambda cls: cls.label, return_type=str, when_used="json"),
]
