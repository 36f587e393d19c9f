"""What the kernel log says reaches the tick it belongs to, once, and every incident says where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from gpuwarden.model.action import Outcome
from gpuwarden.model.decision import Decision, Incident
from gpuwarden.model.kernel_record import KernelForgery, KernelTrust
from gpuwarden.model.snapshot import Gap, GapKind, Snapshot
from gpuwarden.sim.node.surroundings import SimBoard
from gpuwarden.sim.scenario import at, elapsed, expect
from gpuwarden.sim.world import World
from tests.scenario.stage import hog, serve
from tests.simulated.agent import inhabited

XID = "NVRM: Xid (PCI:0000:3b:00): 31, pid=4711, name=python, of a scenario"


@dataclass(slots=True)
class Witness(SimBoard):
    """Keeps every snapshot that was published."""

    snapshots: list[Snapshot] = field(default_factory=list)

    def publish(
        self,
        snapshot: Snapshot,
        decision: Decision,
        outcomes: Sequence[Outcome],
        incidents: tuple[Incident, ...],
    ) -> None:
        self.snapshots.append(snapshot)
        SimBoard.publish(self, snapshot, decision, outcomes, incidents)

    def texts(self) -> list[str]:
        return [record.text for snapshot in self.snapshots for record in snapshot.kernel]

    def forgeries(self) -> list[KernelForgery]:
        return [s.kernel_forgery for s in self.snapshots if s.kernel_forgery is not None]


def watched() -> tuple[World, Witness]:
    world, witness = World(), Witness()
    world.board = witness
    inhabited(world)
    world.run_for(3.0)
    world.began = world.clock.now()
    return world, witness


def test_a_line_wakes_the_loop_and_is_in_its_tick_alone() -> None:
    world, witness = watched()
    at(world, 5.0, lambda: world.kernel_log.say(XID))
    world.run_for(10.0)
    (snapshot,) = [s for s in witness.snapshots if s.kernel]
    (record,) = snapshot.kernel
    assert (record.text, record.facility, record.trust) == (XID, 0, KernelTrust.SIMULATED)
    assert snapshot.at - world.began == pytest.approx(5.0, abs=0.01)


def test_an_applications_line_is_told_and_convicts_nobody() -> None:
    world, witness = watched()
    low = hog(world, used_mib=4_000, grow_mib_s=0)
    at(world, 5.0, lambda: world.kernel_log.say(XID))
    world.run_for(30.0)
    assert witness.texts() == [XID]
    assert world.is_alive(low.tenant)
    assert [i.rule for i in witness.incidents] == ["fault"]
    assert not list(world.ledger.harm())


def test_a_forgery_is_told_once_a_minute_and_is_no_record() -> None:
    world, witness = watched()
    for second in range(1, 100):
        at(world, second, lambda: world.kernel_log.say(XID, facility=1))
    world.run_for(100.0)
    assert witness.texts() == []
    assert len(witness.forgeries()) == 2
    assert sum(forgery.count for forgery in witness.forgeries()) <= 99


@pytest.mark.parametrize("trust", [t for t in KernelTrust if t is not KernelTrust.NONE])
def test_an_incident_says_where_kernel_lines_came_from(trust: KernelTrust) -> None:
    world, witness = watched()
    world.kernel_log.trust = trust
    serve(world)
    hog(world)
    expect(world, by=30, findings=["quota"])
    assert {incident.kernel_log for incident in witness.incidents} == {trust.value}
    assert witness.snapshots[-1].kernel_log is trust


def test_a_log_that_cannot_be_read_is_a_gap_and_no_line_is_lost() -> None:
    world, witness = watched()
    world.kernel_log.is_down = True
    at(world, 5.0, lambda: world.kernel_log.say(XID))
    world.run_for(10.0)
    assert witness.snapshots[-1].kernel_log is KernelTrust.NONE
    (gap,) = witness.snapshots[-1].gaps
    assert (gap.source, gap.detail) == ("kernel_log", "the kernel log cannot be read")
    world.kernel_log.is_down = False
    world.run_for(2.0)
    assert witness.texts() == [XID]
    assert witness.snapshots[-1].gaps == ()


def test_what_was_lost_is_a_gap() -> None:
    world, witness = watched()
    gap = Gap(
        source="kernel_log", subject="kernel records", kind=GapKind.GONE, detail="9 were lost"
    )
    world.kernel_log.gaps = (gap,)
    world.run_for(2.0)
    assert witness.snapshots[-1].gaps == (gap,)


def test_an_agent_that_dies_leaves_what_it_had_not_dealt_with_to_the_next() -> None:
    world, witness = watched()
    at(world, 5.0, lambda: world.kernel_log.say(XID))
    world.run_for(10.0)
    world.crash()
    world.boot_agent()
    world.kernel_log.say(XID.replace("31", "79"))
    world.run_for(5.0)
    assert witness.texts() == [XID, XID.replace("31", "79")]
    # The next one dies in its tick: what it drained, it never settled.
    world.kernel_log.say(XID.replace("31", "13"))
    world.kernel_log.drain(world.clock.now())
    world.crash()
    world.boot_agent()
    world.run_for(5.0)
    assert witness.texts()[2:] == [XID.replace("31", "13")]
    assert elapsed(world) == pytest.approx(20.0)
