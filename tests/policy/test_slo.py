"""Rule slo: a red service is reported and convicts nobody."""

from __future__ import annotations

import pytest

from gpuwarden.model.snapshot import Health
from gpuwarden.policy import slo
from tests.policy.builders import (
    NOW,
    PROTECTED,
    Story,
    config,
    gpu,
    kinds,
    memory,
    scene,
    service,
    snap,
    tenant,
    tenant_id,
    use,
)


@pytest.mark.parametrize(
    ("health", "count"), [(Health.RED, 1), (Health.GREEN, 0), (Health.UNKNOWN, 0)]
)
def test_only_red_is_a_finding(health: Health, count: int) -> None:
    look = snap(services=(service(health=health),))
    assert len(slo.find(config(), memory(), scene(look=look))) == count


def test_says_how_far_off_it_is() -> None:
    look = snap(services=(service("risk", p99_s=1.05, limit_s=0.5),))
    (claim,) = slo.find(config(), memory(), scene(look=look))
    assert claim.summary == "service risk is red: p99 is 1050 ms, the limit is 500 ms"
    assert (claim.tenant, claim.service) == (tenant_id("serve"), "risk")


def test_says_when_nothing_finishes() -> None:
    (claim,) = slo.find(config(), memory(), scene(look=snap(services=(service("risk"),))))
    assert "no request finishes" in claim.summary


def test_a_red_service_alone_convicts_nobody() -> None:
    serve, big = tenant("serve", cls=PROTECTED, quota_mib=None), tenant("big", quota_mib=40_000)
    story = Story()
    for tenth in range(100):
        decision = story.see(
            NOW + tenth / 10,
            gpus=[gpu(used_mib=40_000)],
            tenants=[serve, big],
            uses=[use(serve, 1_000), use(big, 39_000)],
            services=(service("risk", who=serve),),
        )
        assert kinds(decision) == []
