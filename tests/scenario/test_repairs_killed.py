"""An agent that is killed while a step of a repair is running: what can be measured is, the rest is done again."""

from __future__ import annotations

from dataclasses import dataclass

from gpuwarden.adapters import kernel_lines
from gpuwarden.model.repair import NODE, Phase, Subject
from gpuwarden.sim.node.remedies import SimRemedies
from gpuwarden.sim.node.surroundings import AgentDied
from gpuwarden.sim.world import World
from tests.scenario.test_repairs import broken, repaired, say, steps, until_phase

SXID = "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 10003, Fatal, Link 00 Host_unhandled_interrupt"


@dataclass(slots=True)
class Deadly(SimRemedies):
    """The agent is killed once, when a step has had its effect and nobody knows yet."""

    has_killed: bool = False

    def restart_services(self) -> str:
        return self._die(SimRemedies.restart_services(self))

    def reset_gpu(self, subject: Subject) -> str:
        return self._die(SimRemedies.reset_gpu(self, subject))

    def _die(self, said: str) -> str:
        if not self.has_killed:
            self.has_killed = True
            raise AgentDied("in the middle of a step")
        return said


def deadly() -> World:
    world = repaired({"repair": {"allow": ["restart-services", "reset-gpu"], "verify_s": 5}})
    old = world.remedies
    world.remedies = Deadly(old.cards, old.probe, old.ledger, old.reboots)
    world.restart_after_s = 1.0
    world.crash()
    world.boot_agent()
    world.kernel_log.reads = kernel_lines.read_message
    world.run_for(3)
    return world


def test_a_reset_shows_in_what_the_driver_asks_for_and_is_not_done_twice() -> None:
    world = deadly()
    broken(world)
    until_phase(world, Phase.PROBATION, 60)
    assert world.crashes == 2
    assert steps(world) == ["reset-gpu"]


def test_what_nothing_can_tell_is_done_again_rather_than_believed() -> None:
    world = deadly()
    say(world, SXID)
    until_phase(world, Phase.PROBATION, 90, NODE)
    assert world.crashes == 2
    assert steps(world) == ["restart-services", "restart-services"]
    assert len(world.ledger.of("drain")) == 1
    assert world.cordons.is_drained, "out of use until it has been well for long"
    assert not [e for e in world.ledger.of("page") if "needs a person" in e.text]
