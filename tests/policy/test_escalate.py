"""Who has to be woken: claims that stand and on which nothing is being done; once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.device import Sight
from tests.policy.builders import (
    HIGH,
    MIB,
    NOW,
    PROTECTED,
    Story,
    config,
    device_id,
    gpu,
    service,
    tenant,
    use,
)

HIGH_HOG = tenant("hog", cls=HIGH, quota_mib=10_000)


def pages(story: Story) -> list[float]:
    return story.times(Kind.PAGE)


@pytest.mark.parametrize(("held", "count"), [(4.9, 0), (5.1, 1)])
def test_after_five_seconds(held: float, count: int) -> None:
    story = Story()
    for at in (NOW, NOW + held):
        story.see(at, gpus=[gpu(sight=Sight.BLIND)])
    assert len(pages(story)) == count


def test_once_while_it_stands_and_again_only_after_ten_minutes() -> None:
    story = Story()
    for second in range(1500):
        is_blind = second % 100 < 50
        story.see(NOW + second, gpus=[gpu(sight=Sight.BLIND if is_blind else Sight.OK)])
    assert len(pages(story)) == 3
    assert min(b - a for a, b in zip(pages(story), pages(story)[1:], strict=False)) >= 600


def test_one_that_came_back_and_stays_is_told_once_more() -> None:
    """Who was told that it is over has to hear that it is not."""
    story = Story()
    for second in range(2000):
        is_well = 50 <= second < 60
        story.see(NOW + second, gpus=[gpu(sight=Sight.OK if is_well else Sight.BLIND)])
    assert pages(story) == [NOW + 5, NOW + 605]


def test_an_overrun_nobody_may_end_is_for_people() -> None:
    story = Story()
    for tenth in range(100):
        story.see(NOW + tenth / 10, tenants=[HIGH_HOG], uses=[use(HIGH_HOG, 20_000)])
    assert len(pages(story)) == 1


def test_one_that_is_being_ended_is_not() -> None:
    low = replace(HIGH_HOG, cls=tenant().cls)
    story = Story()
    for tenth in range(90):
        story.see(NOW + tenth / 10, tenants=[low], uses=[use(low, 20_000)])
    assert pages(story) == []


def test_one_the_node_merely_observes_wakes_nobody() -> None:
    story = Story(config("observe"))
    for tenth in range(100):
        story.see(NOW + tenth / 10, tenants=[HIGH_HOG], uses=[use(HIGH_HOG, 20_000)])
    assert pages(story) == []


def test_ambiguous_bytes_are_for_people_and_kill_nobody() -> None:
    a, b = tenant("a"), tenant("b")
    story = Story()
    for second in range(30):
        held = 1_000 if second == 0 else 60_000
        story.see(
            NOW + second,
            tenants=[a, b],
            uses=[use(a, 10), use(b, 10)],
            unattributed=((device_id(0), held * MIB),),
        )
    assert {k for _, k, _ in story.ordered} == {Kind.PAGE}
    assert len(pages(story)) == 1


def test_a_single_suspect_wakes_nobody() -> None:
    story = Story()
    a = tenant("a")
    for second in range(30):
        held = 1_000 if second == 0 else 60_000
        story.see(
            NOW + second, tenants=[a], uses=[use(a, 10)], unattributed=((device_id(0), held * MIB),)
        )
    assert pages(story) == []


def test_a_red_service_alone_is_left_to_who_measures_it() -> None:
    serve = tenant("serve", cls=PROTECTED, quota_mib=None)
    story = Story()
    for second in range(30):
        story.see(
            NOW + second, tenants=[serve], uses=[use(serve, 10)], services=(service(who=serve),)
        )
    assert pages(story) == []
