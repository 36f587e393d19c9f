"""Runs generated worlds and adds up what they showed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gpuwarden.node.loop import Node
from gpuwarden.policy.decide import decide
from gpuwarden.sim.world import World
from tests.properties.aftermath import due_in_s, unreturned
from tests.properties.generate import generate
from tests.properties.oracle import Oracle, harm_kinds
from tests.properties.play import LIFE_S, Play
from tests.simulated.agent import heap_agent

SETTLE_S = 14.0
"""How long a world is left in peace before what is left behind counts."""
FEATURES = (
    "pid reuse",
    "stale sample",
    "ambiguity",
    "mig",
    "mps",
    "unattributed growth",
    "index shift",
    "two devices at once",
    "crash",
)
"""What at least 3 % of the worlds must show (300 of 10,000)."""
SHARPER = ("stale sample of an offender", "crash under an eviction", "success claimed", "accused")
"""Told beside it: the worlds in which a check had something to find."""
SHARE = 0.03


@dataclass(slots=True)
class Tally:
    """What so many worlds showed."""

    worlds: int = 0
    coverage: Counter[str] = field(default_factory=Counter)
    wrong: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Together with what others showed."""
        self.worlds += other.worlds
        self.coverage.update(other.coverage)
        self.wrong.update(other.wrong)

    def missing(self) -> list[str]:
        """Features too few worlds had."""
        need = self.worlds * SHARE
        return [
            f"{f}: {self.coverage[f]} of {self.worlds}" for f in FEATURES if self.coverage[f] < need
        ]


class Watched:
    """The real node, looked at by the oracle after each tick, and asked twice now and then."""

    def __init__(self, node: Node, oracle: Oracle, *, asks_twice: bool) -> None:
        self.node, self.oracle, self.asks_twice = node, oracle, asks_twice

    def tick(self, now: float, wall: float) -> object:
        decision = self.node.tick(now, wall)
        if self.asks_twice:
            self._ask_again()
        self.oracle.look()
        return decision

    def next_due(self, now: float) -> float:
        return self.node.next_due(now)

    def adopt(self, cfg: object) -> None:
        self.node.adopt(cfg)  # type: ignore[arg-type]

    def _ask_again(self) -> None:
        """Same inputs, same decision."""
        snapshot = self.oracle.play.world.board.snapshot
        if snapshot is None:
            return
        first = decide(self.node.cfg, self.node.memory, snapshot)
        second = decide(self.node.cfg, self.node.memory, snapshot)
        if first != second:
            self.oracle.wrong.append("same inputs, another decision")


def run_world(seed: int) -> tuple[Play, Oracle, set[str]]:
    """Live one world through and judge it."""
    play = generate(seed)
    oracle = Oracle(play)
    nodes: list[Node] = []

    def make(world: World) -> Watched:
        node = heap_agent(world, play.journal)
        nodes.append(node)
        return Watched(node, oracle, asks_twice=seed % 20 == 0)

    world = play.world
    world.attach(make)
    world.run_for(LIFE_S)
    for quieten in play.quiet:
        quieten()
    world.steps.dies_at = None
    for process in world.kernel.alive():
        process.habit.grow_mib_s, process.habit.forks_every_s = 0, None
    world.run_for(SETTLE_S)
    _await_returns(play)
    _downtime(play, oracle)
    oracle.judge()
    for node in nodes:
        errors = {
            **node.observer.port_errors,
            **({"act": node.actor.port_errors} if node.actor.port_errors else {}),
        }
        if errors:
            oracle.wrong.append(f"exceptions at ports: {errors}")
    return play, oracle, _shown(play, oracle)


def _await_returns(play: Play) -> None:
    """What was taken is given back when it is due: a window after the eviction, or after one more."""
    world = play.world
    if unreturned(play):
        world.run_for(world.config().ladder.tombstone_window_s + SETTLE_S)
    due = due_in_s(play)
    if due is not None:
        world.run_for(max(0.0, due) + SETTLE_S)


def _downtime(play: Play, oracle: Oracle) -> None:
    died: float | None = None
    for entry in play.world.ledger.entries:
        if entry.kind == "agent-died":
            died = entry.at
        elif entry.kind == "agent-starts" and died is not None:
            oracle.down.append((died, entry.at))
            died = None
    oracle.down += play.stopped


def _shown(play: Play, oracle: Oracle) -> set[str]:
    """What a world really saw (not what was planned for it)."""
    world = play.world
    shown = set(oracle.shown)
    if world.kernel.reused:
        shown.add("pid reuse")
    if "shift" in play.features:
        shown.add("index shift")
    if world.crashes:
        shown.add("crash")
    if oracle.died_in_flight():
        shown.add("crash under an eviction")
    if oracle.two_devices_at_once():
        shown.add("two devices at once")
    return shown | {f"did {kind}" for kind in harm_kinds(oracle)}


def run_many(first: int, count: int) -> Tally:
    """So many worlds from a seed on."""
    tally = Tally()
    for seed in range(first, first + count):
        _, oracle, shown = run_world(seed)
        tally.worlds += 1
        tally.coverage.update(shown)
        if oracle.wrong:
            tally.wrong[seed] = oracle.wrong
    return tally


def run_batch(batch: tuple[int, int]) -> Tally:
    """The same for a worker of a pool: first seed and count."""
    return run_many(*batch)
