"""What findings say of a tenant: noticed, convicted, and whether it is an emergency."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.memory import Rung
from gpuwarden.model.snapshot import Health
from gpuwarden.model.tenant import Tenant
from tests.policy.builders import (
    HIGH,
    LOW,
    NORMAL,
    NOW,
    PROTECTED,
    Story,
    config,
    gpu,
    kinds,
    rung_of,
    service,
    tenant,
    use,
    xid,
)

SERVE = tenant("serve", cls=PROTECTED, quota_mib=None)
HOG = tenant("hog", cls=LOW, quota_mib=10_000)


def overrun(
    who: Tenant = HOG, *, reserve: str = "0", story: Story | None = None, **look: Any
) -> Story:
    """Two lists that show the hog over its quota beside a protected service."""
    story = story or Story(config(reserve={"bytes": reserve}))
    for tenth in range(2):
        story.see(
            NOW + tenth / 10,
            gpus=[gpu(used_mib=look.pop("used_mib", 40_000))],
            tenants=[SERVE, who],
            uses=[use(SERVE, 1_000), use(who, 20_000)],
            **look,
        )
    return story


def is_emergency(story: Story) -> bool:
    return story.mem.cases[HOG.id].is_emergency


class TestConviction:
    @pytest.mark.parametrize("cls", [LOW, NORMAL])
    def test_a_confirmed_hard_overrun_convicts(self, cls: Any) -> None:
        assert rung_of(overrun(tenant("hog", cls=cls, quota_mib=10_000)).mem) is Rung.TERMED

    def test_one_list_does_not(self) -> None:
        story = Story()
        story.see(NOW, tenants=[HOG], uses=[use(HOG, 20_000)])
        assert rung_of(story.mem) is Rung.WARNED

    @pytest.mark.parametrize("cls", [PROTECTED, HIGH])
    def test_protected_never_and_high_by_policy_only(self, cls: Any) -> None:
        who = tenant("hog", cls=cls, quota_mib=10_000)
        assert rung_of(overrun(who).mem) is Rung.WARNED
        allowed = Story(config(quota={"evict_high": True}))
        expected = Rung.TERMED if cls is HIGH else Rung.WARNED
        assert rung_of(overrun(who, story=allowed).mem) is expected

    def test_over_on_two_devices_is_one_case_on_the_worse(self) -> None:
        story = Story()
        for tenth in range(2):
            story.see(
                NOW + tenth / 10,
                gpus=[gpu(0), gpu(1)],
                tenants=[HOG],
                uses=[use(HOG, 12_000), use(HOG, 30_000, on=1)],
            )
        (case,) = story.mem.cases.values()
        assert case.device == "GPU-1"
        assert case.devices == ("GPU-0", "GPU-1")


class TestEmergency:
    def test_not_without_harm(self) -> None:
        assert not is_emergency(overrun())

    def test_a_red_service(self) -> None:
        assert is_emergency(overrun(services=(service(who=SERVE),)))

    @pytest.mark.parametrize("health", [Health.GREEN, Health.UNKNOWN])
    def test_a_service_that_is_not_red(self, health: Health) -> None:
        assert not is_emergency(overrun(services=(service(health=health, who=SERVE),)))

    def test_a_red_service_of_somebody_elsewhere(self) -> None:
        assert not is_emergency(overrun(services=(service(who="elsewhere"),)))

    def test_a_breached_reserve(self) -> None:
        assert is_emergency(overrun(reserve="50GiB", used_mib=40_000))

    def test_a_locked_device(self) -> None:
        assert is_emergency(overrun(events=(xid(109),)))

    def test_nobody_protected_there_nobody_harmed(self) -> None:
        story = Story()
        for tenth in range(2):
            story.see(NOW + tenth / 10, tenants=[HOG], uses=[use(HOG, 20_000)], events=(xid(109),))
        assert not is_emergency(story)

    def test_it_holds_then_terms_then_kills(self) -> None:
        story = overrun(services=(service(who=SERVE),))
        assert kinds(story.looks[-1], HOG)[-1] is Kind.FREEZE
        assert rung_of(story.mem) is Rung.HELD
        assert story.mem.cases[HOG.id].grace_s == 1.0


class TestHeldBack:
    """A case that is not in flight is an emergency only as long as somebody suffers."""

    def test_harm_that_has_passed_is_no_emergency_any_more(self) -> None:
        story = Story(config(quota={"warmup_s": 0}))
        blocker = tenant("blocker", quota_mib=1_000)
        around: dict[str, Any] = {
            "tenants": [SERVE, HOG, blocker],
            "uses": [use(SERVE, 1_000), use(HOG, 11_000), use(blocker, 9_000)],
        }
        for tenth in range(2):
            story.see(NOW + tenth / 10, **around, services=(service(who=SERVE),))
        assert rung_of(story.mem, blocker) is Rung.HELD
        assert rung_of(story.mem, HOG) is Rung.WARNED
        assert is_emergency(story)
        story.see(NOW + 0.3, **around, services=(service(who=SERVE, health=Health.GREEN),))
        assert not is_emergency(story)
        assert story.mem.cases[HOG.id].grace_s == HOG.grace_s
