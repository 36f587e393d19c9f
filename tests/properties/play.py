"""A world under way, and who writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.sim.world import World
from tests.properties.chronicle import Chronicle
from tests.simulated.agent import HeapJournal

MIB = 2**20
RULES = ("quota", "reserve", "tombstone", "locked", "fault", "repair", "neighbour")
"""The rules whose mode the oracle knows of."""
LIFE_S = 9.0
"""How long things go on happening; then the world is left in peace."""
GRACES = {"high": 3.0, "normal": 2.0, "low": 1.5, "best-effort": 0.5}
SETTINGS: dict[str, Any] = {
    "quota": {"soft_hold_s": 1.5, "throttle_after_s": 1, "clear_hold_s": 2, "warmup_s": 0.5},
    "ladder": {
        **{f"grace_{name.replace('-', '_')}_s": s for name, s in GRACES.items()},
        "emergency_grace_s": 0.4,
        "hold_ttl_s": 1.0,
        "verify_s": 0.5,
        "stuck_s": 2,
        "cooldown_s": 2,
        "tombstone_window_s": 6,
        "page_after_s": 1,
        "locked_after_s": 1,
    },
    "sampling": {"gap_s": 3},
}
"""Every wait shortened, so that a short world sees the end of each."""


@dataclass(slots=True)
class Play:
    """A world with what the oracle has to know of it."""

    seed: int
    world: World
    journal: HeapJournal
    enforces: frozenset[str]
    """Which of ``RULES`` may act; the others only observe."""
    chronicle: Chronicle = field(init=False)
    features: set[str] = field(default_factory=set)
    restarts: dict[str, str] = field(default_factory=dict)
    """Container id -> the restart policy its owner gave it."""
    heirs: set[str] = field(default_factory=set)
    """Tenants that got the pid of a dead process."""
    paused: set[str] = field(default_factory=set)
    """Tenants somebody paused at some time."""
    named: dict[tuple[float, int], TenantId] = field(default_factory=dict)
    """Whose a pid was that the driver named with an Xid, by the event's time."""
    stopped: list[tuple[float, float]] = field(default_factory=list)
    """When the agent was stopped (SIGSTOP)."""
    quiet: list[Callable[[], object]] = field(default_factory=list)
    """What ends when the world is left in peace."""

    def __post_init__(self) -> None:
        self.chronicle = Chronicle(self.world)
        self.world.on_step = self.chronicle.note


class Author:
    """Writes one world. Every choice comes from the seed's dice."""

    def __init__(self, dice: Random, play: Play, places: list[DeviceId]) -> None:
        self.dice, self.play, self.world = dice, play, play.world
        self.places = places
        """Where processes may hold bytes: whole cards and slices."""

    def chance(self, probability: float) -> bool:
        return self.dice.random() < probability

    def moment(self) -> float:
        return self.dice.uniform(0.1, LIFE_S - 1)
