"""A rollback over nodes: batches, nodes that fail or are dead, and an aggregator that ends at any point."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.config_ramp import RampConfig
from gpuwarden.model.ramp import Campaign, CampaignState, Turn
from gpuwarden.policy.fleet.campaign import Answer, Seen, batch, begun, order_of, step

CFG = RampConfig(batch_ratio=0.25, batch_most=10, failed_most=1, node_s=600.0)
NODES = [f"n{number}" for number in range(8)]
WALL = 1_800_000_000.0


def campaign(nodes: list[str] | None = None) -> Campaign:
    fresh = Campaign(id="c1", service="risk", version="v1", since_wall=WALL)
    return begun(fresh, NODES if nodes is None else nodes)


def seen(**rest: Any) -> Seen:
    return Seen(**{"answers": {}, "heard": frozenset(NODES), **rest})


def count(now: Campaign, turn: Turn) -> int:
    return sum(each.turn is turn for each in now.nodes)


def play(now: Campaign, answer: Any, heard: Any = frozenset(NODES), looks: int = 60) -> Campaign:
    """Each ordered node answers by the next look, or not."""
    for number in range(looks):
        answers = {t.node: answer(t.node) for t in now.nodes if t.turn is Turn.ORDERED}
        now = step(CFG, now, Seen(answers=answers, heard=heard), WALL + 60.0 * number)
        assert count(now, Turn.ORDERED) <= batch(CFG, len(now.nodes))
    return now


def test_a_batch_at_a_time_until_all_have_it() -> None:
    first = step(CFG, campaign(), seen(), WALL)
    assert count(first, Turn.ORDERED) == 2
    assert step(CFG, first, seen(), WALL + 1) == first, "nobody answered: nobody else is begun"
    done = play(campaign(), lambda node: Answer(is_done=True))
    assert (done.state, count(done, Turn.DONE)) == (CampaignState.DONE, 8)


def test_one_that_fails_is_borne_two_halt_it_and_the_rest_keeps_what_it_runs() -> None:
    bad = campaign().nodes[0].node
    one = play(campaign(), lambda node: Answer(is_done=node != bad, detail="no such image"))
    assert (one.state, count(one, Turn.DONE), count(one, Turn.FAILED)) == (
        CampaignState.HALTED,
        7,
        1,
    )
    all_bad = play(campaign(), lambda node: Answer(is_done=False, detail="no such image"))
    assert all_bad.state is CampaignState.HALTED
    assert count(all_bad, Turn.FAILED) == 2
    assert count(all_bad, Turn.WAITING) == 6
    assert "no such image" in all_bad.why
    assert "6 are left as they are" in all_bad.why


def test_half_the_batch_done() -> None:
    first = step(CFG, campaign(), seen(), WALL)
    quick, slow = (t.node for t in first.nodes if t.turn is Turn.ORDERED)
    second = step(CFG, first, seen(answers={quick: Answer(is_done=True)}), WALL + 5)
    assert (count(second, Turn.DONE), count(second, Turn.ORDERED)) == (1, 2)
    assert next(t for t in second.nodes if t.node == slow).turn is Turn.ORDERED


def test_a_dead_node_is_last_and_does_not_hold_the_others_up() -> None:
    dead = campaign().nodes[0].node
    heard = frozenset(NODES) - {dead}
    now = play(
        campaign(), lambda n: Answer(is_done=True) if n != dead else Answer(), heard, looks=5
    )
    assert count(now, Turn.DONE) == 7
    assert now.state is CampaignState.RUNNING
    end = play(now, lambda n: Answer(), heard, looks=40)
    assert next(t for t in end.nodes if t.node == dead).turn is Turn.LOST
    assert (end.state, end.why) == (CampaignState.HALTED, f"not heard: {dead}")


def test_one_that_is_heard_and_never_ends_has_failed() -> None:
    first = step(CFG, campaign(), seen(), WALL)
    late = step(CFG, first, seen(), WALL + CFG.node_s)
    assert count(late, Turn.FAILED) == 2


def test_a_fleet_that_gives_no_leave_begins_nothing_and_ends_what_runs() -> None:
    now = step(CFG, campaign(), seen(frozen="3 nodes turned sick at once"), WALL)
    assert count(now, Turn.ORDERED) == 0
    assert "turned sick" in now.why
    first = step(CFG, campaign(), seen(), WALL)
    node = next(t.node for t in first.nodes if t.turn is Turn.ORDERED)
    held = step(CFG, first, seen(frozen="x", answers={node: Answer(is_done=True)}), WALL + 1)
    assert (count(held, Turn.DONE), count(held, Turn.ORDERED)) == (1, 1)


def test_a_wall_clock_that_is_set_back_or_forth_loses_no_node_at_once() -> None:
    first = step(CFG, campaign(), seen(), WALL)
    assert count(step(CFG, first, seen(), WALL - 60), Turn.ORDERED) == 2


def test_an_order_is_the_same_whoever_gives_it() -> None:
    assert campaign() == campaign()
    assert {t.order for t in campaign().nodes} == {order_of("c1", node) for node in NODES}
    assert order_of("c1", "n1") != order_of("c2", "n1")


@pytest.mark.parametrize("stop_after", range(12))
def test_from_wherever_an_aggregator_ended_the_next_one_ends_alike(stop_after: int) -> None:
    """What is on disk is all that the next one has; nodes are ordered under the same ids, and none twice."""
    now, orders = campaign(), set()
    done: dict[str, Answer] = {}
    for number in range(40):
        kept = now
        now = step(CFG, now, seen(answers=dict(done)), WALL + number)
        if number == stop_after:
            now = kept  # it died before the step was on disk
            continue
        fresh = {t.order for t in now.nodes if t.turn is Turn.ORDERED}
        orders |= fresh
        done.update({t.node: Answer(is_done=True) for t in now.nodes if t.turn is Turn.ORDERED})
    assert now.state is CampaignState.DONE
    assert len(orders) == len(NODES)


def test_what_is_over_stays_over() -> None:
    over = replace(campaign(), state=CampaignState.HALTED)
    assert step(CFG, over, seen(), WALL) == over
