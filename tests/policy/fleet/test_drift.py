"""Who does not have the policy he should have, and what the fleet is told of that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.config_aggregator import PolicyConfig
from gpuwarden.model.policy import (
    Drift,
    PolicyHead,
    PolicyRefusal,
    PolicyReport,
    PolicyStanding,
    Rollout,
    RolloutState,
    Stage,
)
from gpuwarden.policy.fleet import drift

CFG = PolicyConfig()
WALL = 1_700_000_000.0
DAY_S = 86_400.0
HEAD = PolicyHead(version=2, fleet="f", issued_wall=WALL, not_after_wall=WALL + 30 * DAY_S)
DONE = Rollout(
    version=2,
    stages=(Stage(),),
    released=1,
    released_wall=WALL,
    soak_s=0.0,
    state=RolloutState.DONE,
)
NOW = 5000.0


def node(name: str, is_connected: bool = True, **report: object) -> PolicyStanding:
    told = PolicyReport(**{"version": 2, **report})  # type: ignore[arg-type]
    return PolicyStanding(node=name, group="g", is_connected=is_connected, report=told)


def refusal(version: int) -> tuple[PolicyRefusal, ...]:
    return (PolicyRefusal(version=version, why="why not", wall=WALL),)


def found(*nodes: PolicyStanding) -> list[Drift]:
    return drift.drifts({2: HEAD}, {2: DONE}, nodes, WALL, {2: "d" * 64})


@pytest.mark.parametrize(
    ("report", "state", "why"),
    [
        ({"version": 1}, "behind", "it is on its way"),
        ({"version": 1, "is_connected": False}, "behind", "the node is not heard"),
        ({"version": 1, "refusals": refusal(2)}, "refused", "why not"),
        ({"version": 1, "refusals": refusal(0)}, "refused", "why not"),
        ({"version": 1, "refusals": refusal(1)}, "behind", "it is on its way"),
        ({"is_expired": True}, "expired", "its policy has run out: it only observes"),
        ({"version": 3}, "ahead", "3 is not known here, or was not meant for it"),
    ],
)
def test_each_state(report: dict[str, object], state: str, why: str) -> None:
    (one,) = found(node("n1", **report))  # type: ignore[arg-type]
    assert (one.state, one.why, one.wanted) == (state, why, 2)


def test_who_has_what_he_should_does_not_drift() -> None:
    assert found(node("n1"), node("n2", refusals=refusal(2))) == []
    assert drift.drifts({}, {}, [node("n1", version=0)], WALL, {}) == []


def keys(*nodes: PolicyStanding, since: float = NOW, **more: object) -> list[str]:
    values: dict[str, object] = {"heads": {2: HEAD}, "rollouts": {2: DONE}, "wall": WALL, **more}
    drifted = found(*nodes)
    told = drift.claims(
        CFG,
        values["heads"],  # type: ignore[arg-type]
        values["rollouts"],  # type: ignore[arg-type]
        drifted,
        {each.node: since for each in drifted},
        len(nodes),
        NOW,
        values["wall"],  # type: ignore[arg-type]
    )
    return [claim.key for claim in told]


def test_case_32_drift_is_a_claim_once_it_is_long_and_not_of_few() -> None:
    behind = node("n0", version=1)
    assert keys(behind, since=NOW - CFG.drift_s + 1) == []
    assert keys(behind, since=NOW - CFG.drift_s) == ["policy drift"]
    many = [node(f"n{n}") for n in range(1, 100)]
    assert keys(behind, *many, since=0.0) == []  # one of a hundred is one percent, not more
    assert keys(behind, node("m", version=1), *many, since=0.0) == ["policy drift"]


def test_what_has_run_out_is_told_at_once() -> None:
    assert keys(node("n1", is_expired=True)) == ["policy expired"]


def test_a_halt_is_told() -> None:
    halted = replace(DONE, state=RolloutState.HALTED, why="worse")
    assert keys(node("n1"), rollouts={2: halted}) == ["policy halted"]


def test_the_end_is_told_before_it_comes_and_only_of_what_nothing_takes_the_place_of() -> None:
    end = HEAD.not_after_wall
    assert keys(node("n1"), wall=end - CFG.warn_s) == []
    assert keys(node("n1"), wall=end - CFG.warn_s + 1) == ["policy ends"]
    assert keys(node("n1"), wall=end + 1) == ["policy ends"]
    later = replace(HEAD, version=3, not_after_wall=end + 100 * DAY_S)
    assert keys(node("n1"), wall=end + 1, heads={2: HEAD, 3: later}) == []
    other = replace(later, groups=("batch",))
    assert keys(node("n1"), wall=end + 1, heads={2: HEAD, 3: other}) == ["policy ends"]


def test_what_is_in_force_for_some_groups() -> None:
    assert drift.in_force({2: HEAD}, {2: DONE}, (), [node("n1")], WALL) == 2
    assert drift.in_force({2: HEAD}, {2: DONE}, ("other",), [node("n1")], WALL) == 0


@pytest.mark.parametrize(
    ("digest", "is_foreign"), [("d" * 64, False), ("", False), ("e" * 64, True)]
)
def test_case_32_another_policy_under_a_published_number_is_drift(
    digest: str, is_foreign: bool
) -> None:
    drifted = found(node("n1", digest=digest), node("n2", digest="d" * 64))
    assert [(each.node, each.state) for each in drifted] == [("n1", "foreign")] * is_foreign
    said = drift.claims(CFG, {2: HEAD}, {2: DONE}, drifted, {}, 2, NOW, WALL)
    assert [claim.key for claim in said] == ["policy foreign"] * is_foreign


def test_it_is_seen_on_a_node_that_lags_too() -> None:
    old = replace(HEAD, version=1)
    (one,) = drift.drifts(
        {1: old, 2: HEAD}, {2: DONE}, [node("n1", version=1, digest="e" * 64)], WALL, {1: "d" * 64}
    )
    assert one.state == "foreign"
    assert "eeeeeeeeeeee" in one.why
