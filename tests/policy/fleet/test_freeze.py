"""A freeze holds while most are sick, however long, and what is out of use counts until it is known to be back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.config_aggregator import AggregatorConfig, PermitConfig
from gpuwarden.model.fleet import Report
from gpuwarden.policy.fleet.decide import FleetDecision, decide
from gpuwarden.policy.fleet.fold import Arrival, FleetMemory, fold
from gpuwarden.policy.fleet.freeze import THAW_MAX_S, thawed
from tests.policy.fleet_builders import (
    CFG,
    NOW,
    WALL,
    ask,
    fleet,
    heard,
    joined,
    permit,
    report,
    sick,
)

SIGHT = CFG.sight
HOUR_S = 3600


def at(memory: FleetMemory, second: float, *arrivals: Arrival) -> FleetDecision:
    """The fleet at that second, without a break in its listening."""
    now = NOW + second
    return decide(CFG, replace(fold(memory, arrivals), decided_at=now), now, WALL + second, 7)


def told(second: float, ill: int, total: int = 10) -> list[Arrival]:
    """So many are sick, the rest is well; the last one always wants leave for a fault of now."""
    number = int(second) + 2
    said: list[Arrival] = [
        heard(f"n{n}", sick(number) if n < ill else report(number), at=NOW + second)
        for n in range(total - 1)
    ]
    return [*said, heard(f"n{total - 1}", report(number), ask(f"x{number}"), at=NOW + second)]


def run(memory: FleetMemory, begin: int, end: int, ill: int) -> FleetDecision:
    for second in range(begin, end + 1, 10):
        decision = at(memory, second, *told(second, ill, len(memory.nodes)))
        memory = decision.memory
    return decision


def test_it_holds_for_hours_while_they_are_sick_and_is_shown() -> None:
    decision = run(fleet(10), 0, 2 * HOUR_S, 9)
    assert (decision.granted, decision.held) == ((), ())
    assert {denial.budget for denial in decision.denied} == {"frozen"}
    assert "9 of 10 nodes of group default" in decision.frozen
    assert decision.freezes == ("group default: 9 of 10 sick, frozen for 7200 s",)


def test_it_lifts_once_they_have_been_well_for_its_time_and_not_before() -> None:
    memory = run(fleet(10), 0, 1000, 9).memory
    over = int(SIGHT.over_s)
    decision = run(memory, 1010, 1000 + over, 0)
    assert decision.frozen
    decision = run(decision.memory, 1010 + over, 1010 + over, 0)
    assert decision.frozen == ""
    assert [each.node for each in decision.granted] == ["n9"]


def test_one_that_flickers_between_well_and_sick_lifts_nothing() -> None:
    memory = run(fleet(10), 0, 100, 9).memory
    for begin in range(110, 1000, 60):
        decision = run(memory, begin, begin + 40, 0)
        memory = run(decision.memory, begin + 50, begin + 50, 9).memory
        assert decision.frozen


def test_silence_and_another_boot_are_no_health() -> None:
    memory = run(fleet(10), 0, 100, 5).memory
    gone = [
        heard(f"n{n}", report(1000 + s), at=NOW + s) for s in (200, 300, 400) for n in range(5, 10)
    ]
    for second in (200, 300, 400):
        heard_then = [each for each in gone if each.at == NOW + second]
        decision = at(memory, second, *heard_then)
        memory = decision.memory
    assert "5 of 10" in decision.frozen
    booted = [joined(f"n{n}", at=NOW + 410, stream=2, boot_id="boot-2") for n in range(5)]
    assert "5 of 10" in at(memory, 410, *booted).frozen


def test_an_operators_word_lifts_it_for_a_while_and_for_those_he_knew_of() -> None:
    memory = run(fleet(30), 0, 1000, 8).memory
    thaw = thawed(memory.freezes["default"], NOW + 1000, 120.0, "ann", "a false alarm")
    memory = replace(memory, thaws={"default": thaw})
    decision = run(memory, 1010, 1010, 8)
    assert decision.frozen == ""
    assert [each.node for each in decision.granted] == ["n29"]
    assert "lifted by ann for another 110 s: a false alarm" in decision.freezes[0]
    assert run(decision.memory, 1120, 1120, 8).frozen
    more = [heard(f"n{n}", sick(2000), at=NOW + 1020) for n in range(10, 20)]
    assert "18 of 30" in at(decision.memory, 1020, *more).frozen


def test_nobodys_word_holds_longer_than_its_bound() -> None:
    memory = run(fleet(10), 0, 10, 9).memory
    thaw = thawed(memory.freezes["default"], NOW, 1e9, "ann", "away")
    assert thaw.until == NOW + THAW_MAX_S


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(1, 400)), max_size=60))
@settings(max_examples=60, deadline=None)
def test_never_is_it_lifted_while_enough_of_the_mass_were_not_seen_well(
    changes: list[tuple[int, bool, int]],
) -> None:
    """Whatever becomes of single nodes, and however long it takes."""
    decision = at(fleet(10), 0, *told(0, 6))
    unseen, second = {f"n{n}" for n in range(6)}, 0
    for name, is_ill, pause_s in changes:
        second += pause_s
        word = sick(second + 5) if is_ill else report(second + 5)
        decision = at(decision.memory, second, heard(f"n{name}", word, at=NOW + second))
        unseen = unseen - {f"n{name}"} if not is_ill else unseen
        if len(unseen) >= SIGHT.sick_min:
            assert "default" in decision.memory.freezes


OUT = report(2, is_cordoned=True)


@pytest.mark.parametrize("word", [OUT, report(2, cordoned=8)])
def test_a_cordoned_node_that_falls_silent_counts_until_it_is_known_to_be_back(
    word: Report,
) -> None:
    memory = fold(fleet(40), [heard(f"n{n}", word) for n in range(4)])
    others = [heard(f"n{n}", report(3), at=NOW + 900) for n in range(4, 40)]
    wish = heard("n9", report(4), ask(), at=NOW + 900)
    decision = at(memory, 900, *others, wish)
    assert {each.greeting.node for each in decision.nodes if each.state == "silent"} == {
        f"n{n}" for n in range(4)
    }
    assert [denial.budget for denial in decision.denied] == ["standing"]
    boot = joined("n0", at=NOW + 901, stream=2, boot_id="boot-2")
    blind = heard("n0", report(1, devices=0), at=NOW + 901, stream=2)
    again = heard("n9", report(5), ask(), at=NOW + 901)
    decision = at(decision.memory, 901, boot, blind, again)
    assert [denial.budget for denial in decision.denied] == ["standing"]
    back = heard("n0", report(2), at=NOW + 902, stream=2)
    decision = at(decision.memory, 902, back, heard("n9", report(6), ask(), at=NOW + 902))
    assert [each.node for each in decision.granted] == ["n9"]


def test_leave_that_ran_out_counts_until_its_node_is_heard() -> None:
    cfg = AggregatorConfig(permit=PermitConfig(standing_ratio=0.05))
    used = permit("n1", granted_at=NOW - 4000, expires_at=NOW - 3940)
    memory = replace(fleet(20), ledger=(used,))
    nodes = {**memory.nodes, "n1": memory.nodes["n1"]._replace(heard_at=NOW - 3990)}
    memory = fold(replace(memory, nodes=nodes), [heard("n9", report(2), ask())])
    denied = decide(cfg, memory, NOW, WALL, 7).denied
    assert [each.budget for each in denied] == ["standing"]
    memory = fold(memory, [heard("n1", report(3))])
    assert len(decide(cfg, memory, NOW, WALL, 7).granted) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 19), st.sampled_from(("out", "back", "gone", "boot"))),
        max_size=50,
    )
)
@settings(max_examples=60, deadline=None)
def test_what_is_out_is_what_was_said_last_of_it(deeds: list[tuple[int, str]]) -> None:
    memory, model, streams = fleet(20), set[str](), [1] * 20
    for number, (node, deed) in enumerate(deeds):
        name, then = f"n{node}", NOW + number
        if deed == "boot":
            streams[node] += 1
            arrival: Arrival = joined(
                name, at=then, stream=streams[node], boot_id=f"boot-{streams[node]}"
            )
        else:
            word = {"out": report(number + 2, is_cordoned=True), "back": report(number + 2)}
            told_now = word.get(deed, report(number + 2, devices=0))
            arrival = heard(name, told_now, at=then, stream=streams[node])
            model = (
                model | {name} if deed == "out" else model - ({name} if deed == "back" else set())
            )
        memory = fold(memory, [arrival])
    assert {name for name, each in memory.nodes.items() if each.is_out} == model
