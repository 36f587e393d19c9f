"""Rule tombstone: an owner that keeps coming back is held until the window is over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.model.finding import Finding
from gpuwarden.model.memory import Tombstone
from gpuwarden.policy import tombstone
from tests.policy.builders import NOW, WALL, config, memory, scene, snap, tenant

CFG = config()
HOG = tenant("hog", owner_key="compose:shop/train")
T0 = WALL + NOW


def buried(*walls: float) -> Tombstone:
    stones: dict[str, Tombstone] = {}
    for wall in walls:
        stones["key"] = tombstone.bury(CFG, stones, "key", wall)
    return stones["key"]


class TestBury:
    def test_two_evictions_hold_nobody(self) -> None:
        assert buried(T0, T0 + 1).held_until_wall is None

    @pytest.mark.parametrize(("third", "held"), [(T0 + 600, T0 + 1200), (T0 + 600.1, None)])
    def test_three_within_ten_minutes_do(self, third: float, held: float | None) -> None:
        assert buried(T0, T0 + 1, third).held_until_wall == held

    def test_evictions_that_fell_out_of_the_window_are_forgotten(self) -> None:
        assert buried(T0, T0 + 700, T0 + 1400).evicted_wall == (T0 + 1400,)

    def test_coming_back_while_held_holds_longer(self) -> None:
        assert buried(T0, T0 + 1, T0 + 2, T0 + 500).held_until_wall == T0 + 1100

    def test_its_list_is_bounded(self) -> None:
        assert len(buried(*(T0 + n / 10 for n in range(500))).evicted_wall) == 100


class TestFind:
    def found(self, held_until: float | None, owner: str | None = HOG.owner_key) -> list[Finding]:
        stone = Tombstone(
            owner_key="compose:shop/train", evicted_wall=(T0,), held_until_wall=held_until
        )
        back = tenant("hog", owner_key=owner, first_seen=NOW)
        look = snap(tenants=[back, tenant("other")])
        return tombstone.find(CFG, memory(tombstones={stone.owner_key: stone}), scene(look=look))

    def test_a_held_owners_tenant(self) -> None:
        (claim,) = self.found(T0 + 1)
        assert claim.tenant == HOG.id

    def test_the_last_second(self) -> None:
        assert self.found(T0 + 0.1) != []
        assert self.found(T0) == []

    def test_evicted_but_not_held(self) -> None:
        assert self.found(None) == []

    def test_who_was_there_when_another_was_evicted_has_not_come_back(self) -> None:
        """Anybody may write a compose project's labels on a container of his own and be evicted."""
        stones: dict[str, Tombstone] = {}
        thief = tenant("thief", owner_key=HOG.owner_key, started_wall=T0)
        for wall in (T0 - 3, T0 - 2, T0 - 1):
            stones["key"] = tombstone.bury(
                CFG, stones, "key", wall, who=thief.id, there=[HOG.id, thief.id]
            )
        stone = replace(stones["key"], owner_key=HOG.owner_key or "")
        assert stone.held_until_wall is not None
        again = tenant("again", owner_key=HOG.owner_key, started_wall=T0)
        innocent = replace(HOG, started_wall=T0)  # restarted meanwhile: still the same container
        look = snap(tenants=[innocent, thief, again])
        found = tombstone.find(CFG, memory(tombstones={stone.owner_key: stone}), scene(look=look))
        assert [f.tenant for f in found] == [thief.id, again.id]

    def test_a_bystander_that_is_evicted_itself_is_none_any_more(self) -> None:
        stones = {"key": tombstone.bury(CFG, {}, "key", T0, who=None, there=[HOG.id])}
        assert stones["key"].bystanders == (HOG.id,)
        assert tombstone.bury(CFG, stones, "key", T0 + 1, who=HOG.id).bystanders == ()

    def test_a_tenant_without_an_owner_is_nobodys(self) -> None:
        assert self.found(T0 + 1, owner=None) == []
        assert self.found(T0 + 1, owner="") == []


class TestWhoHasComeBack:
    """A replica that was there beside the evicted one is not held for it."""

    def found(self, **change: Any) -> bool:
        stone = Tombstone(owner_key="key", evicted_wall=(T0 - 20, T0 - 5), held_until_wall=T0 + 1)
        who = tenant("hog", owner_key="key", **change)
        look = snap(tenants=[who])
        return bool(tombstone.find(CFG, memory(tombstones={"key": stone}), scene(look=look)))

    @pytest.mark.parametrize(("seen", "is_back"), [(NOW - 5, True), (NOW - 5.1, False)])
    def test_first_seen_since_the_last_eviction_began(self, seen: float, is_back: bool) -> None:
        assert self.found(first_seen=seen) is is_back

    @pytest.mark.parametrize(("started", "is_back"), [(T0 - 5, True), (T0 - 5.1, False)])
    def test_its_runtimes_word_counts_before_ours(self, started: float, is_back: bool) -> None:
        """An agent that has just started has seen nobody before."""
        assert self.found(first_seen=NOW, started_wall=started) is is_back


class TestWeather:
    def test_stones_go_when_their_window_is_over(self) -> None:
        stones = {
            "recent": Tombstone(owner_key="recent", evicted_wall=(T0 - 600,)),
            "old": Tombstone(owner_key="old", evicted_wall=(T0 - 600.1,)),
            "held": Tombstone(owner_key="held", evicted_wall=(T0 - 900,), held_until_wall=T0 + 1),
            "served": Tombstone(owner_key="served", evicted_wall=(T0 - 900,), held_until_wall=T0),
        }
        assert set(tombstone.weather(CFG, stones, T0)) == {"recent", "held"}
