"""One pass of the fleet: who is told what, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from gpuwarden.aggregator.lead import OwnLead
from gpuwarden.aggregator.loop import Fleet
from gpuwarden.aggregator.oncall import FleetOncall
from gpuwarden.model.fleet import Denial, Permit
from gpuwarden.policy.fleet.fold import Arrival
from gpuwarden.sim.node.clock import SimClock
from tests.aggregator.test_oncall import ListPager
from tests.policy.fleet_builders import CFG, NOW, ask, fleet, heard, report, sick


class AtOnce:
    """A committer whose disk is always quick."""

    def do(self, deed: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(None)
        return future


class Told(list[Mapping[str, tuple[list[Permit], list[Denial]]]]):
    """What nodes were told, pass by pass."""

    def names(self) -> list[list[str]]:
        return [sorted(answers) for answers in self]


def started(count: int) -> tuple[Fleet, SimClock, Told]:
    told, clock = Told(), SimClock(NOW)
    committer: Any = AtOnce()
    loop = Fleet(
        CFG,
        committer,
        clock,
        fleet(count),
        OwnLead(1),
        lambda wall: (),
        told.append,
        FleetOncall(ListPager()),
    )
    return loop, clock, told


def test_a_refusal_is_told_once_until_it_is_asked_again() -> None:
    loop, clock, told = started(40)
    storm: tuple[Any, ...] = tuple(heard(f"n{n}", sick(2), ask(f"x{n}")) for n in range(40))
    loop.tick(storm)
    for _ in range(3):
        clock.advance(clock.now() + 1)
        loop.tick(())
    assert [len(names) for names in told.names()] == [40]
    clock.advance(clock.now() + 1)
    loop.tick((heard("n7", sick(3), ask("x7"), at=clock.now()),))
    assert told.names()[1:] == [["n7"]]


def test_another_budget_that_stops_it_is_told() -> None:
    loop, clock, told = started(40)
    many: tuple[Arrival, ...] = tuple(heard(f"n{n}", report(2), ask(f"x{n}")) for n in range(4))
    loop.tick(many[:3] + many[3:])  # two have leave, two are over the window
    clock.advance(clock.now() + 1)
    rest = tuple(heard(f"n{n}", sick(2), at=clock.now()) for n in range(10, 40))
    loop.tick((*rest, heard("n39", sick(3), ask("y"), at=clock.now())))
    budgets = [{d.budget for _, denied in answers.values() for d in denied} for answers in told]
    assert budgets == [{"window"}, {"frozen"}]
    assert sorted(told[1]) == ["n2", "n3", "n39"]


def test_a_permit_that_holds_is_told_again_to_who_asks_again() -> None:
    loop, clock, told = started(40)
    loop.tick((heard("n1", report(2), ask("x")),))
    loop.tick(())
    clock.advance(clock.now() + 5)
    loop.tick((heard("n1", report(3), ask("x"), at=clock.now()),))
    permits = [answers["n1"][0] for answers in told]
    assert len(permits) == 2
    assert permits[0] == permits[1]
