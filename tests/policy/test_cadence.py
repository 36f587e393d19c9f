"""How closely to look: tight where something waits for a list, calm elsewhere."""

from __future__ import annotations

import pytest

from gpuwarden.model.decision import ProbePlan
from gpuwarden.model.device import Sight
from gpuwarden.model.memory import IN_FLIGHT, Rung
from tests.policy.builders import (
    MIB,
    NOW,
    PROTECTED,
    Story,
    case,
    config,
    device_id,
    gpu,
    remembering,
    standing,
    tenant,
    use,
)

HOG = tenant("hog", quota_mib=10_000)


def plan(
    used_mib: int, *, growth_mib_s: float = 0.0, story: Story | None = None, **rest: object
) -> ProbePlan:
    story = story or Story(config("observe"))
    decision = story.see(
        NOW,
        tenants=[HOG],
        uses=[use(HOG, used_mib, growth_bytes_s=growth_mib_s * MIB)],
        **rest,  # type: ignore[arg-type]
    )
    assert decision.plan is not None
    return decision.plan


def test_calm_at_rest() -> None:
    calm = plan(1_000)
    assert (calm.period_s, calm.list_now) == (0.1, ())
    assert (calm.list_every_s, calm.list_gap_s) == (2.0, 0.1)


def test_the_trigger_is_half_the_smallest_headroom_and_at_most_64_mib() -> None:
    assert dict(plan(1_000).list_trigger_bytes)[device_id(0)] == 64 * MIB
    assert dict(plan(10_150).list_trigger_bytes)[device_id(0)] == 25 * MIB  # trips at 10,200
    assert (
        dict(plan(10_200).list_trigger_bytes)[device_id(0)] == 64 * MIB
    )  # no headroom left to cross


def test_every_seen_device_has_a_trigger_so_that_newcomers_are_listed() -> None:
    story = Story(config("observe"))
    free = tenant("free", quota_mib=None)
    decision = story.see(
        NOW,
        gpus=[gpu(0), gpu(1), gpu(2, sight=Sight.BLIND)],
        tenants=[HOG, free],
        uses=[use(HOG, 11_000), use(free, 5, on=1)],
    )
    assert decision.plan is not None
    assert dict(decision.plan.list_trigger_bytes) == {
        device_id(0): 64 * MIB,
        device_id(1): 64 * MIB,
    }


def test_growth_about_to_cross_a_quota_is_urgent() -> None:
    assert plan(10_000, growth_mib_s=199).period_s == 0.1
    urgent = plan(10_000, growth_mib_s=201)
    assert (urgent.period_s, urgent.list_now) == (0.02, (device_id(0),))


def test_an_unconfirmed_claim_is_urgent_and_a_confirmed_one_is_not() -> None:
    story = Story(config("observe"))
    assert plan(11_000, story=story).list_now == (device_id(0),)
    decision = story.see(NOW + 0.1, tenants=[HOG], uses=[use(HOG, 11_000)])
    assert decision.plan is not None
    assert decision.plan.list_now == ()


def test_a_soft_breach_on_probation_is_not_urgent() -> None:
    story = Story(config("observe"))
    for second in range(20):
        decision = story.see(
            NOW + second, tenants=[HOG], uses=[use(HOG, 10_100 if second < 12 else 9_000)]
        )
        assert decision.plan is not None
        assert decision.plan.list_now == ()


@pytest.mark.parametrize("rung", sorted(set(Rung) - {Rung.DONE}))
def test_an_eviction_in_flight_is_urgent_on_every_device_it_holds(rung: Rung) -> None:
    who = case(HOG, rung, devices=(device_id(0), device_id(1)), since=NOW, frozen_since=NOW)
    story = Story(config("enforce"), mem=remembering(who))
    decision = story.see(
        NOW,
        gpus=[gpu(0), gpu(1)],
        tenants=[HOG],
        uses=[use(HOG, 9_800), use(HOG, 9_800, on=1)],
        standings=(standing(HOG, is_frozen=True),),
    )
    assert decision.plan is not None
    is_urgent = decision.plan.list_now == (device_id(0), device_id(1))
    assert is_urgent is (rung in IN_FLIGHT)


def test_a_size_too_old_to_act_on_is_asked_for() -> None:
    """Convicted, and then everything waits for a list: the list has to be ordered."""
    serve = tenant("serve", cls=PROTECTED, quota_mib=None)
    low = tenant("low", quota_mib=70_000)
    story = Story(config(reserve={"bytes": "10GiB"}))
    for at in (NOW, NOW + 1.5):
        decision = story.see(
            at,
            gpus=[gpu(used_mib=75_000)],
            tenants=[serve, low],
            uses=[use(serve, 1_000), use(low, 60_000)],
            listed_at=NOW + 0.01,
        )
    assert decision.plan is not None
    assert decision.plan.list_now == (device_id(0),)


def test_an_unseen_device_is_not_asked() -> None:
    story = Story(config("observe"))
    plan(11_000, story=story)
    decision = story.see(
        NOW + 0.1, gpus=[gpu(sight=Sight.BLIND)], tenants=[HOG], uses=[use(HOG, 11_000)]
    )
    assert decision.plan is not None
    assert decision.plan.list_now == ()
    assert decision.plan.period_s == 0.1


def test_the_period_stays_within_its_bounds() -> None:
    slow = config("observe", sampling={"fast_base_s": 5, "fast_max_s": 1})
    assert plan(1_000, story=Story(slow)).period_s == 1.0
