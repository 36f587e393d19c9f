"""Who is turned away from a cordoned device: the newcomers that were given it, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.decision import Decision
from gpuwarden.model.device import Sight
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.memory import Rung
from gpuwarden.model.snapshot import Guest
from gpuwarden.model.tenant import Standing, TenantClass
from gpuwarden.policy.arrival import is_given
from gpuwarden.policy.cordon import NODE_ITSELF
from gpuwarden.policy.decide import decide
from tests.policy.builders import (
    NOW,
    WALL,
    case,
    config,
    device_id,
    device_memory,
    gpu,
    memory,
    snap,
    tenant,
)

CORDONED_WALL = WALL + NOW - 60


def cordoned(place: Any = None) -> Any:
    state = device_memory(
        cordoned_by=IncidentId("inc-7"),
        cordoned_wall=CORDONED_WALL,
        is_cordon_told=True,
        held_by="ada",
    )
    return {device_id(0) if place is None else place: state}


def guest(*devices: str, started: float | None = 30.0, **rest: Any) -> Guest:
    """Started so many seconds after the cordon began."""
    wall = None if started is None else CORDONED_WALL + started
    who = tenant(**{"name": "train", "started_wall": wall, **rest})
    return Guest(tenant=who, devices=devices or ("0",))


def seen(*guests: Guest, mode: str = "enforce", mem: Any = None, **more: Any) -> Decision:
    cfg = config(mode, **more.pop("settings", {}))
    gpus = more.pop("gpus", (gpu(0), gpu(1)))
    return decide(cfg, mem or memory(devices=cordoned()), snap(gpus=gpus, guests=guests, **more))


def stopped(told: Decision) -> list[str]:
    return [a.target.name for a in told.actions if a.kind is Kind.STOP and a.target is not None]


def test_a_newcomer_is_stopped_with_the_reason_on_record() -> None:
    told = seen(guest())
    assert stopped(told) == ["train"]
    assert "has started on GPU 0, which is cordoned (inc-7)" in told.actions[0].why
    assert told.memory.cases[guest().tenant.id].rung is Rung.STOPPED


@pytest.mark.parametrize(
    ("who", "why"),
    [
        (guest(started=-30.0), "it was there before"),
        (guest(started=0.5), "two clocks cannot tell"),
        (guest(started=None), "its start is not known"),
        (guest("1"), "another device"),
        (guest("nvidia.com/gpu=1"), "another device"),
        (guest(is_described=False), "nobody knows yet who it is"),
    ],
)
def test_who_stays(who: Guest, why: str) -> None:
    assert stopped(seen(who)) == [], why


def test_a_cordoned_node_takes_nobody() -> None:
    mem = memory(devices=cordoned(NODE_ITSELF))
    assert stopped(seen(guest("1"), mem=mem)) == ["train"]


def test_the_operator_may_turn_it_off() -> None:
    assert stopped(seen(guest(), settings={"cordon": {"refuse_containers": False}})) == []
    assert stopped(seen(guest(), settings={"rules": {"arrival": {"mode": "off"}}})) == []


@pytest.mark.parametrize(
    ("who", "mode", "budget"),
    [
        (guest(), "observe", "observe"),
        (guest(cls=TenantClass.PROTECTED), "enforce", "protected"),
        (guest(cannot_act="no docker here"), "enforce", "cannot-act"),
    ],
)
def test_what_is_withheld_is_said_once(who: Guest, mode: str, budget: str) -> None:
    told = seen(who, mode=mode)
    assert stopped(told) == []
    assert [(w.kind, w.budget) for w in told.withheld] == [(Kind.STOP, budget)]
    again = seen(who, mode=mode, mem=told.memory)
    assert again.withheld == ()


def test_it_is_over_when_nothing_of_it_lives_though_the_device_cannot_be_seen() -> None:
    who = guest().tenant
    stop = case(who, Rung.STOPPED, reason="arrival", held=())
    mem = memory(
        devices=cordoned(),
        cases={who.id: stop},
        open_incidents={f"tenant/{who.id}": stop.incident},
    )
    gone = Standing(tenant=who.id, identity_holds=True, is_populated=False)
    told = seen(mem=mem, gpus=(gpu(0, sight=Sight.BLIND),), standings=(gone,))
    assert who.id not in told.memory.cases


@pytest.mark.parametrize(
    ("word", "is_it"),
    [
        ("all", True),
        ("0", True),
        ("0:1", True),
        ("1", False),
        ("10", False),
        ("GPU-5693d3e0-e482", True),
        ("GPU-5693", True),
        ("GPU-5694", False),
        ("GPU-", False),
        ("", False),
        ("nvidia.com/gpu=0", True),
        ("nvidia.com/gpu=all", True),
        ("nvidia.com/gpu=1", False),
        ("MIG-1f4e", True),
    ],
)
def test_the_words_for_a_device(word: str, is_it: bool) -> None:
    device = gpu(0, id="GPU-5693d3e0-e482-f7d9-74b1-e5ef0cde6739")
    assert is_given(guest(word), device) is is_it
