"""Who does not belong on the nodes of a group: told of, and turned away only where it has just started."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.decision import Decision
from gpuwarden.model.memory import Rung
from gpuwarden.model.snapshot import Guest
from gpuwarden.model.tenant import Tenant, TenantClass
from gpuwarden.policy.decide import decide
from gpuwarden.policy.placement import NEW_S
from tests.policy.builders import NOW, WALL, config, gpu, memory, snap, tenant, use

CORE = {"realtime": {"admit": ["protected", "high"], "refuse": True}}
SINCE = WALL + NOW


def on_a_node(
    *who: Tenant,
    guests: tuple[Guest, ...] = (),
    mode: str = "enforce",
    group: str = "realtime",
    mem: Any = None,
    **rules: Any,
) -> Decision:
    placement = {"realtime": {**CORE["realtime"], **rules.pop("placement", {})}}
    cfg = config(mode, placement=placement, fleet={"group": group}, **rules)
    uses = tuple(use(each, 500) for each in who)
    look = snap(gpus=(gpu(0), gpu(1)), tenants=who, uses=uses, guests=guests)
    return decide(cfg, mem or memory(), look)


def newcomer(ago_s: float = 2.0, *devices: str, **rest: Any) -> Guest:
    who = tenant(**{"name": "train", "cls": TenantClass.LOW, "started_wall": SINCE - ago_s, **rest})
    return Guest(tenant=who, devices=devices or ("1",))


def found(told: Decision) -> list[str]:
    return [f.summary for f in told.findings if f.rule == "placement"]


def stopped(told: Decision) -> list[str]:
    return [a.target.name for a in told.actions if a.kind is Kind.STOP and a.target is not None]


def test_who_runs_and_does_not_belong_is_told_and_stays() -> None:
    told = on_a_node(
        tenant("train", cls=TenantClass.LOW), tenant("risk", cls=TenantClass.PROTECTED)
    )
    assert found(told) == [
        "train (low) is on a node of group realtime, which admits protected, high"
    ]
    assert told.actions == ()


def test_who_has_just_started_is_turned_away() -> None:
    told = on_a_node(guests=(newcomer(),))
    assert stopped(told) == ["train"]
    assert "of group realtime, which admits" in told.actions[0].why
    assert told.memory.cases[newcomer().tenant.id].rung is Rung.STOPPED


@pytest.mark.parametrize(
    ("who", "why"),
    [
        (newcomer(NEW_S + 0.1), "it got through while nobody looked"),
        (newcomer(-5.0), "a start to come is none"),
        (newcomer(started_wall=None), "its start is not known"),
        (newcomer(is_described=False), "nobody knows yet what it is"),
        (newcomer(is_never_victim=True), "the operator said never"),
        (newcomer(cls=TenantClass.HIGH), "it belongs"),
    ],
)
def test_who_stays(who: Guest, why: str) -> None:
    assert stopped(on_a_node(guests=(who,))) == [], why


def test_a_container_that_uses_its_gpu_already_is_told_once() -> None:
    who = newcomer().tenant
    told = on_a_node(who, guests=(Guest(tenant=who, devices=("0",)),))
    assert len(found(told)) == 1
    assert stopped(told) == ["train"]


def test_other_groups_and_silent_operators_refuse_nobody() -> None:
    assert found(on_a_node(guests=(newcomer(),), group="batch")) == []
    told = on_a_node(guests=(newcomer(),), placement={"refuse": False})
    assert (len(found(told)), stopped(told)) == (1, [])
    off = on_a_node(guests=(newcomer(),), rules={"placement": {"mode": "off"}})
    assert found(off) == []


@pytest.mark.parametrize(
    ("more", "budget"),
    [({"mode": "observe"}, "observe"), ({"rules": {"placement": {"mode": "observe"}}}, "observe")],
)
def test_what_is_withheld_is_said_once(more: dict[str, Any], budget: str) -> None:
    told = on_a_node(guests=(newcomer(),), **more)
    assert stopped(told) == []
    assert [(w.kind, w.budget) for w in told.withheld] == [(Kind.STOP, budget)]
    assert on_a_node(guests=(newcomer(),), mem=told.memory, **more).withheld == ()
