"""What is wrong with a setting, in one line: file, line, path, what was expected, what was there."""

import inspect
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gpuwarden.config import Config
from gpuwarden.toml_places import Path as Place

SHOWN_MAX_CHARS = 60
SECRET_KEYS = frozenset(
    {"url", "urls", "heartbeat_url", "proxy", "routing_key", "secret", "token", "password", "store"}
)
"""What stands there by mistake may be the secret itself: it is not written to the log."""


def fault_texts(
    error: ValidationError, origins: Mapping[Place, str], root: type[BaseModel] = Config
) -> list[str]:
    """One line a mistake, in the order in which a reader meets them in the files."""
    return [_fault(detail, origins, root) for detail in error.errors(include_url=False)]


def shown(value: object, *, is_quoted: bool = True) -> str:
    """A value as text for a message: control characters replaced, length bounded."""
    if isinstance(value, str):
        text = f'"{value[: SHOWN_MAX_CHARS * 2]}"' if is_quoted else value[: SHOWN_MAX_CHARS * 4]
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, dict):
        text = "a table"
    elif isinstance(value, list | tuple):
        text = "an array"
    else:
        text = str(value)
    text = "".join(character if character.isprintable() else "?" for character in text)
    limit = SHOWN_MAX_CHARS if is_quoted else SHOWN_MAX_CHARS * 4
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _fault(detail: ErrorDetails, origins: Mapping[Place, str], root: type[BaseModel]) -> str:
    place: Place = detail["loc"]
    origin = _origin(place, origins)
    return f"{origin}{_dotted(place)}: {_expectation(detail, root)}"


def _origin(place: Place, origins: Mapping[Place, str]) -> str:
    """Of the value, else of the nearest table around it that was said anywhere, else of what is in it."""
    for end in range(len(place), 0, -1):
        if place[:end] in origins:
            return f"{origins[place[:end]]}: "
    below = next((said for known, said in origins.items() if known[: len(place)] == place), None)
    return "" if below is None else f"{below}: "


def _dotted(place: Place) -> str:
    text = ""
    for key in place:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += f"{'.' if text else ''}{shown(key, is_quoted=False)}"
    return text


def _expectation(detail: ErrorDetails, root: type[BaseModel]) -> str:
    kind, place = detail["type"], detail["loc"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key {shown(str(place[-1]))}{_hint(place, root)}"
    if kind == "missing":
        return "missing; this key must be said"
    if kind == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    got = shown(detail["input"]) if SECRET_KEYS.isdisjoint(place) else "(hidden)"
    expected = _EXPECTED.get(kind)
    if expected is None:
        text = detail["msg"].removeprefix("Input should be ").removeprefix("Value should ")
        expected = f"{text[:1].lower()}{text[1:]}"
    bounds = {key: _bound(value) for key, value in context.items()}
    return f"expected {expected.format_map(_Known(bounds))}, got {got}"


def _bound(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else shown(value, is_quoted=False)


class _Known(dict[str, str]):
    """Bounds of a rule by name; pydantic's own texts may hold braces of other kinds."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


_EXPECTED: Mapping[str, str] = {
    "literal_error": "one of {expected}",
    "string_type": "text in quotes",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} character",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "greater_than": "a number > {gt}",
    "greater_than_equal": "a number >= {ge}",
    "less_than": "a number < {lt}",
    "less_than_equal": "a number <= {le}",
    "finite_number": "a finite number",
    "tuple_type": "an array",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "path_type": "a path in quotes",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def _hint(place: Place, root: type[BaseModel]) -> str:
    """The nearest key that is known there, or the table where this very key belongs."""
    import difflib  # for mistakes alone: a third of a MiB that the agent need not hold

    word = str(place[-1])
    known = _keys(_model_at(place[:-1], root))
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    if near:
        return f' (did you mean "{near[0]}"?)'
    for name, info in root.model_fields.items():
        if word in _keys(_model_of(info.annotation)):
            return f' (did you mean "{name}.{word}"?)'
    return ""


def _keys(model: type[BaseModel] | None) -> list[str]:
    if model is None:
        return []
    return [info.alias or name for name, info in model.model_fields.items()]


def _model_at(place: Place, root: type[BaseModel]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = root
    for key in place:
        if isinstance(key, int) or model is None:
            continue
        found = [info for name, info in model.model_fields.items() if key in (name, info.alias)]
        model = _model_of(found[0].annotation) if found else None
    return model


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The table type inside ``Section``, ``Section | None`` or ``tuple[Section, ...]``."""
    for candidate in (annotation, *get_args(annotation)):
        # tuple[Section, ...] passes for a type without being a class issubclass() would take.
        if inspect.isclass(candidate) and issubclass(candidate, BaseModel):
            return candidate
    return None
