"""From slow facts by key to the model's typed classes: each with the time of its own sample."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from gpuwarden.adapters.probe.specs import DEEP_S, FAST_S, LINKS_MAX, MEDIUM_S, SLOW_S, part_of
from gpuwarden.model.health import Deep, DeviceHealth, Errors, Setup, Vitals

Values = Mapping[str, float | str | None]
Part = TypeVar("Part", Vitals, Errors, Setup, Deep)
_CASTS: Mapping[str, Callable[[float], float | int | bool]] = {
    "float | None": float,
    "int | None": int,
    "bool | None": bool,
}


def _casts(part: type[Any]) -> tuple[tuple[str, Callable[[float], float | int | bool]], ...]:
    """The fields of a class that facts fill, by their very names."""
    named = [(field.name, _spelt(field.type)) for field in fields(part)]
    return tuple((name, _CASTS[kind]) for name, kind in named if kind in _CASTS)


def _spelt(kind: object) -> str:
    return kind if isinstance(kind, str) else str(kind)


_FIELDS = {part: _casts(part) for part in (Vitals, Errors, Setup, Deep)}
_KEYS = {
    "row_remap_banks_low": "row_remap_banks:low",
    "row_remap_banks_none": "row_remap_banks:none",
}
"""Fields whose fact goes by another name."""
_LINK_KEYS = tuple(f"nvlink_up:{link}" for link in range(LINKS_MAX))
CLASSES: tuple[tuple[str, type[Any], int], ...] = (
    ("vitals", Vitals, part_of(FAST_S)),
    ("errors", Errors, part_of(MEDIUM_S)),
    ("setup", Setup, part_of(SLOW_S)),
    ("deep", Deep, part_of(DEEP_S)),
)
"""Name in ``DeviceHealth``, type, and the part of a frame that fills it."""


def typed(part: type[Part], at: float, values: Values) -> Part:
    """One class of samples. What is not told, or is no number, is None."""
    told: dict[str, Any] = {}
    for name, cast in _FIELDS[part]:
        value = values.get(_KEYS.get(name, name))
        if isinstance(value, float | int):
            told[name] = cast(value)
    if part is Errors:
        told |= _links(values)
    return part(at=at, **told)


def _links(values: Values) -> dict[str, int]:
    """Masks of the links that are told to be up and down; neither where none is told of."""
    up = down = 0
    for link, key in enumerate(_LINK_KEYS):
        value = values.get(key)
        if value is not None:
            up |= bool(value) << link
            down |= (not value) << link
    return {"nvlink_up_mask": up, "nvlink_down_mask": down} if up | down else {}


def whole(parts: Mapping[str, Any]) -> DeviceHealth | None:
    """All classes of a device; None where none is told."""
    return DeviceHealth(**parts) if any(parts.values()) else None
