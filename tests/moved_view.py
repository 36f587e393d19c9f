"""A picture at another time: the command line compares a tick with the clock of this moment."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

from gpuwarden.model.status import View

_TIMES = frozenset(
    {
        "at",
        "since",
        "opened_at",
        "noticed_at",
        "decided_at",
        "closed_at",
        "listed_at",
        "first_seen",
        "frozen_since",
    }
)


def moved(picture: View, to: float) -> View:
    """The same picture with its tick at ``to``: every monotonic time in it moves along."""
    shifted = _shifted(picture, to - picture.at)
    assert isinstance(shifted, View)
    return shifted


def _shifted(value: object, by: float) -> object:
    if isinstance(value, tuple):
        return tuple(_shifted(each, by) for each in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changed: dict[str, Any] = {}
    for field in fields(value):
        old = getattr(value, field.name)
        if field.name in _TIMES and isinstance(old, float):
            changed[field.name] = old + by
        elif field.name == "points":
            changed[field.name] = tuple((at + by, size) for at, size in old)
        else:
            changed[field.name] = _shifted(old, by)
    return replace(value, **changed)
