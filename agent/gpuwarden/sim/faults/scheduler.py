"""Whoever places jobs on the simulated host: told of cordons by the operator's own command (``cordon.exec``)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What it was told, as JSON objects, oldest first."""

    orders: tuple[dict[str, Any], ...] = ()

    @property
    def has_cordoned(self) -> bool:
        """Whether anything was ever out of use."""
        return any(order.get("verb") == "cordon" for order in self.orders)

    @property
    def standing(self) -> frozenset[str]:
        """Incidents whose cordons stand now."""
        held: set[str] = set()
        for order in self.orders:
            if order.get("verb") == "cordon":
                held.add(str(order.get("incident")))
            else:
                held &= {str(incident) for incident in order.get("still", ())}
        return frozenset(held)


@dataclass(slots=True)
class Scheduler:
    """Keeps what it is told in a file, one order a line."""

    folder: Path
    program: Path = field(init=False)
    _orders: Path = field(init=False)

    def __post_init__(self) -> None:
        self.program = self.folder / "place-no-jobs"
        self._orders = self.folder / "orders"
        self._orders.touch()
        self.program.write_text(f"#!/bin/sh\ncat >> '{self._orders}'\n", encoding="utf-8")
        self.program.chmod(0o755)

    def told(self) -> Told:
        """Everything so far; a line that is being written counts the next time."""
        *lines, _ = self._orders.read_text(encoding="utf-8").split("\n")
        return Told(orders=tuple(json.loads(line) for line in lines))
