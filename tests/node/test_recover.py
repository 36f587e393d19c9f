"""Where an agent goes on: from what is on disk, and from nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.model.action import Action, Kind, Result, Target
from gpuwarden.model.decision import Decision, IncidentNote, NoteKind
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.memory import Debt, DeviceMemory, Memory, Rung
from gpuwarden.node.journal import Record
from gpuwarden.node.loop import Node
from gpuwarden.node.recover import recover, resume
from gpuwarden.sim.node.containers import SimDocker
from gpuwarden.sim.world import World
from tests.policy.builders import (
    case,
    config,
    device_id,
    memory,
    outcome,
    snap,
    target,
    tenant,
)
from tests.simulated.agent import HeapJournal

INC = IncidentId("inc-1")
HOG = tenant("hog")
START = Record(kind="start", config=config().model_dump_json(by_alias=True))


def order(kind: Kind, who: Target | None = None, **params: str) -> Action:
    return Action(
        id=f"inc-1/{kind.value}",
        kind=kind,
        incident=INC,
        why="because",
        target=who or target(HOG),
        params=tuple(params.items()),
    )


def decided(*actions: Action, mem: Memory | None = None, wall: float = 0.0) -> Record:
    """A tick that opened an incident and ordered these."""
    opened = IncidentNote(incident=INC, kind=NoteKind.OPENED, text="hog is over", tenant=HOG.id)
    after = replace(mem or memory(), last_wall=wall, open_incidents={"tenant/hog": INC})
    return Record(
        kind="tick",
        memory=memory(),
        snapshot=snap(tenants=[HOG]),
        decision=Decision(memory=after, actions=actions, incidents=(opened,)),
    )


def revived(*records: Record, world: World | None = None) -> tuple[Node, HeapJournal]:
    """An agent that goes on from these records."""
    world = world or World()
    journal = HeapJournal(world.ledger, records=list(records))
    found = recover(records)
    return resume(world.config(), world.ports(journal), world.clock, found, journal.begin), journal


def results(node: Node) -> dict[str, str]:
    return {s.kind: s.result for i in node.archive.incidents for s in i.steps if s.action}


class TestIncidents:
    def test_of_a_decision_that_alone_is_on_disk(self) -> None:
        (incident,) = recover([START, decided(order(Kind.TERM))]).incidents
        assert (incident.id, incident.summary, incident.mode) == (INC, "hog is over", "enforce")
        assert [s.kind for s in incident.steps] == ["opened", "term"]

    def test_of_an_outcome_that_alone_is_on_disk(self) -> None:
        done = replace(outcome(Kind.TERM, HOG), action="inc-1/term", incident=INC)
        records = (START, decided(order(Kind.TERM)), Record(kind="outcomes", outcomes=(done,)))
        node, _ = revived(*records)
        assert results(node) == {"term": "done"}

    def test_as_written_down_last(self) -> None:
        (incident,) = recover([START, decided()]).incidents
        kept = replace(incident, advice=("reset it",))
        records = [START, decided(), Record(kind="incidents", incidents=(kept,))]
        assert recover(records).incidents == (kept,)

    def test_what_became_of_an_action_nobody_knows_is_said_and_kept(self) -> None:
        node, journal = revived(START, decided(order(Kind.TERM)))
        assert results(node) == {"term": "unknown"}
        kept = [i for r in journal.records for i in r.incidents]
        assert [s.result for s in kept[-1].steps if s.kind == "term"] == ["unknown"]
        again, _ = revived(*journal.records)
        assert results(again) == {"term": "unknown"}

    @pytest.mark.parametrize("said", ["{", "[]", json.dumps({"agent": {"mode": "hover"}})])
    def test_a_configuration_nobody_understands_stops_nothing(self, said: str) -> None:
        records = [START, Record(kind="config", config=said), decided(order(Kind.TERM))]
        assert recover(records).incidents[0].mode == "enforce"


class TestAgain:
    """What is carried out once more without knowing whether it was."""

    def page(self, world: World, aged_s: float) -> list[str]:
        action = order(Kind.PAGE, summary="GPU 0 is locked up", severity="critical")
        node, _ = revived(START, decided(action, wall=world.clock.wall() - aged_s), world=world)
        node.tick(world.clock.now(), world.clock.wall())
        world.run_for(1.0)
        node.tick(world.clock.now(), world.clock.wall())
        assert results(node)["page"] in (Result.DONE, Result.UNKNOWN)
        return [e.text for e in world.ledger.of("page")]

    def test_a_page_that_may_have_reached_nobody(self) -> None:
        assert self.page(World(), 5.0) == ["critical: GPU 0 is locked up"]

    @pytest.mark.parametrize("aged_s", [601.0, -1.0])
    def test_but_none_that_is_old_or_of_a_clock_that_was_wrong(self, aged_s: float) -> None:
        assert self.page(World(), aged_s) == []

    @pytest.mark.parametrize(
        ("settings", "count"),
        [
            ({"ladder": {"allow_protected_restart": True}}, 1),
            ({"ladder": {"allow_protected_restart": False}}, 0),
            ({"ladder": {"allow_protected_restart": True}, "agent": {"mode": "observe"}}, 0),
        ],
    )
    def test_a_move_that_was_begun_where_the_operator_still_lets_it(
        self, settings: dict[str, Any], count: int
    ) -> None:
        world = World(settings=settings)
        serve = world.container("serve", cls="protected", quota_mib=None)
        who = Target(tenant=serve.tenant, runtime="docker", cgroup=world.cgroup_of(serve))
        move = replace(order(Kind.RELOCATE, who, index="1"), device=list(world.cards.cards)[1])
        node, _ = revived(START, decided(move, wall=world.clock.wall()), world=world)
        node.tick(world.clock.now(), world.clock.wall())
        world.run_for(1.0)
        assert len(world.ledger.of("relocate")) == count

    def test_a_move_that_was_finished_is_found_so(self) -> None:
        world = World(settings={"ladder": {"allow_protected_restart": True}})
        serve = world.container("serve", cls="protected", quota_mib=None)
        who = Target(tenant=serve.tenant, runtime="docker", cgroup=world.cgroup_of(serve))
        docker: SimDocker = world.docker
        device = list(world.cards.cards)[1]
        assert docker.relocate(who, device, 1) == docker.relocate(who, device, 1)
        assert len(world.ledger.of("relocate")) == 1


class TestGrace:
    def test_whoever_may_have_been_frozen_since_term_has_its_grace_from_now(self) -> None:
        termed = case(HOG, Rung.TERMED, since=1.0)
        thaw = Debt(tenant=HOG.id, kind=Kind.THAW, target=target(HOG), incident=INC)
        mem = memory(cases={HOG.id: termed}, debts=(thaw,))
        node, _ = revived(START, decided(mem=mem))
        assert node.memory.cases[HOG.id].since == node.memory.cases[HOG.id].since > 1.0
        node, _ = revived(START, decided(mem=replace(mem, debts=())))
        assert node.memory.cases[HOG.id].since == 1.0


@pytest.mark.parametrize(
    ("marked", "result"),
    [(None, Result.REFUSED), (False, Result.UNKNOWN), (True, Result.DONE)],
)
def test_a_repairs_step_is_what_its_mark_says(marked: bool | None, result: Result) -> None:
    """Never begun; begun; taken, and only its outcome is missing."""
    world = World()
    step = order(Kind.RESET_GPU)
    if marked is not None:
        world.remedies.mark(step.id, is_done=marked)
    _, journal = revived(START, decided(step), world=world)
    (outcome,) = [o for r in journal.records for o in r.outcomes]
    assert (outcome.action, outcome.result) == (step.id, result)


def test_a_breach_an_earlier_agent_saw_has_to_be_seen_again() -> None:
    """Nobody looked while no agent ran: it may have ended and begun anew. Found by a generated world."""
    before = memory(devices={device_id(0): DeviceMemory(reserve_since=90.0, locked_since=80.0)})
    node, _ = revived(START, decided(mem=before))
    state = node.memory.devices[device_id(0)]
    assert (state.reserve_since, state.locked_since) == (None, 80.0)


def test_the_first_tick_is_due_at_once() -> None:
    node, _ = revived(START)
    assert node.next_due(1234.5) == 1234.5
