"""Ends the agent of a play at chosen steps, starts it again, and keeps what happened.

The agent's process ends by an exception that nothing in it may catch; what it knew is gone, what it had
written to its journal is all the next one has. Calls that may block run inside the world, so one that
has begun ends with the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from gpuwarden.model.action import Action
from gpuwarden.node.journal import RealDisk, segments
from gpuwarden.node.loop import Node
from gpuwarden.sim.node.surroundings import AgentDied, SimSteps
from gpuwarden.sim.world import World
from tests.kills.plays import Play
from tests.simulated.agent import file_agent

Step = tuple[str, str]
"""An action's kind and a phase."""
DOWN_S = (0.1, 3.0)
"""How long the agent stays away: less, and more, than a hold may last."""
TAIL_S = 40.0
"""How much longer a play may go on until everything that was put off by a death is over."""


@dataclass(slots=True)
class MortalSteps(SimSteps):
    """Counts the steps of all lives and ends the agent at some of them."""

    deaths: Sequence[int] = ()
    folder: Path = Path()
    reached_at: list[Step] = field(default_factory=list)
    intended: set[str] = field(default_factory=set)
    """Actions that were on disk before anything else was done for them."""
    died_at: list[Step] = field(default_factory=list)

    def reached(self, action: Action, phase: str) -> None:
        SimSteps.reached(self, action, phase)
        if phase == "intended" and _is_on_disk(self.folder, action.id):
            self.intended.add(action.id)
        self.reached_at.append((action.kind.value, phase))
        if len(self.reached_at) - 1 in self.deaths:
            self.died_at.append(self.reached_at[-1])
            self.ledger.acting = ""
            raise AgentDied(f"{action.kind.value}.{phase}")


def _is_on_disk(folder: Path, action: str) -> bool:
    needle = f'"id":"{action}"'.encode()
    return any(needle in path.read_bytes() for path in segments(folder))


@dataclass(slots=True)
class MortalDisk:
    """The disk of all lives; the agent may die in the middle of a write, which is then torn."""

    torn_at: int | None = None
    random: Random = field(default_factory=Random)
    writes: int = 0
    _real: RealDisk = field(default_factory=RealDisk)
    _open: set[int] = field(default_factory=set)

    def open(self, path: Path) -> int:
        fd = self._real.open(path)
        self._open.add(fd)
        return fd

    def write(self, fd: int, data: bytes) -> None:
        self.writes += 1
        if self.writes - 1 == self.torn_at:
            self._real.write(fd, data[: self.random.randrange(len(data))])
            raise AgentDied("in the middle of a write")
        self._real.write(fd, data)

    def sync(self, fd: int) -> None:
        """No host dies here: what was written is there."""

    def close(self, fd: int) -> None:
        self._open.discard(fd)
        self._real.close(fd)

    def sync_folder(self, folder: Path) -> None:
        """As ``sync``."""

    def end(self) -> None:
        """Let go of what the dead had open."""
        for fd in list(self._open):
            self.close(fd)


def _is_over(world: World) -> bool:
    """Nobody is on the ladder, nothing is owed but the limits of the living, no incident is open."""
    agent = world.agent
    if not isinstance(agent, Node) or agent.last is None:
        return False
    owed = [d for d in agent.memory.debts if not world.is_alive(d.tenant)]
    is_told = all(state.uncordon_owed is None for state in agent.memory.devices.values())
    return is_told and not (owed or agent.memory.cases or agent.memory.open_incidents)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A play as it went."""

    play: Play
    world: World
    steps: MortalSteps
    folder: Path
    writes: int
    down_s: float

    @property
    def node(self) -> Node:
        """The last agent."""
        agent = self.world.agent
        assert isinstance(agent, Node), "no agent runs at the end"
        return agent


def perform(
    play: Play,
    folder: Path,
    *,
    deaths: Sequence[int] = (),
    down_s: float = DOWN_S[0],
    torn_at: int | None = None,
    before_start: Callable[[Path], None] = lambda folder: None,
    seed: int = 0,
) -> Run:
    """One run of a play. ``before_start`` is told of the journal before every life."""
    world = play.stage()
    folder.mkdir()
    world.restart_after_s = down_s
    steps = MortalSteps(world.ledger, deaths=deaths, folder=folder)
    world.steps = steps
    disk = MortalDisk(torn_at=torn_at, random=Random(seed))

    def start(where: World) -> Node:
        before_start(folder)
        return file_agent(where, folder, disk)

    world.attach(start)
    world.run(world.began + play.until_s)
    while not _is_over(world) and world.clock.now() < world.began + play.until_s + TAIL_S:
        world.run_for(1.0)
    disk.end()
    return Run(
        play=play, world=world, steps=steps, folder=folder, writes=disk.writes, down_s=down_s
    )
