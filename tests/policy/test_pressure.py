"""Rule pressure: a tenant that stalls on its host memory is slowed down, and ended only when others
suffer (enforcement research, scenario 25)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.memory import Rung
from gpuwarden.model.tenant import HostLimits
from gpuwarden.policy import pressure
from tests.policy.builders import (
    NOW,
    PROTECTED,
    Story,
    config,
    gpu,
    host,
    memory,
    rung_of,
    scene,
    service,
    snap,
    tenant,
    use,
)

GIB = 2**30
HOG = replace(
    tenant("hog", quota_mib=80_000), host=HostLimits(memory_bytes=8 * GIB), memory_full_avg10=45.0
)
SERVE = tenant("serve", cls=PROTECTED, quota_mib=None)


@pytest.mark.parametrize(
    ("change", "is_claimed"),
    [
        ({}, True),
        ({"memory_full_avg10": 40.0}, False),
        ({"memory_full_avg10": 40.1}, True),
        ({"memory_full_avg10": None}, False),
        ({"host": HostLimits()}, False),
    ],
)
def test_what_is_claimed(change: dict[str, Any], is_claimed: bool) -> None:
    who = replace(HOG, **change)
    look = snap(gpus=[gpu()], tenants=[who], uses=[use(who, 5)])
    assert bool(pressure.find(config(), memory(), scene(look=look))) is is_claimed


def test_a_tenant_without_gpu_memory_is_not_ours() -> None:
    look = snap(gpus=[gpu()], tenants=[HOG])
    assert pressure.find(config(), memory(), scene(look=look)) == []


def play(seconds: int, **look: Any) -> Story:
    story = Story(config())
    for second in range(seconds):
        story.see(NOW + second, tenants=[HOG, SERVE], uses=[use(HOG, 5), use(SERVE, 5)], **look)
    return story


def test_warned_and_its_memory_tightened_and_no_more_while_nobody_suffers() -> None:
    story = play(120)
    ordered = [k for _, k, who in story.ordered if who == HOG.id and k is not Kind.SET_HOST_LIMITS]
    assert ordered == [Kind.WARN, Kind.THROTTLE]
    (throttle,) = [a for d in story.looks for a in d.actions if a.kind is Kind.THROTTLE]
    high = int(dict(throttle.params)["memory_high_bytes"])
    assert 0 < high < 8 * GIB


@pytest.mark.parametrize(
    "harm",
    [
        {"services": (service(who=SERVE),)},
        {"host": host(memory_total_bytes=100, memory_available_bytes=1)},
    ],
)
def test_ended_when_a_protected_service_or_the_host_suffers(harm: dict[str, Any]) -> None:
    story = play(90, **harm)
    ordered = [k for _, k, who in story.ordered if who == HOG.id and k is not Kind.SET_HOST_LIMITS]
    assert ordered[:3] == [Kind.WARN, Kind.THROTTLE, Kind.TERM]


def test_a_red_service_alone_convicts_nobody() -> None:
    calm = replace(HOG, memory_full_avg10=1.0)
    story = Story(config())
    for second in range(60):
        story.see(
            NOW + second,
            tenants=[calm, SERVE],
            uses=[use(calm, 5), use(SERVE, 5)],
            services=(service(who=SERVE),),
        )
    assert rung_of(story.mem, calm) is None
    assert rung_of(story.mem, calm) is not Rung.TERMED
