"""One mistake, and where it can be made."""

from __future__ import annotations

from dataclasses import dataclass

POLICY = "agent/gpuwarden/policy"
NODE = "agent/gpuwarden/node"
MODEL = "agent/gpuwarden/model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """``old`` stands exactly once in ``file``; with ``new`` in its place the program is wrong."""

    name: str
    file: str
    old: str
    new: str
