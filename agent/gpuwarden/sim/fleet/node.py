"""One node of a simulated fleet: a world in memory, the agent's own loop in it, and its desk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpuwarden
from gpuwarden.adapters import kernel_lines
from gpuwarden.clock import Clock
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.errors import Unavailable
from gpuwarden.model.action import Outcome, Result
from gpuwarden.model.command import Answer, Verb
from gpuwarden.model.decision import Decision, Incident
from gpuwarden.model.fleet import Order
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import Memory
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.model.status import AgentInfo, View
from gpuwarden.node.fleet_desk import NodeFleetDesk
from gpuwarden.node.loop import Node
from gpuwarden.node.status import Board, Sources
from gpuwarden.sim.world import World

REBOOT_REQUIRED = 2
"""What the driver asks for when it says a device needs a reboot."""
OBEY_S = 2.0
BLIP_S = 0.3
KINDS = frozenset({"cordon", "reboot", "reset-gpu", "reload-driver", "restart-services"})
SETTINGS: dict[str, Any] = {
    "agent": {"mode": "enforce"},
    "repair": {"allow": ["restart-services", "reset-gpu", "reboot"]},
}
"""An operator who lets the agent take every step: the fleet's leave is all that holds it."""


class HeapJournal:
    """Implements ``ports.Journal`` and keeps nothing: no node of this fleet is ever restarted."""

    def intend(self, before: Memory, snapshot: Snapshot, decision: Decision) -> None:
        return

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        return

    def keep(self, incidents: Sequence[Incident]) -> None:
        return

    def remember(self, memory: Memory) -> None:
        return


class SimDesk(NodeFleetDesk):
    """The agent's desk; orders are carried out at once, for no thread waits for them."""

    def order(self, order: Order) -> None:
        self._carry_out(order)


class SimNode:
    """Its clock stands still between calls of ``run_to`` and ``rest_to``."""

    def __init__(
        self, number: int, group: str, clock: Clock, *, devices: int, aggregator: str
    ) -> None:
        self.name = f"sim-{number}"
        self.cfg = FleetConfig(
            aggregator=(aggregator,),
            group=group,
            identity_dir=Path("/nonexistent"),
            domains={"rack": f"r{number // 16}"},
        )
        self.world = World(number, devices=devices, settings=SETTINGS)
        self.world.kernel_log.reads = kernel_lines.read_message
        self.world.clock.set_wall(clock.wall() - self.world.clock.wall())
        self._began = self.world.clock.now()
        self.desk = SimDesk(
            self.cfg, self.world.clock, self.name, gpuwarden.__version__, self._command
        )
        info = AgentInfo(
            version=gpuwarden.__version__,
            pid=number + 1,
            mode="enforce",
            started_wall=clock.wall(),
            boot_id=self.world.host.boot,
        )
        self.board = Board(Sources(agent=lambda: info, details=dict, counters=dict, durations=dict))
        self.world.attach(self._agent)

    def _agent(self, world: World) -> Node:
        ports = replace(world.ports(HeapJournal()), status=self.board, leave=self.desk.leave)
        return Node(world.config(), ports, world.clock, Memory())

    def _command(self, verb: Verb, subject: str, reason: str, uid: int, timeout_s: float) -> Answer:
        """As an operator's word reaches the loop: the next tick hears it."""
        before = len(self.world.commands.answers)
        self.world.commands.say(verb, subject, reason)
        self.world.run_for(OBEY_S)
        answers = self.world.commands.answers[before:]
        if not answers:
            raise Unavailable("the agent has not answered")
        return answers[-1]

    def run_to(self, second: float) -> View:
        """Live until so many seconds after the beginning; the newest picture."""
        self.world.run(max(self._began + second, self.world.clock.now()))
        return self.board.view()

    def rest_to(self, second: float) -> View:
        """Let time go by in which nothing happens, without a tick for each beat of it."""
        clock = self.world.clock
        clock.advance(max(self._began + second, clock.now()))
        view = self.board.view()
        return replace(
            view,
            serial=view.serial + 1,
            at=clock.now(),
            snapshot=replace(view.snapshot, at=clock.now(), wall=clock.wall()),
        )

    def report_xid(self, code: int) -> None:
        """The driver says that device 0 is beyond help; nothing else of the node changes."""
        card = DeviceId("GPU-0")
        self.world.cards.cards[card].recovery_action = REBOOT_REQUIRED
        self.world.probe.event("xid", card, code)

    def blip(self, second: float) -> View:
        """A fault of an application: an incident to tell of, and nothing to do."""
        self.run_to(second)
        self.world.probe.event("xid", DeviceId("GPU-0"), 31)
        self.world.run_for(BLIP_S)
        return self.board.view()

    def done(self) -> frozenset[str]:
        """Kinds of what its agent did and needs leave for, as its own record has it."""
        return frozenset(
            step.kind
            for incident in self.board.view().incidents
            for step in incident.steps
            if step.kind in KINDS and step.result in (Result.DONE, Result.STARTED)
        )
