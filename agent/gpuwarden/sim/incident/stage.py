"""Where the scene plays: somebody who starts the members and can say what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gpuwarden.sim.incident.cast import Member

READY_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """A member on stage."""

    member: Member
    place: str
    """Full container id, or the process group as text."""
    pid: int
    start: int
    """Of the first process, in clock ticks since boot."""
    pids: frozenset[int]
    """Every process of it that was there when the scene was set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of a player, by the host and its runtime. ``marks`` name every trace of a hand laid
    on it, in words; empty: nobody touched it."""

    is_running: bool
    exit_status: int | None = None
    restarts: int = 0
    """How often its runtime has started it again."""
    marks: tuple[str, ...] = ()


class Stage(Protocol):
    """Real containers, or plain processes where there is no Docker."""

    @property
    def has_containers(self) -> bool: ...

    def start(self, member: Member) -> Player:
        """Start a member and wait until its memory is there. ``Unavailable`` when it is not within
        ``READY_WITHIN_S``."""
        ...

    def launch(self, member: Member) -> None:
        """Start a member and do not wait: it may end by itself before anybody looks."""
        ...

    def opened(self, players: tuple[Player, ...]) -> None:
        """From here on a hand laid on one of these counts."""
        ...

    def fate(self, player: Player) -> Fate:
        """What became of a started player."""
        ...

    def fate_of_launched(self, member: Member) -> Fate:
        """What became of a launched member."""
        ...

    def is_successor(self, player: Player, pid: int) -> bool:
        """Whether ``pid`` runs in a container that took a player's place."""
        ...

    def dismiss(self, player: Player) -> None:
        """Its owner takes it away, as nobody but its owner would."""
        ...

    def close(self) -> None:
        """Take everything away again; the second time does nothing."""
        ...
