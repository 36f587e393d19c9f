"""Who has to go. Every subset of up to four out of a zoo of tenants, against the words of the design
written down a second time, without looking at the code."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from gpuwarden.model.tenant import Tenant, TenantClass, Use
from gpuwarden.policy import victims
from tests.policy.builders import (
    BEST_EFFORT,
    HIGH,
    LOW,
    MIB,
    NORMAL,
    PROTECTED,
    config,
    device_id,
    gpu,
    scene,
    snap,
    tenant,
    use,
)

ZOO: tuple[tuple[Tenant, Use], ...] = tuple(
    (who, use(who, used, grown_mib=grown))
    for who, used, grown in (
        (tenant("low-over", cls=LOW, quota_mib=1_000), 2_000, 0),
        (tenant("low-far-over", cls=LOW, quota_mib=1_000), 3_000, 0),
        (tenant("low-within", cls=LOW, quota_mib=80_000), 70_000, 0),
        (tenant("low-within-small", cls=LOW, quota_mib=80_000), 9_000, 0),
        (tenant("low-within-grew", cls=LOW, quota_mib=80_000), 5_000, 4_000),
        (tenant("low-no-quota", cls=LOW, quota_mib=None), 20_000, 0),
        (tenant("low-twin-old", cls=LOW, quota_mib=80_000, first_seen=1.0), 6_000, 0),
        (tenant("low-twin-young", cls=LOW, quota_mib=80_000, first_seen=9.0), 6_000, 0),
        (tenant("normal-over", cls=NORMAL, quota_mib=1_000), 9_000, 0),
        (tenant("best-effort-within", cls=BEST_EFFORT, quota_mib=80_000), 3_000, 0),
        (tenant("high-over", cls=HIGH, quota_mib=1_000), 50_000, 0),
        (tenant("protected-over", cls=PROTECTED, quota_mib=1_000), 50_000, 0),
        (tenant("never", cls=BEST_EFFORT, quota_mib=1_000, is_never_victim=True), 50_000, 0),
        (tenant("unknown", cls=LOW, quota_mib=1_000, is_described=False), 50_000, 0),
        (tenant("cannot", cls=LOW, quota_mib=1_000, cannot_act="no docker"), 50_000, 0),
        (tenant("empty", cls=BEST_EFFORT, quota_mib=1_000), 0, 0),
    )
)
NEVER = {"protected-over", "never", "unknown", "cannot", "empty"}


def comes_before(a: tuple[Tenant, Use], b: tuple[Tenant, Use]) -> bool:
    """DESIGN 4.5, clause by clause."""
    (ta, ua), (tb, ub) = a, b
    if ta.cls != tb.cls:
        return ta.cls < tb.cls  # lower class
    over_a = ua.used_bytes / ta.hard_bytes if ta.hard_bytes else 0.0
    over_b = ub.used_bytes / tb.hard_bytes if tb.hard_bytes else 0.0
    if (over_a > 1) != (over_b > 1):
        return over_a > 1  # over quota
    if over_a > 1 and over_a != over_b:
        return over_a > over_b  # relative overrun
    if ua.grown_bytes != ub.grown_bytes:
        return ua.grown_bytes > ub.grown_bytes  # growth
    if ua.used_bytes != ub.used_bytes:
        return ua.used_bytes > ub.used_bytes  # the larger, so that fewer have to go
    if ta.first_seen != tb.first_seen:
        return ta.first_seen > tb.first_seen  # youngest
    return ta.id < tb.id


def subsets() -> Iterator[tuple[tuple[Tenant, Use], ...]]:
    for size in range(5):
        yield from itertools.combinations(ZOO, size)


def ranked(group: tuple[tuple[Tenant, Use], ...], below: TenantClass = PROTECTED) -> list[str]:
    look = snap(gpus=[gpu()], tenants=[t for t, _ in group], uses=[u for _, u in group])
    return [
        u.tenant.removeprefix("docker:")
        for u in victims.rank(scene(look=look), device_id(0), below)
    ]


def test_every_subset_of_four_is_ranked_as_the_design_says() -> None:
    count = 0
    for group in subsets():
        names = ranked(group)
        by_name = {t.name: (t, u) for t, u in group}
        assert set(names) == set(by_name) - NEVER
        for first, second in itertools.pairwise(names):
            assert comes_before(by_name[first], by_name[second]), names
        count += 1
    assert count == 1 + 16 + 120 + 560 + 1820


def test_the_order_of_arrival_changes_nothing() -> None:
    for group in itertools.combinations(ZOO, 3):
        assert len({tuple(ranked(order)) for order in itertools.permutations(group)}) == 1


def test_nobody_of_the_class_it_is_for_or_above() -> None:
    assert "high-over" in ranked(ZOO)
    assert "high-over" not in ranked(ZOO, below=HIGH)
    assert set(ranked(ZOO, below=LOW)) == {"best-effort-within"}


def test_growth_below_a_lists_worth_is_none() -> None:
    still = tenant("a-still", quota_mib=80_000)
    noise = tenant("b-noise", quota_mib=80_000)
    group = ((still, use(still, 100)), (noise, use(noise, 100, grown_mib=63)))
    assert ranked(group) == ["a-still", "b-noise"]


class TestSmallestSet:
    def chosen(self, needed_mib: int, *group: tuple[Tenant, Use]) -> list[str]:
        look = snap(gpus=[gpu()], tenants=[t for t, _ in group], uses=[u for _, u in group])
        around = scene(look=look)
        order = victims.rank(around, device_id(0), PROTECTED)
        return [
            u.tenant.removeprefix("docker:")
            for u in victims.smallest_set(order, needed_mib * MIB, around)
        ]

    def pick(self, *names: str) -> list[tuple[Tenant, Use]]:
        return [(t, u) for t, u in ZOO if t.name in names]

    def test_nobody_to_choose_from(self) -> None:
        assert self.chosen(1_000) == []

    def test_within_quota_the_smallest_that_suffices_alone(self) -> None:
        group = self.pick("low-within", "low-within-small", "low-twin-old")
        assert self.chosen(8_000, *group) == ["low-within-small"]

    def test_of_twins_that_suffice_the_youngest(self) -> None:
        group = self.pick("low-within", "low-twin-old", "low-twin-young")
        assert self.chosen(6_000, *group) == ["low-twin-young"]

    def test_one_that_grew_goes_before_a_smaller_one_that_did_not(self) -> None:
        small = tenant("small", quota_mib=80_000)
        group = [*self.pick("low-within-grew"), (small, use(small, 4_500))]
        assert self.chosen(4_000, *group) == ["low-within-grew"]

    def test_the_one_over_quota_goes_first_though_it_is_small(self) -> None:
        group = self.pick("low-within", "low-over")
        assert self.chosen(8_000, *group) == ["low-over", "low-within"]
        assert self.chosen(2_000, *group) == ["low-over"]

    def test_when_none_suffices_alone_the_order_is_kept(self) -> None:
        group = self.pick("low-within-small", "low-twin-old", "best-effort-within")
        assert self.chosen(12_000, *group) == ["best-effort-within", "low-within-small"]

    @pytest.mark.parametrize("needed", [1, 2_999, 3_000])
    def test_a_lower_class_that_suffices_spares_the_higher(self, needed: int) -> None:
        group = self.pick("low-within", "best-effort-within")
        assert self.chosen(needed, *group) == ["best-effort-within"]

    def test_never_more_than_are_needed(self) -> None:
        for size in (1, 2, 3, 4):
            for group in itertools.combinations([z for z in ZOO if z[0].name not in NEVER], size):
                for needed in (1, 5_000, 30_000):
                    names = self.chosen(needed, *group)
                    held = {t.name: u.used_bytes for t, u in group}
                    without_last = sum(held[n] for n in names[:-1])
                    assert without_last < needed * MIB


def test_the_target_is_the_overrun_and_a_twentieth_of_the_device() -> None:
    assert victims.target_bytes(config(), gpu(total_mib=80_000), 100 * MIB) == 4_100 * MIB
