"""Rollouts, experiments and campaigns as messages and back: each message has the fields of its dataclass, by name."""

import dataclasses
import math
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from google.protobuf.message import DecodeError, Message

from gpuwarden.errors import Refused
from gpuwarden.model import ramp as model
from gpuwarden.wire.fields import text
from gpuwarden.wire.v1 import rollout_pb2 as pb

Value = TypeVar("Value")
PAIRS: Mapping[type, type[Message]] = {
    model.ArmShare: pb.ArmShare,
    model.Shares: pb.Shares,
    model.Steady: pb.Steady,
    model.Ramp: pb.Ramp,
    model.Freeze: pb.Freeze,
    model.ArmCount: pb.ArmCount,
    model.SegmentCount: pb.SegmentCount,
    model.Experiment: pb.Experiment,
    model.NodeTurn: pb.NodeTurn,
    model.Campaign: pb.Campaign,
    model.Alias: pb.Alias,
}


def to_message(value: Any) -> Any:
    """The message of a value of one of ``PAIRS``."""
    return PAIRS[type(value)](
        **{f.name: _said(getattr(value, f.name)) for f in dataclasses.fields(value)}
    )


def from_message(kind: type[Value], message: Any) -> Value:
    """The value; ``Refused`` where it cannot be one (a word that is not known, a number that is none)."""
    known: Any = kind
    hints = _hints(known)
    try:
        return kind(**{name: _read(hint, message, name) for name, hint in hints.items()})
    except ValueError as error:
        raise Refused(f"{kind.__name__.lower()}: {error}") from error


def to_body(value: Any) -> bytes:
    body: bytes = to_message(value).SerializeToString(deterministic=True)
    return body


def from_body(kind: type[Value], body: bytes) -> Value:
    """``Refused`` when it is none."""
    try:
        return from_message(kind, PAIRS[kind].FromString(body))
    except DecodeError as error:
        raise Refused(f"{kind.__name__.lower()}: cannot be read") from error


def _said(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, tuple):
        return [_said(each) for each in value]
    return to_message(value) if type(value) in PAIRS else value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(hint: Any, message: Any, name: str) -> Any:
    value = getattr(message, name)
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return tuple(_one(inner, each) for each in value)
    if isinstance(hint, UnionType):
        return _one(get_args(hint)[0], value) if message.HasField(name) else None
    return _one(hint, value)


def _one(hint: Any, value: Any) -> Any:
    if hint in PAIRS:
        return from_message(hint, value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    if hint is float and not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value
