"""A policy's way through the fleet: who has it, when it goes on, and what halts it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.config_aggregator import PolicyConfig
from gpuwarden.model.policy import (
    PolicyHead,
    PolicyRefusal,
    PolicyReport,
    PolicyStanding,
    Rollout,
    RolloutState,
    Stage,
)
from gpuwarden.policy.fleet import rollout

CFG = PolicyConfig()
WALL = 1_700_000_000.0
SOAK_S = 600.0
HEAD = PolicyHead(version=2, fleet="f", issued_wall=WALL, not_after_wall=WALL + 1e6)
FIRST = (Stage(groups=("first",)), Stage())


def node(name: str, version: int = 1, group: str = "first", **more: object) -> PolicyStanding:
    values: dict[str, object] = {"is_connected": True, "findings": 1, "withheld": 0, **more}
    report = more.pop("report", PolicyReport(version=version))
    return PolicyStanding(node=name, group=group, **{**values, "report": report})  # type: ignore[arg-type]


def fleet(count: int = 10, version: int = 1, **more: object) -> list[PolicyStanding]:
    return [node(f"n{number}", version, **more) for number in range(count)]  # type: ignore[arg-type]


def begun(nodes: list[PolicyStanding], stages: tuple[Stage, ...] = FIRST) -> Rollout:
    return rollout.begun(HEAD, stages, SOAK_S, nodes, WALL)


def stepped(now: Rollout, nodes: list[PolicyStanding], after_s: float) -> Rollout:
    return rollout.step(CFG, HEAD, now, nodes, WALL + after_s)


def test_the_first_stage_is_released_at_once_and_the_rest_is_not() -> None:
    now = begun(fleet())
    assert rollout.has(now, "n1", "first")
    assert not rollout.has(now, "n1", "second")
    assert {each.node for each in now.before} == {f"n{n}" for n in range(10)}


def test_a_stage_waits_until_everybody_has_it_and_then_its_time() -> None:
    now = begun(fleet())
    half = [*fleet(5, 2), *fleet(10)[5:]]
    now = stepped(now, half, 10)
    assert now.settled_wall is None
    now = stepped(now, fleet(version=2), 20)
    assert (now.settled_wall, now.released) == (WALL + 20, 1)
    assert stepped(now, fleet(version=2), 20 + SOAK_S - 1).released == 1
    after = stepped(now, fleet(version=2), 20 + SOAK_S)
    assert (after.released, after.released_wall) == (2, WALL + 20 + SOAK_S)
    assert rollout.has(after, "n1", "second")


def test_the_last_stage_ends_it() -> None:
    now = replace(begun(fleet()), released=2)
    now = stepped(now, fleet(version=2), 1)
    now = stepped(now, fleet(version=2), 1 + SOAK_S)
    assert now.state is RolloutState.DONE
    assert stepped(now, fleet(version=1, findings=100), 1e5) == now


def test_a_node_that_comes_late_starts_the_time_anew() -> None:
    now = stepped(begun(fleet()), fleet(version=2), 1)
    now = stepped(now, [*fleet(version=2), node("late")], 100)
    assert now.settled_wall is None


def test_who_is_not_heard_is_not_waited_for() -> None:
    nodes = [*fleet(version=2), node("away", is_connected=False)]
    assert stepped(begun(nodes), nodes, 1).settled_wall == WALL + 1


def test_what_is_not_applied_in_time_halts_it() -> None:
    now = begun(fleet())
    assert stepped(now, fleet(), CFG.apply_s - 1).state is RolloutState.RUNNING
    late = stepped(now, fleet(), CFG.apply_s)
    assert late.state is RolloutState.HALTED
    assert "10 nodes" in late.why


def refusing(name: str, version: int = 2) -> PolicyStanding:
    refusal = PolicyRefusal(version=version, why="not valid here", wall=WALL)
    return node(name, report=PolicyReport(version=1, refusals=(refusal,)))


def test_one_that_refuses_it_halts_it() -> None:
    nodes = [*fleet(9, 2), refusing("n9")]
    now = stepped(begun(nodes), nodes, 1)
    assert now.why == "1 of 10 nodes refuse it: n9: not valid here"
    older = [*fleet(9, 2), refusing("n9", version=1)]
    assert stepped(begun(older), older, 1).state is RolloutState.RUNNING


@pytest.mark.parametrize("what", ["findings", "withheld"])
def test_more_than_before_halts_it_and_exactly_as_many_as_allowed_do_not(what: str) -> None:
    now = begun(fleet(20, findings=1, withheld=1))
    allowed = max(CFG.more_min, CFG.more_ratio * 20)
    others = fleet(20, 2, findings=1, withheld=1)[1:]
    one = node("n0", 2, findings=1, withheld=1)
    first = replace(one, **{what: 1 + int(allowed)})  # type: ignore[arg-type]
    assert stepped(now, [first, *others], 1).state is RolloutState.RUNNING
    worse = replace(first, **{what: 2 + int(allowed)})  # type: ignore[arg-type]
    halted = stepped(now, [worse, *others], 1)
    assert halted.state is RolloutState.HALTED
    assert "before" in halted.why


def test_on_a_large_fleet_the_share_counts() -> None:
    now = begun(fleet(100, findings=0))
    ten = [*fleet(10, 2, findings=1), *fleet(100, 2, findings=0)[10:]]
    assert stepped(now, ten, 1).state is RolloutState.RUNNING
    eleven = [*fleet(11, 2, findings=1), *fleet(100, 2, findings=0)[11:]]
    assert stepped(now, eleven, 1).state is RolloutState.HALTED


def test_what_others_report_is_not_blamed_on_it() -> None:
    now = begun([*fleet(), *fleet(0), node("other", group="second")])
    nodes = [*fleet(version=2), node("other", group="second", findings=1000)]
    assert stepped(now, nodes, 1).state is RolloutState.RUNNING


def test_a_node_that_was_not_there_before_is_not_compared() -> None:
    nodes = [*fleet(version=2), node("new", 2, findings=1000)]
    assert stepped(begun(fleet()), nodes, 1).state is RolloutState.RUNNING


def test_nodes_that_go_silent_or_blind_halt_it() -> None:
    now = begun(fleet())
    one = [node("n0", is_lost=True, is_connected=False), *fleet(version=2)[1:]]
    assert stepped(now, one, 1).state is RolloutState.RUNNING
    two = [
        *(node(f"n{n}", is_lost=True, is_connected=False) for n in range(2)),
        *fleet(version=2)[2:],
    ]
    assert "2 nodes went silent or blind: n0, n1" in stepped(now, two, 1).why


def test_one_that_was_lost_before_is_not_blamed_on_it() -> None:
    nodes = [node("n0", 2, is_lost=True), node("n1", 2, is_lost=True), *fleet(10, 2)[2:]]
    assert stepped(begun(nodes), nodes, 1).state is RolloutState.RUNNING


def test_halted_stays_until_it_is_resumed_and_then_measures_anew() -> None:
    now = begun(fleet())
    worse = fleet(version=2, findings=5)
    halted = stepped(now, worse, 1)
    assert stepped(halted, fleet(version=2), 1e5) == halted
    resumed = rollout.resumed(HEAD, halted, worse, WALL + 50)
    assert (resumed.state, resumed.why) == (RolloutState.RUNNING, "")
    assert stepped(resumed, worse, 51).state is RolloutState.RUNNING


def test_who_had_refused_it_is_given_its_time_once_more_when_it_is_resumed() -> None:
    nodes = [*fleet(9, 2), refusing("n9")]
    halted = stepped(begun(nodes[:9]), nodes, 1)
    assert halted.state is RolloutState.HALTED
    resumed = rollout.resumed(HEAD, halted, nodes, WALL + 50)
    assert stepped(resumed, nodes, 51).state is RolloutState.RUNNING
    assert stepped(resumed, [*nodes[:8], refusing("n8"), nodes[9]], 51).why.startswith("1 of 10")
    assert "n9 did not apply it" in stepped(resumed, nodes, 50 + CFG.apply_s).why


def test_what_was_noted_first_of_a_node_stands() -> None:
    stages = (Stage(groups=("first",)), Stage(groups=("second",)), Stage())
    both = [*fleet(5), *(node(f"m{n}", group="second") for n in range(5))]
    now = replace(begun(both, stages), soak_s=0.0)
    has_it = [replace(n, report=PolicyReport(version=2)) for n in both]
    slightly = [replace(n, findings=2) for n in has_it[: CFG.more_min]] + has_it[CFG.more_min :]
    now = stepped(now, slightly, 1)
    assert now.released == 2
    assert {b.node: b.findings for b in now.before} == {each.node: 1 for each in both}
    more = [replace(n, findings=2) for n in has_it[: CFG.more_min + 1]] + has_it[CFG.more_min + 1 :]
    assert stepped(now, more, 2).state is RolloutState.HALTED


def test_a_share_is_that_share_and_grows_without_changing_who() -> None:
    names = [f"node-{number}" for number in range(2000)]
    five = {n for n in names if rollout.place(2, n) < 5}
    twenty = {n for n in names if rollout.place(2, n) < 20}
    assert five < twenty
    assert 0.03 < len(five) / 2000 < 0.07
    assert {n for n in names if rollout.place(3, n) < 5} != five


def test_another_policy_ends_one_that_runs_and_one_that_is_halted() -> None:
    now = begun(fleet())
    for each in (now, rollout.halted(now, "x")):
        assert rollout.superseded(each, 3).state is RolloutState.SUPERSEDED
    done = replace(now, state=RolloutState.DONE)
    assert rollout.superseded(done, 3) == done


def wanted(group: str, wall: float = WALL, name: str = "n1") -> int:
    heads = {
        1: replace(HEAD, version=1),
        5: replace(HEAD, version=5, groups=("real*",)),
        6: replace(HEAD, version=6, groups=("batch",), not_after_wall=WALL + 10),
        7: replace(HEAD, version=7),
    }
    rollouts = {
        **{v: begun([], (Stage(),)) for v in (1, 5, 6)},
        7: begun([], (Stage(groups=("test",)), Stage())),
    }
    rollouts = {v: replace(each, version=v) for v, each in rollouts.items()}
    return rollout.wanted(rollout.newest_first(heads), rollouts, name, group, wall)


def test_a_node_should_have_the_newest_that_is_for_it_and_released_to_it() -> None:
    assert [wanted(group) for group in ("other", "realtime", "batch", "test")] == [1, 5, 6, 7]
    assert wanted("batch", WALL + 10) == 1
    assert rollout.wanted({}, {}, "n1", "x", WALL) == 0
