"""What a message from a node must be before anything is done with it. ``Refused`` names the field.

The parser lets through what no node would say: NaN, repeated scalars, values of another type as absent ones.
"""

import math
import re
from collections.abc import Sequence

from gpuwarden.errors import Refused

MESSAGE_MAX_BYTES = 256 * 1024
EVENTS_MAX = 64
SAMPLES_MAX = 64
ASKS_MAX = 64
DEVICES_MAX = 16 * 8
"""Sixteen GPUs, each in at most seven slices and itself."""
TENANTS_MAX = 512
FINDINGS_MAX = 256
DEGRADED_MAX = 32
TEXT_MAX_CHARS = 4096
NAME_MAX_CHARS = 256
CLAIM_MAX_CHARS = 32
BYTES_MAX = 2**50
SEQUENCE_MAX = 2**62
WALL_MAX = 2**33
"""Seconds: the year 2242."""

# gpu-node-07.example.org
_NODE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?\Z")
# 0b9e4f3c-2d1a-4c3b-8e0f-5a6b7c8d9e0f, or 32 hex digits
_TOKEN = re.compile(r"[A-Za-z0-9._:@/-]{1,128}\Z")


def node_name(value: str) -> str:
    """The name of a node: what a host may be called, and no path or pattern."""
    if not _NODE.match(value):
        raise Refused(f"node: expected a host name in small letters, got {value[:64]!r}")
    return value


def identifier(name: str, value: str) -> str:
    """An id of the other side's choice: short, printable, no blanks."""
    if not _TOKEN.match(value):
        raise Refused(f"{name}: expected an id of at most 128 characters, got {value[:64]!r}")
    return value


def text(name: str, value: str, most: int = TEXT_MAX_CHARS) -> str:
    """Text that is not too long; it is escaped where it is shown."""
    if len(value) > most:
        raise Refused(f"{name}: {len(value)} characters, at most {most}")
    return value


def count(name: str, value: int, most: int) -> int:
    """A whole number in its range."""
    if not 0 <= value <= most:
        raise Refused(f"{name}: {value}, expected 0 to {most}")
    return value


def number(name: str, value: float, least: float, most: float) -> float:
    """A finite number in its range."""
    if not (math.isfinite(value) and least <= value <= most):
        raise Refused(f"{name}: {value}, expected {least:g} to {most:g}")
    return value


def wall(name: str, value: float) -> float:
    """A wall time; whether it is right is another question."""
    return number(name, value, 0.0, float(WALL_MAX))


def length(name: str, values: Sequence[object], most: int) -> None:
    """Not more entries than there can be."""
    if len(values) > most:
        raise Refused(f"{name}: {len(values)} entries, at most {most}")


def rising(name: str, before: int, value: int) -> int:
    """A sequence number after the one before."""
    if not before < value <= SEQUENCE_MAX:
        raise Refused(f"{name}: {value} does not come after {before}")
    return value
