"""Leave for harm: budgets at their edges, and never more than they allow whatever is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.config_aggregator import AggregatorConfig, Budget, PermitConfig
from gpuwarden.model.fleet import Permit
from gpuwarden.policy.fleet.decide import FleetDecision, decide
from gpuwarden.policy.fleet.fold import FleetMemory, fold
from gpuwarden.policy.fleet.freeze import thawed
from gpuwarden.policy.fleet.permits import allowance, budget_of, purse
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


def asked(memory: FleetMemory, cfg: AggregatorConfig = CFG, now: float = NOW) -> FleetDecision:
    return decide(cfg, memory, now, WALL, 7)


def budgets(decision: FleetDecision) -> list[str]:
    return [denial.budget for denial in decision.denied]


def test_one_cordon_is_given_with_all_that_binds_it() -> None:
    decision = asked(fold(fleet(20), [heard("n3", report(2), ask("x"))]))
    (given_,) = decision.granted
    assert (given_.node, given_.boot_id, given_.ask, given_.epoch) == ("n3", "boot-1", "x", 7)
    assert given_.expires_at == NOW + CFG.permit.ttl_s
    assert decision.memory.ledger == (given_,)


def asked_again(memory: FleetMemory, node: str, name: str, at: float) -> FleetMemory:
    return fold(memory, [heard(node, report(int(at)), ask(name), at=at)])


def test_what_a_node_asked_for_long_ago_and_not_again_is_not_wanted() -> None:
    memory = fold(fleet(20), [heard("n3", report(2), ask("x"))])
    assert len(asked(memory, now=NOW + 15).granted) == 1
    assert asked(memory, now=NOW + 16).granted == ()


def test_a_message_that_does_not_speak_of_wishes_takes_none_back() -> None:
    wanted = heard("n3", report(2), ask("x"))
    silent = heard("n3", report(3))._replace(asks=None)
    assert len(asked(fold(fleet(20), [wanted, silent])).granted) == 1


def test_the_same_wish_gets_the_same_permit_while_it_holds() -> None:
    first = asked(fold(fleet(20), [heard("n3", report(2), ask("x"))]))
    again = asked(asked_again(first.memory, "n3", "x", NOW + 30), now=NOW + 30)
    assert (again.granted, again.held) == ((), first.granted)
    late = asked(asked_again(first.memory, "n3", "x", NOW + 61), now=NOW + 61)
    assert len(late.granted) == 1
    assert late.granted[0].id != first.granted[0].id


def test_a_window_lets_so_many_nodes_and_then_again() -> None:
    cfg = AggregatorConfig(permit=PermitConfig(standing_ratio=1.0))
    arrivals = [heard(f"n{n}", report(2), ask(f"x{n}")) for n in range(4)]
    decision = asked(fold(fleet(40), arrivals), cfg)
    assert len(decision.granted) == 2  # 5 % of 40
    assert budgets(decision) == ["window", "window"]
    over = NOW + cfg.permit.cordon.window_s + 1
    memory = fold(decision.memory, [heard(f"n{n}", report(3), at=over) for n in range(4, 40)])
    for number in range(4):
        memory = asked_again(memory, f"n{number}", f"x{number}", over)
    assert len(asked(memory, cfg, over).granted) == 2


def test_a_node_that_was_hit_in_the_window_may_be_hit_again() -> None:
    memory = replace(fleet(20), ledger=(permit("n1", granted_at=NOW - 100),))
    decision = asked(fold(memory, [heard("n1", report(2), ask("another"))]))
    assert len(decision.granted) == 1


def test_an_absolute_cap_holds_in_a_large_group() -> None:
    cfg = AggregatorConfig(
        permit=PermitConfig(cordon=Budget(ratio=0.5, most=1, window_s=60), standing_ratio=1.0)
    )
    arrivals = [heard(f"n{n}", report(2), ask(f"x{n}")) for n in range(3)]
    assert len(asked(fold(fleet(40), arrivals), cfg).granted) == 1


def test_out_of_use_at_once_is_bounded_by_state_too() -> None:
    out = [heard(f"n{n}", report(2, is_cordoned=True)) for n in range(4)]
    memory = fold(fleet(40), [*out, heard("n9", report(2), ask())])
    assert budgets(asked(memory)) == ["standing"]
    memory = fold(fleet(40), [*out[:3], heard("n9", report(2), ask())])
    assert budgets(asked(memory)) == []


def test_repairs_do_not_count_as_out_of_use() -> None:
    out = [heard(f"n{n}", report(2, is_cordoned=True)) for n in range(4)]
    memory = fold(fleet(40), [*out, heard("n9", report(2), ask(kind="reset-gpu"))])
    assert budgets(asked(memory)) == []


@pytest.mark.parametrize(("age_s", "expected"), [(600.0, []), (600.1, ["stale"])])
def test_old_faults_are_not_replayed(age_s: float, expected: list[str]) -> None:
    decision = asked(fold(fleet(20), [heard("n1", report(2), ask(age_s=age_s))]))
    assert budgets(decision) == expected


def test_a_mass_fault_freezes_its_group_and_no_other() -> None:
    memory = fold(
        fleet(10),
        [
            *(heard(f"n{n}", sick(2), ask(f"x{n}")) for n in range(4)),
            *(joined(f"m{n}", group="other") for n in range(10)),
            heard("m0", report(2), ask("y")),
        ],
    )
    decision = asked(memory)
    assert [p.node for p in decision.granted] == ["m0"]
    assert set(budgets(decision)) == {"frozen"}
    assert [c.key for c in decision.claims] == ["mass default"]
    assert "4 of 10" in decision.frozen


def test_when_most_are_not_heard_nobody_gets_leave() -> None:
    later = NOW + 100
    memory = fold(
        fleet(10),
        [heard(f"n{n}", report(2), *((ask(),) if n == 9 else ()), at=later) for n in range(7, 10)],
    )
    decision = decide(CFG, replace(memory, decided_at=later), later, WALL, 1)
    assert budgets(decision) == ["frozen"]
    assert decision.claims[0].key == "sight"


def test_one_of_a_rack_at_a_time() -> None:
    memory = fleet(100)
    memory = fold(memory, [joined(f"r{n}", rack="r1") for n in range(2)])
    memory = replace(memory, ledger=(permit("r0", expires_at=NOW + 10),))
    asking = fold(memory, [heard("r1", report(2), ask())])
    assert budgets(asked(asking)) == ["domain"]
    assert budgets(asked(asking, now=NOW + 11)) == []


def test_resets_of_a_node_are_counted_by_wish() -> None:
    ledger = tuple(
        permit("n1", kind="reset-gpu", ask=name, granted_at=NOW - 3600 * age)
        for name, age in (("one", 3), ("one", 2), ("two", 1))
    )
    memory = replace(fleet(20), ledger=ledger)
    again = fold(memory, [heard("n1", report(2), ask("two", kind="reset-gpu"))])
    assert budgets(asked(again)) == []
    third = fold(memory, [heard("n1", report(2), ask("three", kind="reset-gpu"))])
    assert budgets(asked(third)) == ["per-node"]
    assert budgets(asked(third, now=NOW + 86_400)) == []


def test_a_permit_of_another_boot_is_another_permit() -> None:
    first = asked(fold(fleet(20), [heard("n3", report(2), ask("x"))]))
    memory = fold(
        first.memory,
        [joined("n3", stream=2, boot_id="boot-2"), heard("n3", report(1), ask("x"), stream=2)],
    )
    (fresh,) = asked(memory).granted
    assert fresh.boot_id == "boot-2"


def test_without_the_brake_everybody_gets_leave() -> None:
    cfg = AggregatorConfig(permit=PermitConfig(required=False))
    memory = fold(fleet(4), [heard(f"n{n}", sick(2), ask(f"x{n}")) for n in range(4)])
    assert len(asked(memory, cfg).granted) == 4


@pytest.mark.parametrize(
    ("ratio", "size", "most", "expected"),
    [(0.05, 1, 50, 1), (0.05, 39, 50, 1), (0.05, 40, 50, 2), (0.5, 40, 3, 3), (0.05, 40, 0, 0)],
)
def test_an_allowance_is_a_share_and_at_least_one(
    ratio: float, size: int, most: int, expected: int
) -> None:
    assert allowance(ratio, size, most) == expected


def test_budgets_of_one_size_are_still_two() -> None:
    same = Budget(ratio=0.05, most=1, window_s=3600)
    cfg = AggregatorConfig(permit=PermitConfig(cordon=same, repair=same, standing_ratio=1.0))
    arrivals = [
        heard("n0", report(2), ask("x")),
        heard("n1", report(2), ask("y", kind="reset-gpu")),
        heard("n2", report(2), ask("z", kind="reload-driver")),
    ]
    decision = asked(fold(fleet(20), arrivals), cfg)
    assert [(p.node, p.kind) for p in decision.granted] == [("n0", "cordon"), ("n1", "reset-gpu")]


KINDS = ("cordon", "reset-gpu", "reboot")


@given(
    st.lists(
        st.tuples(st.integers(0, 29), st.sampled_from(KINDS), st.integers(0, 400)), max_size=60
    )
)
@settings(max_examples=40, deadline=None)
def test_never_more_nodes_in_a_window_than_the_budget(
    wishes: list[tuple[int, str, int]],
) -> None:
    """Whoever asks for what and when: every grant is judged again against every window it lies in."""
    granted: list[Permit] = []
    memory = fleet(30)
    now = NOW
    for number, (node, kind, pause_s) in enumerate(wishes):
        now += pause_s / 10
        told = heard(f"n{node}", report(number + 2), ask(f"w{number}", kind=kind), at=now)
        others = [heard(f"n{n}", report(number + 2), at=now) for n in range(30) if n != node]
        memory = replace(fold(memory, [told, *others]), decided_at=now)
        decision = decide(CFG, memory, now, WALL, 1)
        memory, granted = decision.memory, [*granted, *decision.granted]
    for each in granted:
        _judge(granted, each)


def _judge(granted: list[Permit], last: Permit) -> None:
    budget = budget_of(CFG.permit, last.kind)
    nodes = {
        p.node
        for p in granted
        if purse(p.kind) == purse(last.kind)
        and 0 <= last.granted_at - p.granted_at <= budget.window_s
    }
    assert len(nodes) <= allowance(budget.ratio, 30, budget.most)


def test_case_29_a_thousand_nodes_report_the_same_fault_within_a_minute() -> None:
    """Mass false positive: few act before it shows that it is one, one claim says so, and it passes."""
    memory, granted = fleet(1000), 0
    for second in range(60):
        now = NOW + second
        told = [
            heard(f"n{n}", sick(second + 2), ask(f"x{n}", age_s=float(second)), at=now)
            for n in range(second * 17, min(1000, (second + 1) * 17))
        ]
        decision = decide(CFG, replace(fold(memory, told), decided_at=now), now, WALL, 1)
        memory, granted = decision.memory, granted + len(decision.granted)
    assert granted <= allowance(CFG.permit.cordon.ratio, 1000, CFG.permit.cordon.most)
    assert [claim.key for claim in decision.claims] == ["mass default"]
    assert "of 1000 nodes" in decision.claims[0].summary
    assert {denial.budget for denial in decision.denied} == {"frozen"}


def test_case_30_a_brake_that_is_let_go_replays_no_old_fault() -> None:
    later = NOW + CFG.sight.sick_window_s + CFG.permit.stale_s
    old = [heard(f"n{n}", sick(2), ask(f"x{n}", age_s=later - NOW), at=later) for n in range(4)]
    memory = fold(fleet(10), [heard(f"n{n}", sick(2), ask(f"x{n}")) for n in range(4)])
    memory = decide(CFG, memory, NOW, WALL, 1).memory
    rest = [heard(f"n{n}", report(3), at=later) for n in range(4, 10)]
    memory = replace(fold(memory, [*old, *rest]), decided_at=later)
    thaw = thawed(memory.freezes["default"], later, 60.0, "ann", "looked")
    decision = decide(CFG, replace(memory, thaws={"default": thaw}), later, WALL, 1)
    assert decision.frozen == ""
    assert set(budgets(decision)) == {"stale"}
