"""What a case is for follows its newest finding, and only an eviction that reached somebody counts as one.
Found by generated worlds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.model.action import Kind, Result
from gpuwarden.model.memory import Rung, Tombstone
from tests.policy.builders import (
    LOW,
    NOW,
    PROTECTED,
    WALL,
    Story,
    budgets,
    config,
    gpu,
    kinds,
    memory,
    rung_of,
    standing,
    tenant,
    use,
)

HOG = tenant("hog", quota_mib=10_000, owner_key="key", grace_s=0.0, first_seen=NOW)
SERVE = tenant("serve", cls=PROTECTED, quota_mib=None)


def test_a_held_owner_s_tenant_that_is_over_its_quota_goes_by_a_fresh_list_or_not_at_all() -> None:
    """Its stop was withheld (the journal could not be written); a size read long ago is no reason."""
    stone = Tombstone(owner_key="key", evicted_wall=(WALL + NOW,) * 3, held_until_wall=WALL + 101)
    story = Story(mem=memory(tombstones={"key": stone}, last_wall=WALL + NOW - 0.1))
    for tenth, size in enumerate((1_000, 20_000, 20_000)):
        story.see(NOW + tenth / 10, tenants=[HOG], uses=[use(HOG, size)], can_record=False)
    last = NOW + 0.2
    assert {"journal"} == {b for d in story.looks for b in budgets(d)}
    story.see(last + 1.5, tenants=[HOG], uses=[use(HOG, 20_000)], listed_at=last)
    assert kinds(story.looks[-1], HOG) == []
    assert "stale" in budgets(story.looks[-1])
    story.see(last + 1.6, tenants=[HOG], uses=[use(HOG, 20_000)])
    assert kinds(story.looks[-1], HOG) == [Kind.KILL]


def test_who_was_chosen_for_a_reserve_is_not_evicted_for_a_quota_that_only_observes() -> None:
    story = Story(
        config(
            reserve={"bytes": "8GiB"},
            rules={"quota": {"mode": "observe"}},
            quota={"warmup_s": 200.0},
        )
    )
    hog = replace(HOG, cls=LOW, grace_s=10.0)
    for tenth in range(5):  # short of memory while nobody may go yet
        story.see(
            NOW + tenth / 10,
            gpus=[gpu(used_mib=80_000)],
            tenants=[SERVE, hog],
            uses=[use(SERVE, 4_000), use(hog, 9_000)],
        )
    assert story.mem.cases[hog.id].reason == "reserve"
    at = NOW + 301
    for tenth in range(30):  # there is room again, and it goes over its quota
        story.see(
            at + tenth / 10,
            gpus=[gpu(used_mib=30_000)],
            tenants=[SERVE, hog],
            uses=[use(SERVE, 4_000), use(hog, 20_000)],
        )
    assert story.mem.cases[hog.id].reason == "quota-hard"
    assert "observe" in [b for d in story.looks for b in budgets(d)]
    assert story.times(Kind.TERM) == []


@pytest.mark.parametrize(
    ("result", "counts"),
    [
        (Result.DONE, 1),
        (Result.UNKNOWN, 1),
        (Result.FAILED, 1),  # it may have had its effect
        (Result.REFUSED, 0),  # it had left by itself
    ],
)
def test_who_left_before_anything_reached_it_was_not_evicted(result: Result, counts: int) -> None:
    story = Story(settle=False)
    for tenth in range(2):
        story.see(NOW + tenth / 10, tenants=[HOG], uses=[use(HOG, 20_000)])
    assert kinds(story.looks[-1], HOG) == [Kind.KILL]
    story.answer(story.looks[-1], result)
    for tenth in range(2, 60):
        story.see(NOW + tenth / 10, standings=(standing(HOG, is_populated=False),))
        story.answer(story.looks[-1], result)
    assert rung_of(story.mem, HOG) is None
    assert sum(len(s.evicted_wall) for s in story.mem.tombstones.values()) == counts


def test_the_case_of_a_stopped_tenant_is_over_on_every_device_it_is_listed_on() -> None:
    """A container that was first seen on one GPU is listed on a second: its end is not told, and nobody
    is stopped twice, before both lists have let go of it."""
    stone = Tombstone(owner_key="key", evicted_wall=(WALL + NOW,) * 3, held_until_wall=WALL + 700)
    story = Story(mem=memory(tombstones={"key": stone}, last_wall=WALL + NOW - 0.1))
    both = [gpu(0), gpu(1)]
    story.see(NOW, gpus=both, tenants=[HOG], uses=[use(HOG, 1_000)])
    gone = standing(HOG, is_populated=False)
    story.see(NOW + 0.2, gpus=both, tenants=[HOG], uses=[use(HOG, 1_000, on=1)], standings=(gone,))
    assert rung_of(story.mem, HOG) is Rung.STOPPED
    story.see(NOW + 0.3, gpus=both, standings=(gone,))
    assert rung_of(story.mem, HOG) is None
    assert len(story.times(Kind.STOP)) == 1


def test_whoever_s_case_has_just_been_closed_is_not_stopped_in_the_same_look() -> None:
    """Another one is being evicted from the device it is seen on now: one at a time."""
    stone = Tombstone(owner_key="key", evicted_wall=(WALL + NOW,) * 3, held_until_wall=WALL + 700)
    story = Story(mem=memory(tombstones={"key": stone}, last_wall=WALL + NOW - 0.1))
    both, other = [gpu(0), gpu(1)], tenant("other", quota_mib=10_000)
    for tenth in range(2):
        story.see(
            NOW + tenth / 10,
            gpus=both,
            tenants=[HOG, other],
            uses=[use(HOG, 1_000), use(other, 20_000, on=1)],
            standings=(standing(HOG),),
        )
    assert {rung_of(story.mem, HOG), rung_of(story.mem, other)} == {Rung.STOPPED, Rung.TERMED}
    story.see(
        NOW + 0.3,
        gpus=both,
        tenants=[HOG, other],
        uses=[use(HOG, 1_000, on=1), use(other, 20_000, on=1)],
        standings=(standing(HOG, identity_holds=False), standing(other)),
    )
    assert kinds(story.looks[-1], HOG) == []
    assert rung_of(story.mem, HOG) is None
    story.see(
        NOW + 0.4,
        gpus=both,
        tenants=[HOG, other],
        uses=[use(HOG, 1_000, on=1), use(other, 20_000, on=1)],
        standings=(standing(other),),
    )
    assert budgets(story.looks[-1]) == ["one-per-device"]
