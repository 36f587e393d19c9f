"""The preventive limiter and the host limits: told once a change, never on whom nothing may hit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest

from gpuwarden.model.action import HARMFUL, Kind, Result
from gpuwarden.model.tenant import HostLimits, Tenant
from tests.policy.builders import (
    MIB,
    NOW,
    PROTECTED,
    Story,
    config,
    device_id,
    gpu,
    kinds,
    reading,
    tenant,
    use,
)

HOG = tenant("hog", quota_mib=8_192)
LIMITS: dict[str, Any] = {"limiter": "nvml-memory-limits"}


def look(story: Story, *there: Tenant, at: float = NOW, **rest: Any) -> list[Kind]:
    given = {**LIMITS, **rest}
    return kinds(story.see(at, tenants=there, uses=[use(t, 100) for t in there], **given))


def test_a_quota_becomes_a_limit_on_each_device_it_uses() -> None:
    story = Story()
    decision = story.see(
        NOW, gpus=[gpu(0), gpu(1)], tenants=[HOG], uses=[use(HOG), use(HOG, on=1)], **LIMITS
    )
    assert kinds(decision) == [Kind.SET_LIMIT, Kind.SET_LIMIT]
    assert [a.device for a in decision.actions] == [device_id(0), device_id(1)]
    params = dict(decision.actions[0].params)
    assert params == {"soft_bytes": str(8_192 * MIB), "hard_bytes": str(8_192 * MIB)}
    assert [d.kind for d in story.mem.debts] == [Kind.CLEAR_LIMIT, Kind.CLEAR_LIMIT]


def test_only_once_and_again_when_the_quota_changes() -> None:
    story = Story()
    assert look(story, HOG) == [Kind.SET_LIMIT]
    assert look(story, HOG, at=NOW + 1) == []
    lower = replace(HOG, hard_bytes=4_096 * MIB)
    assert look(story, lower, at=NOW + 2) == [Kind.SET_LIMIT]
    assert dict(story.looks[-1].actions[0].params)["hard_bytes"] == str(4_096 * MIB)
    assert len(story.mem.debts) == 1


def test_a_soft_limit_of_zero_is_zero() -> None:
    story = Story()
    look(story, replace(HOG, soft_bytes=0))
    assert dict(story.looks[-1].actions[0].params)["soft_bytes"] == "0"


def test_cleared_when_the_tenant_has_gone() -> None:
    story = Story()
    look(story, HOG)
    assert look(story, at=NOW + 1) == [Kind.CLEAR_LIMIT]
    assert story.mem.debts == ()


@pytest.mark.parametrize(
    "who",
    [
        replace(HOG, cls=PROTECTED),
        replace(HOG, is_never_victim=True),
        replace(HOG, is_described=False),
        replace(HOG, cgroup=None),
        replace(HOG, hard_bytes=None),
    ],
)
def test_not_on_these(who: Tenant) -> None:
    assert look(Story(), who) == []


def test_not_on_a_mig_slice() -> None:
    decision = Story().see(
        NOW, gpus=[gpu(0, parent=device_id(9))], tenants=[HOG], uses=[use(HOG)], **LIMITS
    )
    assert kinds(decision) == []


def test_not_without_a_limiter_nor_in_observe_mode_nor_unwritten() -> None:
    assert look(Story(), HOG, limiter="none") == []
    assert look(Story(config("observe")), HOG) == []
    assert look(Story(), HOG, can_record=False) == []


def test_observe_mode_sets_no_host_limits_either() -> None:
    who = replace(HOG, host=HostLimits(memory_bytes=1, cpu_cores=1.0))
    assert not set(look(Story(config("observe")), who)) & HARMFUL


@pytest.mark.parametrize(
    ("host", "params"),
    [
        (HostLimits(memory_bytes=5), {"memory_bytes": "5"}),
        (HostLimits(cpu_cores=2.5), {"cpu_cores": "2.5"}),
        (HostLimits(memory_bytes=5, cpu_cores=2.5), {"memory_bytes": "5", "cpu_cores": "2.5"}),
    ],
)
def test_host_limits(host: HostLimits, params: dict[str, str]) -> None:
    story = Story()
    assert look(story, replace(HOG, host=host), limiter="none") == [Kind.SET_HOST_LIMITS]
    assert dict(story.looks[-1].actions[0].params) == params
    assert look(story, replace(HOG, host=host), limiter="none", at=NOW + 1) == []


class TestFailing:
    def test_a_limit_that_could_not_be_set_is_tried_again_and_not_at_once(self) -> None:
        story = Story(settle=False)
        look(story, HOG)
        story.answer(story.looks[-1], Result.FAILED)
        for second in range(1, 30):
            assert look(story, HOG, at=NOW + second) == []
        assert look(story, HOG, at=NOW + 30) == [Kind.SET_LIMIT]

    def test_one_that_is_not_supported_is_not(self) -> None:
        story = Story(settle=False)
        look(story, HOG)
        story.answer(story.looks[-1], Result.UNSUPPORTED)
        for second in range(1, 90):
            assert look(story, HOG, at=NOW + second) == []
        assert story.mem.debts == ()


class TestWithoutEffect:
    NO_EFFECT: ClassVar[dict[str, Any]] = {"limits": (reading(HOG, None),)}

    def test_set_again_once_then_people_are_told_once(self) -> None:
        story = Story()
        look(story, HOG)
        ordered = {}
        for second in range(1, 120):
            kinds_now = look(story, HOG, at=NOW + second, **self.NO_EFFECT)
            if kinds_now:
                ordered[second] = kinds_now
        assert ordered == {1: [Kind.SET_LIMIT], 16: [Kind.PAGE]}

    def test_nothing_more_when_it_took(self) -> None:
        story = Story()
        look(story, HOG)
        look(story, HOG, at=NOW + 1, **self.NO_EFFECT)
        for second in range(2, 60):
            assert look(story, HOG, at=NOW + second, limits=(reading(HOG, 8_192),)) == []

    def test_a_limit_nobody_ordered_is_not_ours_to_repeat(self) -> None:
        story = Story(config("observe"))
        for second in range(60):
            assert look(story, HOG, at=NOW + second, **self.NO_EFFECT) == []
