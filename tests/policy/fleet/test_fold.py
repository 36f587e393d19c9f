"""The fold: order, duplicates and gaps change nothing that matters."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.policy.fleet.fold import Arrival, FleetMemory, Heard, Left, fold
from tests.policy.fleet_builders import NOW, ask, empty, heard, joined, report, sick

NODES = ("a", "b", "c")


def facts(memory: FleetMemory) -> dict[str, object]:
    return {
        name: (node.stream, node.is_connected, node.heard_at, node.report)
        for name, node in memory.nodes.items()
    }


@st.composite
def histories(draw: st.DrawFn) -> list[Arrival]:
    """What one stream of each node brings, in the order in which it was sent."""
    history: list[Arrival] = []
    for node in NODES:
        history.append(joined(node, at=NOW))
        for sequence in range(1, draw(st.integers(1, 6))):
            history.append(heard(node, report(sequence), at=NOW + sequence))
    return history


@given(histories(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_what_arrives_twice_counts_once(history: list[Arrival], chance: random.Random) -> None:
    doubled = [each for arrival in history for each in (arrival,) * chance.choice((1, 2, 3))]
    assert facts(fold(empty(), doubled)) == facts(fold(empty(), history))


@given(histories(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_reports_in_any_order_end_the_same(history: list[Arrival], chance: random.Random) -> None:
    begin = [each for each in history if not isinstance(each, Heard)]
    told = [each for each in history if isinstance(each, Heard)]
    shuffled = list(told)
    chance.shuffle(shuffled)
    assert facts(fold(empty(), [*begin, *shuffled])) == facts(fold(empty(), [*begin, *told]))


@given(histories(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_gap_leaves_the_newest(history: list[Arrival], data: st.DataObject) -> None:
    told = [each for each in history if isinstance(each, Heard)]
    last = {each.node: each for each in told}
    kept = [e for e in told if e is last[e.node] or data.draw(st.booleans())]
    begin = [each for each in history if not isinstance(each, Heard)]
    assert facts(fold(empty(), [*begin, *kept])) == facts(fold(empty(), history))


@given(histories(), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_in_one_go_or_in_pieces(history: list[Arrival], size: int) -> None:
    memory = empty()
    for begin in range(0, len(history), size):
        memory = fold(memory, history[begin : begin + size])
    assert facts(memory) == facts(fold(empty(), history))


def test_an_older_stream_has_no_say() -> None:
    memory = fold(
        empty(),
        [
            joined("a", stream=1),
            joined("a", stream=2, at=NOW + 1),
            heard("a", sick(9), at=NOW + 2, stream=1),
            Left(at=NOW + 3, stream=1, node="a"),
        ],
    )
    node = memory.nodes["a"]
    assert (node.is_connected, node.report, node.heard_at) == (True, None, NOW + 1)


def test_a_newer_stream_begins_its_numbers_again() -> None:
    memory = fold(empty(), [joined("a"), heard("a", report(50)), joined("a", stream=2)])
    memory = fold(memory, [heard("a", sick(1), stream=2)])
    assert memory.nodes["a"].report == sick(1)


def test_another_boot_is_another_life() -> None:
    memory = fold(empty(), [joined("a"), heard("a", sick())])
    memory = replace(memory, nodes={"a": memory.nodes["a"]._replace(sick_since=NOW)})
    memory = fold(memory, [joined("a", stream=2, boot_id="boot-2")])
    assert (memory.nodes["a"].report, memory.nodes["a"].sick_since) == (None, None)


def test_who_has_left_wants_nothing() -> None:
    memory = fold(empty(), [joined("a"), heard("a", None, ask())])
    assert memory.nodes["a"].asks == (ask(),)
    assert fold(memory, [Left(at=NOW, stream=1, node="a")]).nodes["a"].asks == ()


def test_of_somebody_who_never_joined_nothing_is_kept() -> None:
    assert fold(empty(), [heard("x"), Left(at=NOW, stream=1, node="x")]).nodes == {}
