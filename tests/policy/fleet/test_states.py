"""Each state at the second at which it begins; and whose fault silence is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import NodeState, Report
from gpuwarden.policy.fleet import states
from gpuwarden.policy.fleet.fold import FleetMemory, fold
from tests.policy.fleet_builders import CFG, GRACE_S, NOW, empty, fleet, heard, joined, report, sick

SIGHT = CFG.sight


def state(memory: FleetMemory, name: str, now: float = NOW) -> NodeState:
    return states.judge(SIGHT, memory, now)[name].state


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (report(), NodeState.HEALTHY),
        (report(unseen=1), NodeState.BLIND),
        (report(devices=0), NodeState.BLIND),
        (report(is_cordoned=True), NodeState.CORDONED),
        (report(cordoned=8), NodeState.CORDONED),
        (report(cordoned=1), NodeState.DEGRADED),
        (report(faults=("x",)), NodeState.DEGRADED),
        (report(worst=Severity.ERROR), NodeState.DEGRADED),
        (report(worst=Severity.WARNING), NodeState.HEALTHY),
        (report(degraded=("the journal",)), NodeState.DEGRADED),
        (report(unseen=1, is_cordoned=True), NodeState.BLIND),
    ],
)
def test_what_is_told_makes_the_state(told: Report, expected: NodeState) -> None:
    assert state(fold(empty(), [joined("a"), heard("a", told)]), "a") is expected


def test_joined_and_no_word_yet_is_unknown() -> None:
    assert state(fold(empty(), [joined("a")]), "a") is NodeState.UNKNOWN


def test_silence_begins_after_its_time_and_not_before() -> None:
    memory = fleet(10)
    later = fold(memory, [heard(f"n{n}", report(2), at=NOW + 60) for n in range(1, 10)])
    assert state(later, "n0", NOW + SIGHT.silent_after_s) is NodeState.HEALTHY
    assert state(later, "n0", NOW + SIGHT.silent_after_s + 0.1) is NodeState.SILENT


def test_after_a_start_nobody_is_silent_before_the_grace_is_over() -> None:
    memory = replace(fleet(10), started_at=NOW)
    memory = fold(memory, [heard(f"n{n}", report(2), at=NOW + GRACE_S) for n in range(1, 10)])
    assert state(memory, "n0", NOW + GRACE_S - 1) is NodeState.UNKNOWN
    assert state(memory, "n0", NOW + GRACE_S) is NodeState.SILENT


def test_known_from_before_and_never_heard() -> None:
    memory = fleet(4)
    nodes = {**memory.nodes, "old": memory.nodes["n0"]._replace(heard_at=None, report=None)}
    memory = replace(memory, nodes=nodes, started_at=NOW - 100, resumed_at=NOW - 100)
    assert state(memory, "old") is NodeState.UNKNOWN
    memory = replace(memory, started_at=NOW - GRACE_S, resumed_at=NOW - GRACE_S)
    assert state(memory, "old") is NodeState.SILENT


@pytest.mark.parametrize(("gone", "expected"), [(5, NodeState.SILENT), (6, NodeState.UNKNOWN)])
def test_most_of_the_fleet_silent_is_my_own_sight(gone: int, expected: NodeState) -> None:
    later = NOW + 100
    memory = fold(fleet(10), [heard(f"n{n}", report(2), at=later) for n in range(gone, 10)])
    assert state(memory, "n0", later) is expected
    assert states.in_doubt(SIGHT, memory, later) is (expected is NodeState.UNKNOWN)


def test_two_nodes_are_too_few_to_doubt_oneself() -> None:
    assert not states.in_doubt(SIGHT, fleet(2), NOW + 1000)


def test_a_stopped_aggregator_blames_nobody() -> None:
    later = NOW + 500
    memory = states.resumed(replace(fleet(10), decided_at=NOW), later)
    assert state(memory, "n0", later + 30) is NodeState.HEALTHY
    memory = replace(memory, decided_at=later + 30)
    memory = fold(memory, [heard(f"n{n}", report(2), at=later + 60) for n in range(1, 10)])
    assert state(memory, "n0", later + 61) is NodeState.SILENT


@pytest.mark.parametrize(("count", "is_mass"), [(2, False), (3, True)])
def test_many_sick_at_once_is_a_mass_fault(count: int, is_mass: bool) -> None:
    memory = fold(fleet(10), [heard(f"n{n}", sick(2)) for n in range(count)])
    memory = states.since_sick(memory, states.judge(SIGHT, memory, NOW), NOW)
    look = states.looks(SIGHT, memory, states.judge(SIGHT, memory, NOW), NOW)["default"]
    assert (len(look.fresh) >= look.threshold) is is_mass
    late = NOW + SIGHT.sick_window_s + 1
    assert not states.looks(SIGHT, memory, states.judge(SIGHT, memory, late), late)["default"].fresh


def test_one_that_recovers_is_sick_no_more_and_silence_is_no_recovery() -> None:
    memory = fold(fleet(3), [heard("n0", sick(2)), heard("n1", sick(2))])
    memory = states.since_sick(memory, states.judge(SIGHT, memory, NOW), NOW)
    memory = fold(memory, [heard("n0", report(3), at=NOW + 1)])
    later = NOW + 1
    memory = states.since_sick(memory, states.judge(SIGHT, memory, later), later)
    assert [memory.nodes[n].sick_since for n in ("n0", "n1")] == [None, NOW]
    gone = NOW + 90
    memory = states.since_sick(memory, states.judge(SIGHT, memory, gone), gone)
    assert memory.nodes["n1"].sick_since == NOW
