"""An operator's drain in simulated time: cordoned, emptied by class, the others waited for and told of."""

from __future__ import annotations

from gpuwarden.model.command import Verb
from gpuwarden.policy.cordon import NODE_ITSELF
from gpuwarden.sim.scenario import always, card, expect
from gpuwarden.sim.world import World
from tests.scenario.stage import hog, node, serve


def drained(world: World, subject: str = "0") -> None:
    world.commands.say(Verb.DRAIN, subject, "new fan")
    world.run_for(0.2)


def calm(world: World, name: str, on: int = 0) -> object:
    return hog(world, name, used_mib=2_000, grow_mib_s=0, on=on)


def notes(world: World) -> list[str]:
    return [s.text for i in world.board.incidents for s in i.steps]


def is_draining(world: World, place: str = card(0)) -> bool:
    assert world.board.decision is not None
    return world.board.decision.memory.devices[place].drained_wall > 0  # type: ignore[index]


def test_who_may_be_ended_goes_with_its_grace_and_the_others_stay() -> None:
    world = node({"repair": {"drain_evicts": "low"}}, devices=2)
    low, elsewhere = calm(world, "low"), calm(world, "elsewhere", on=1)
    safe = serve(world, on=0)
    world.run_for(3)
    drained(world)
    expect(world, by=20, freed=low)
    always(world, until=60, untouched=(safe, elsewhere), alive=(safe, elsewhere))
    assert is_draining(world)
    assert not world.ledger.of("page")


def test_late_people_are_told_once_who_is_still_there() -> None:
    world = node({"repair": {"drain_wait_s": 30}})
    safe = serve(world)
    world.run_for(3)
    drained(world)
    expect(world, by=45, pages=1)
    (page,) = world.ledger.of("page")
    assert "waits for serve" in page.text
    always(world, until=120, untouched=safe, alive=safe)
    assert len(world.ledger.of("page")) == 1


def test_it_is_over_when_nobody_is_left_and_the_cordon_stays() -> None:
    world = node({"repair": {"drain_evicts": "low"}})
    low = calm(world, "low")
    world.run_for(3)
    drained(world)
    expect(world, by=20, freed=low)
    world.run_for(5)
    assert not is_draining(world)
    assert any("GPU 0 is empty" in text for text in notes(world))
    assert world.cordons.is_drained
    world.commands.say(Verb.UNCORDON, "0", "done")
    world.run_for(1)
    assert not world.cordons.is_drained


def test_an_uncordon_ends_it() -> None:
    world = node({"repair": {"drain_wait_s": 30}})
    serve(world)
    world.run_for(3)
    drained(world)
    world.commands.say(Verb.UNCORDON, "0", "not today")
    world.run_for(60)
    assert not is_draining(world)
    assert not world.ledger.of("page")


def test_a_whole_node() -> None:
    world = node({"repair": {"drain_evicts": "low"}}, devices=2)
    lows = [calm(world, f"low-{n}", on=n) for n in range(2)]
    world.run_for(3)
    drained(world, "node")
    for low in lows:
        expect(world, by=30, freed=low)
    world.run_for(5)
    assert not is_draining(world, NODE_ITSELF)
    assert any("the node is empty" in text for text in notes(world))


def test_in_observe_mode_it_is_cordoned_and_what_is_withheld_is_said_once() -> None:
    world = node({"agent": {"mode": "observe"}, "repair": {"drain_evicts": "low"}})
    low = calm(world, "low")
    world.run_for(3)
    drained(world)
    always(world, until=30, untouched=low, alive=low)
    assert world.cordons.is_drained
    withheld = [s for i in world.board.incidents for s in i.steps if s.kind == "withheld"]
    assert [s.action for s in withheld] == ["observe"]


def test_where_nobody_is_ended_the_answer_says_so() -> None:
    world = node()
    low = calm(world, "low")
    world.run_for(3)
    drained(world)
    (answer,) = world.commands.answers
    assert "ends nobody (repair.drain_evicts)" in answer.text
    world.commands.say(Verb.DRAIN, "0", "again")
    world.run_for(2)
    assert "is being drained already, by" in world.commands.answers[-1].text
    always(world, until=30, untouched=low, alive=low)
