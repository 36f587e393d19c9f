"""A breached reserve is made good: one at a time, in order, and never by whom nothing may hit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpuwarden.model.action import HARMFUL, Kind
from gpuwarden.model.memory import IN_FLIGHT, Rung
from gpuwarden.model.tenant import Tenant, Use
from tests.policy.builders import (
    BEST_EFFORT,
    HIGH,
    LOW,
    NORMAL,
    NOW,
    PROTECTED,
    Story,
    budgets,
    case,
    config,
    gpu,
    remembering,
    rung_of,
    standing,
    tenant,
    use,
)

SERVE = tenant("serve", cls=PROTECTED, quota_mib=None)
RESERVE = {"reserve": {"bytes": "10GiB"}}


class Room:
    """A device with a reserve of 10 GiB, a protected service on it, and whoever else."""

    def __init__(self, *there: tuple[Tenant, Use], free_mib: int = 5_000, **sections: Any) -> None:
        self.there = [(SERVE, use(SERVE, 1_000)), *there]
        self.free_mib = free_mib
        self.story = Story(config(**{**RESERVE, **sections}))
        self.at = NOW
        self.look: dict[str, Any] = {}

    def step(self, count: int = 1) -> Room:
        for _ in range(count):
            self.at = round(self.at + 0.1, 3)
            self.story.see(
                self.at,
                gpus=[gpu(used_mib=81_920 - self.free_mib)],
                tenants=[t for t, _ in self.there],
                uses=[u for _, u in self.there],
                **self.look,
            )
        return self

    def goes(self) -> list[str]:
        return [t.name for t, _ in self.there if rung_of(self.story.mem, t) in IN_FLIGHT]


def low(name: str, used_mib: int, quota_mib: int = 80_000, **rest: Any) -> tuple[Tenant, Use]:
    who = tenant(name, quota_mib=quota_mib, **{"cls": LOW, **rest})
    return who, use(who, used_mib)


def test_the_breach_is_confirmed_by_a_list_before_anybody_goes() -> None:
    room = Room(low("a", 40_000))
    room.step()
    assert room.goes() == []
    assert room.step().goes() == ["a"]


def test_the_one_over_quota_first_though_it_is_small() -> None:
    room = Room(low("big", 60_000), low("over", 2_000, quota_mib=1_000))
    assert room.step(2).goes() == ["over"]


def test_a_lower_class_first() -> None:
    room = Room(low("low", 60_000), low("least", 30_000, cls=BEST_EFFORT))
    assert room.step(2).goes() == ["least"]


def test_nobody_of_class_high_or_protected_goes_for_a_reserve() -> None:
    room = Room(low("high", 40_000, cls=HIGH), low("vip", 30_000, cls=PROTECTED))
    room.step(100)
    assert room.goes() == []
    assert not HARMFUL & {k for _, k, _ in room.story.ordered}


def test_and_then_people_are_told_once() -> None:
    room = Room(low("high", 40_000, cls=HIGH)).step(300)
    assert len(room.story.times(Kind.PAGE)) == 1


def test_normal_goes_where_nobody_lower_is() -> None:
    assert Room(low("normal", 40_000, cls=NORMAL)).step(2).goes() == ["normal"]


def test_the_operator_may_spare_those_within_quota() -> None:
    sections: dict[str, Any] = {"reserve": {"bytes": "10GiB", "evict_within_quota": False}}
    assert Room(low("a", 40_000), **sections).step(50).goes() == []
    assert Room(low("over", 40_000, quota_mib=39_000), **sections).step(50).goes() == ["over"]


def test_no_protected_tenant_there_no_eviction() -> None:
    room = Room(low("a", 40_000))
    room.there = room.there[1:]
    assert room.step(50).goes() == []


def test_one_at_a_time() -> None:
    room = Room(low("a", 3_000), low("b", 3_000), low("c", 3_000)).step(2)
    assert len(room.goes()) == 1
    room.look = {"standings": tuple(standing(t) for t, _ in room.there)}
    assert len(room.step(50).goes()) == 1


def test_the_next_only_when_the_target_is_still_missed() -> None:
    room = Room(low("a", 6_000), low("b", 3_000)).step(2)
    (first,) = room.goes()
    gone = next(t for t, _ in room.there if t.name == first)
    room.there = [(t, u) for t, u in room.there if t.name != first]
    room.look = {"standings": (standing(gone, is_populated=False),)}
    room.free_mib = 10_240
    assert room.step(50).goes() == []


def test_who_has_gone_is_not_accused_again_while_the_reserve_is_still_short() -> None:
    room = Room(low("a", 3_000)).step(2)
    (gone, _) = room.there.pop()
    room.look = {"standings": (standing(gone, is_populated=False),)}
    room.step(50)
    assert gone.id not in room.story.mem.cases
    assert len(room.story.times(Kind.TERM)) == 1


def test_who_was_asked_to_go_is_spared_once_room_is_there() -> None:
    room = Room(low("a", 40_000)).step(2)
    assert room.goes() == ["a"]
    room.free_mib = 11_000
    room.step(200)
    assert room.goes() == []
    assert room.story.times(Kind.KILL) == []


def test_what_is_withheld_is_said_once_and_no_case_comes_and_goes() -> None:
    room = Room(low("a", 40_000), mode="observe").step(300)
    assert [b for d in room.story.looks for b in budgets(d)] == ["observe"]
    assert len(room.story.times(Kind.WARN)) == 1
    assert rung_of(room.story.mem, room.there[1][0]) is Rung.WARNED
    room.free_mib = 20_000
    room.step()
    assert room.story.mem.cases == {}


def test_nobody_else_goes_for_bytes_that_are_stuck() -> None:
    stuck, its_use = low("stuck", 50_000, cls=NORMAL)  # the other one alone would be enough
    room = Room((stuck, its_use), low("a", 40_000))
    room.story.mem = remembering(case(stuck, Rung.STUCK, since=NOW))
    room.look = {"standings": (standing(stuck),)}
    room.step(300)
    assert room.goes() == []
    assert room.story.times(Kind.TERM) == []
    assert rung_of(room.story.mem, stuck) is Rung.STUCK


def test_an_own_overrun_is_judged_before_the_reserve() -> None:
    """Both over quota and in the way: one eviction, as an emergency."""
    room = Room(low("over", 40_000, quota_mib=10_000)).step(2)
    hog = room.there[1][0]
    assert rung_of(room.story.mem, hog) is Rung.HELD
    assert room.story.mem.cases[hog.id].is_emergency


def test_whom_nothing_may_hit() -> None:
    for change in (
        {"is_never_victim": True},
        {"is_described": False},
        {"cannot_act": "no runtime"},
    ):
        who, its_use = low("a", 40_000)
        room = Room((replace(who, **change), its_use)).step(50)
        assert not HARMFUL & {k for _, k, _ in room.story.ordered}
