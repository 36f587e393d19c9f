"""A loop that hangs feeds no watchdog, whatever else of the process is alive; when it goes on, it feeds again."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.adapters.sdnotify import SdNotify
from gpuwarden.clock import SystemClock
from gpuwarden.model.action import Outcome
from gpuwarden.model.decision import Decision, Incident
from gpuwarden.model.memory import Memory
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.node.life import live
from gpuwarden.node.loop import Node
from gpuwarden.sim.world import World
from tests.adapters.manager_socket import Manager, managed
from tests.simulated.agent import HeapJournal

HUNG_S = 1.0


class Stuck:
    """The port that a tick hands its result to last; it can be held up."""

    def __init__(self) -> None:
        self.lets = threading.Event()
        self.lets.set()
        self.is_in = threading.Event()

    def publish(
        self,
        snapshot: Snapshot,
        decision: Decision,
        outcomes: Sequence[Outcome],
        incidents: tuple[Incident, ...],
    ) -> None:
        if not self.lets.is_set():
            self.is_in.set()
        self.lets.wait(60.0)

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        return


class Waits:
    """Wakes the loop a hundred times a second."""

    def __init__(self) -> None:
        self.wants_reload = False
        self.wants_stop = False

    def wait(self, timeout_s: float) -> bool:
        SystemClock().sleep(0.01)
        return True


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with managed(tmp_path) as heard:
        yield heard


def test_a_hung_loop_feeds_no_watchdog(manager: Manager) -> None:
    world, stuck, waits = World(devices=2), Stuck(), Waits()
    notify = SdNotify({"NOTIFY_SOCKET": manager.address})
    ports = replace(world.ports(HeapJournal(world.ledger)), status=stuck, watchdog=notify)
    node = Node(world.config(), ports, SystemClock(), Memory())
    loop = threading.Thread(target=live, args=(node, SystemClock(), waits, lambda: None))
    stuck.lets.clear()
    loop.start()
    try:
        assert stuck.is_in.wait(30.0)
        assert (
            manager.hear(HUNG_S) is None
        )  # neither ready nor fed before the first tick has finished
        stuck.lets.set()
        assert manager.until(lambda said: "READY" in said)[-1]["WATCHDOG"] == "1"
        manager.until(lambda said: "WATCHDOG" in said)
        stuck.is_in.clear()
        stuck.lets.clear()
        assert stuck.is_in.wait(30.0)
        manager.drain()
        assert manager.hear(HUNG_S) is None
        stuck.lets.set()
        manager.until(lambda said: "WATCHDOG" in said)
    finally:
        stuck.lets.set()
        waits.wants_stop = True
        loop.join(30.0)
        notify.close()
