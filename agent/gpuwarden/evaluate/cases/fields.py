"""Typed reading of JSON objects; every mistake is a ``ValueError`` that names its place."""

import math
from collections.abc import Mapping
from typing import Any, Literal, overload

MOST_ITEMS = 5_000_000
"""Numbers that one list may hold."""


class Fields:
    """One JSON object of a case; ``path`` is how its mistakes are named ("params", "input.stream")."""

    def __init__(self, values: Any, path: str) -> None:
        if not isinstance(values, dict):
            raise unfit(f"{path}", "an object", values)
        self._values: Mapping[str, Any] = values
        self.path = path

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> Any:
        """The value as JSON gave it; missing is a mistake."""
        if key not in self._values:
            raise ValueError(f"{self.path}.{key}: missing")
        return self._values[key]

    def fields(self, key: str) -> "Fields":
        """An object within this one."""
        return Fields(self.get(key), f"{self.path}.{key}")

    @overload
    def number(self, key: str) -> float: ...
    @overload
    def number(self, key: str, *, or_none: Literal[True]) -> float | None: ...
    def number(self, key: str, *, or_none: bool = False) -> float | None:
        """A finite number; null only where asked for."""
        value = self.get(key)
        if value is None and or_none:
            return None
        return number(value, f"{self.path}.{key}")

    @overload
    def whole(self, key: str) -> int: ...
    @overload
    def whole(self, key: str, *, or_none: Literal[True]) -> int | None: ...
    def whole(self, key: str, *, or_none: bool = False) -> int | None:
        """A whole number (4.0 is one); null only where asked for."""
        value = self.get(key)
        if value is None and or_none:
            return None
        return whole(value, f"{self.path}.{key}")

    def flag(self, key: str) -> bool:
        """true or false."""
        value = self.get(key)
        if not isinstance(value, bool):
            raise unfit(f"{self.path}.{key}", "true or false", value)
        return value

    def word(self, key: str, known: tuple[str, ...]) -> str:
        """One of the known words."""
        value = self.get(key)
        if not isinstance(value, str) or value not in known:
            raise ValueError(
                f"{self.path}.{key}: expected one of {', '.join(known)}, got {shown(value)}"
            )
        return value

    def items(self, key: str) -> list[Any]:
        """A list of anything."""
        value = self.get(key)
        if not isinstance(value, list):
            raise unfit(f"{self.path}.{key}", "a list", value)
        if len(value) > MOST_ITEMS:
            raise ValueError(f"{self.path}.{key}: more than {MOST_ITEMS} items")
        return value

    def numbers(self, key: str) -> list[float]:
        """A list of finite numbers."""
        return [number(v, f"{self.path}.{key}[{i}]") for i, v in enumerate(self.items(key))]

    def wholes(self, key: str) -> list[int]:
        """A list of whole numbers."""
        return [whole(v, f"{self.path}.{key}[{i}]") for i, v in enumerate(self.items(key))]

    def pair(self, key: str) -> tuple[float, float]:
        """A list of two numbers."""
        values = self.numbers(key)
        if len(values) != 2:
            raise ValueError(f"{self.path}.{key}: expected two numbers, got {len(values)}")
        return values[0], values[1]


def unfit(path: str, expected: str, got: Any) -> ValueError:
    """A mistake at ``path``; raised by the caller, for values of a wrong type as for wrong values."""
    return ValueError(f"{path}: expected {expected}, got {shown(got)}")


def number(value: Any, path: str) -> float:
    """A finite number of JSON, as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise unfit(f"{path}", "a number", value)
    try:
        converted = float(value)
    except OverflowError:
        converted = math.inf
    if not math.isfinite(converted):
        raise unfit(f"{path}", "a finite number", value)
    return converted


def whole(value: Any, path: str) -> int:
    """A whole number of JSON of at most 2^53, beyond which floats skip some."""
    converted = number(value, path)
    if converted != math.floor(converted) or abs(converted) > 2**53:
        raise unfit(f"{path}", "a whole number", value)
    return int(converted)


def shown(value: Any) -> str:
    """A value short enough for one line of a message."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
