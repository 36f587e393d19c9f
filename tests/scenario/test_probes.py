"""Services that do not answer their probes, on simulated time."""

from __future__ import annotations

from typing import Any

from gpuwarden.model.command import Verb
from gpuwarden.model.ids import TenantId
from gpuwarden.model.service import CarePhase
from gpuwarden.policy.desk import target_of
from gpuwarden.policy.ready import judge
from gpuwarden.sim.node.containers import Container
from gpuwarden.sim.scenario import always, at, card, expect, kinds
from gpuwarden.sim.world import World
from tests.scenario.stage import node, serve

PROBE: dict[str, Any] = {
    "http": "http://127.0.0.1:1/healthz",
    "every_s": 1.0,
    "restart": True,
    "verify_s": 20.0,
    "probation_s": 10.0,
}


def probed(mode: str = "enforce", **probe: Any) -> World:
    settings = {
        "agent": {"mode": mode},
        "service": [{"name": "serve", "probe": {**PROBE, **probe}}],
    }
    return node(settings)


def sicken(world: World, *, heals: bool = True) -> None:
    service = world.services.services["serve"]
    service.is_sick, service.heals = True, heals


def restarts(world: World, tenant: TenantId | None = None) -> int:
    return len(world.ledger.of("restart-tenant", tenant=tenant))


def phase(world: World) -> CarePhase:
    assert world.board.decision is not None
    return world.board.decision.memory.cares["serve"].phase


def is_ready(world: World) -> bool:
    decision, snapshot = world.board.decision, world.board.snapshot
    assert decision is not None
    assert snapshot is not None
    found = judge(snapshot, decision.memory, "serve", world.clock.now())
    return found is not None and found.is_fit


def bystander(world: World) -> Container:
    return world.container("bystander", quota_mib=8_192)


def test_three_failures_a_restart_and_it_is_well() -> None:
    world = probed()
    made, other = serve(world), bystander(world)
    expect(world, by=6, that=lambda: is_ready(world))
    at(world, 6, lambda: sicken(world))
    always(world, until=8, untouched=[made, other])
    expect(world, by=12, that=lambda: restarts(world, made.tenant) == 1)
    assert not is_ready(world)
    expect(world, by=25, that=lambda: phase(world) is CarePhase.WELL)
    always(world, until=60, pages=0, alive=[made, other], untouched=other)
    assert restarts(world) == 1
    assert is_ready(world)
    (incident,) = [i for i in world.board.incidents if i.rule == "probe"]
    assert incident.closed_at is not None
    assert incident.outcome == "service restarted"


def test_one_that_stays_sick_brings_one_page() -> None:
    world = probed()
    made = serve(world)
    world.run_for(4)
    sicken(world, heals=False)
    expect(world, by=60, pages=1)
    always(world, until=200, pages=1, alive=made)
    assert restarts(world) == 1
    assert "serve" in world.ledger.of("page")[0].text
    world.services.services["serve"].is_sick = False
    expect(world, by=230, that=lambda: phase(world) is CarePhase.WELL)
    always(world, until=260, pages=1)


def test_flapping_stays_within_its_budget() -> None:
    world = probed(restarts_per_hour=2)
    made = serve(world)
    for second in range(10, 600, 60):
        at(world, second, lambda: sicken(world))
    world.run_for(600)
    assert restarts(world) == 2
    assert len(world.ledger.of("page")) == 1
    assert kinds(world, made) == ["restart-tenant"] * 2


def test_observe_touches_nothing_and_says_so() -> None:
    world = probed("observe")
    made = serve(world)
    at(world, 5, lambda: sicken(world))
    expect(world, by=20, withheld="observe", pages=1)
    always(world, until=60, untouched=made, pages=1, alive=made)


def test_while_its_device_is_ill_it_waits_and_is_restarted_once_it_is_well() -> None:
    world = probed()
    made = serve(world)
    world.run_for(4)
    world.commands.say(Verb.CORDON, "0", "fan replaced")
    world.run_for(2)
    sicken(world)
    expect(world, by=20, withheld="device")
    always(world, until=40, untouched=made)
    assert not is_ready(world)
    world.commands.say(Verb.UNCORDON, "0", "done")
    expect(world, by=50, that=lambda: restarts(world) == 1)
    expect(world, by=80, that=lambda: is_ready(world))


def test_a_lost_device_is_not_cured_by_restarting_who_suffers_from_it() -> None:
    world = probed()
    made = serve(world)
    world.run_for(4)
    world.cards.cards[card()].is_lost = True
    sicken(world)
    always(world, until=60, untouched=made)
    assert restarts(world) == 0


def test_who_has_stopped_it_is_not_overruled() -> None:
    world = probed()
    made = serve(world)
    world.run_for(4)
    sicken(world)
    world.docker.stop(_target(world, made), 0)
    expect(world, by=60, pages=1)
    always(world, until=90, that=lambda: not made.is_running)


def _target(world: World, made: Container) -> Any:
    assert world.board.snapshot is not None
    return target_of(next(t for t in world.board.snapshot.tenants if t.id == made.tenant))
