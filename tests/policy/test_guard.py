"""The only gate to harm: each budget, and the edge of each."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.config import Config
from gpuwarden.model.action import HARMFUL, Kind
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.ids import CgroupId
from gpuwarden.model.memory import IN_FLIGHT, Case, Memory, Rung
from gpuwarden.model.tenant import Tenant, TenantClass
from gpuwarden.policy import guard
from tests.policy.builders import (
    HIGH,
    LOW,
    NORMAL,
    NOW,
    PROTECTED,
    case,
    config,
    device_id,
    device_memory,
    gpu,
    memory,
    remembering,
    scene,
    snap,
    target,
    tenant,
    use,
)

HOG = tenant("hog")
EVICTION = (Kind.FREEZE, Kind.RESTART_OFF, Kind.TERM, Kind.KILL, Kind.STOP)


def budget(
    kind: Kind,
    who: Case | None = None,
    *,
    cfg: Config | None = None,
    mem: Memory | None = None,
    tenants: tuple[Tenant, ...] = (HOG,),
    device: Device | None = None,
    listed_at: float = NOW,
    busy: tuple[tuple[int, str], ...] = (),
    **look: Any,
) -> str | None:
    cfg = cfg or config()
    around = snap(
        gpus=[device or gpu(listed_at=listed_at), gpu(1)],
        tenants=tenants,
        uses=[use(HOG, 9_000, at=listed_at)],
        **look,
    )
    refusal = guard.permit(
        cfg,
        mem or memory(),
        scene(cfg, around),
        who or case(HOG, Rung.TERMED),
        kind,
        [(device_id(index), tenant(name).id) for index, name in busy],
    )
    return None if refusal is None else refusal.budget


@pytest.mark.parametrize("kind", sorted(set(Kind) - HARMFUL))
def test_undo_and_words_are_never_withheld(kind: Kind) -> None:
    bad = tenant("hog", cls=PROTECTED, is_never_victim=True, is_described=False)
    assert budget(kind, cfg=config("observe"), tenants=(bad,), can_record=False) is None


@pytest.mark.parametrize("kind", EVICTION)
def test_a_convicted_tenant_of_a_low_class_may_go(kind: Kind) -> None:
    assert budget(kind) is None


class TestMode:
    @pytest.mark.parametrize("kind", sorted(HARMFUL))
    def test_observe_withholds_every_harm(self, kind: Kind) -> None:
        assert budget(kind, cfg=config("observe")) == "observe"

    @pytest.mark.parametrize(
        ("reason", "rule"),
        [
            ("quota-soft", "quota"),
            ("quota-hard", "quota"),
            ("reserve", "reserve"),
            ("tombstone", "tombstone"),
            ("unattributed", "unattributed"),
            ("pressure", "pressure"),
        ],
    )
    def test_a_rules_own_mode_counts(self, reason: str, rule: str) -> None:
        who = case(HOG, Rung.TERMED, reason=reason)
        off = config("enforce", rules={rule: {"mode": "observe"}})
        on = config("observe", rules={rule: {"mode": "enforce"}})
        assert budget(Kind.TERM, who, cfg=off) == "observe"
        assert budget(Kind.TERM, who, cfg=on) is None

    def test_the_default_is_observe(self) -> None:
        assert budget(Kind.TERM, cfg=Config()) == "observe"

    def test_a_rule_that_is_off_is_not_asked(self) -> None:
        assert not guard.is_on(config(rules={"quota": {"mode": "off"}}), "quota")
        assert guard.is_on(config(), "quota")
        assert not guard.is_enforcing(config(rules={"quota": {"mode": "off"}}), "quota")


class TestWho:
    @pytest.mark.parametrize(
        ("who", "why"),
        [
            (tenant("hog", cls=PROTECTED), "protected"),
            (tenant("hog", is_never_victim=True), "never-victim"),
            (tenant("hog", is_described=False), "undescribed"),
            (tenant("hog", cannot_act="no docker"), "cannot-act"),
            (tenant("hog", is_described=False, cannot_act="no docker"), "cannot-act"),
        ],
    )
    @pytest.mark.parametrize("kind", [*EVICTION, Kind.THROTTLE])
    @pytest.mark.parametrize("rung", sorted(IN_FLIGHT | {Rung.THROTTLED}))
    def test_whom_nothing_may_hit_on_any_rung(
        self, who: Tenant, why: str, kind: Kind, rung: Rung
    ) -> None:
        begun = remembering(case(HOG, rung))
        assert budget(kind, case(HOG, rung), tenants=(who,)) == why
        if why != "undescribed":  # it was described when its eviction began; it may be gone by now
            assert budget(kind, case(HOG, rung), tenants=(who,), mem=begun) == why

    def test_whom_this_look_does_not_show(self) -> None:
        assert budget(Kind.TERM, tenants=()) == "absent"

    def test_whoever_has_another_tenant_inside(self) -> None:
        inner = tenant("inner", cgroup=CgroupId(path="/docker/hog/kubepods/inner", inode=5))
        assert budget(Kind.KILL, tenants=(HOG, inner)) == "nested"
        assert budget(Kind.THROTTLE, case(HOG, Rung.THROTTLED), tenants=(HOG, inner)) == "nested"
        beside = tenant("beside", cgroup=CgroupId(path="/docker/hogwarts", inode=5))
        assert budget(Kind.KILL, tenants=(HOG, beside)) is None

    def test_the_inner_one_alone_may_go(self) -> None:
        outer = tenant("outer", cgroup=CgroupId(path="/docker", inode=5))
        assert budget(Kind.KILL, tenants=(HOG, outer)) is None


class TestJournal:
    @pytest.mark.parametrize("kind", sorted(HARMFUL - {Kind.SET_LIMIT, Kind.SET_HOST_LIMITS}))
    def test_what_cannot_be_written_down_is_not_done(self, kind: Kind) -> None:
        assert budget(kind, can_record=False) == "journal"


class TestDeviceActions:
    def test_a_cordon_needs_the_fleets_leave(self) -> None:
        assert budget(Kind.CORDON) is None
        assert budget(Kind.CORDON, fleet_permit=False) == "permit"
        mine, other = ("cordon", device_id(0)), ("cordon", device_id(1))
        assert budget(Kind.CORDON, fleet_permit=False, permits=(mine,)) is None
        assert budget(Kind.CORDON, fleet_permit=False, permits=(other,)) == "permit"
        assert budget(Kind.CORDON, fleet_permit=False, permits=(("reboot", mine[1]),)) == "permit"

    def test_a_relocation_needs_the_operators(self) -> None:
        assert budget(Kind.RELOCATE) == "operator"
        assert budget(Kind.RELOCATE, cfg=config(ladder={"allow_protected_restart": True})) is None


class TestFreshness:
    @pytest.mark.parametrize(("age", "why"), [(1.0, None), (1.01, "stale")])
    def test_an_eviction_begins_on_a_fresh_list(self, age: float, why: str | None) -> None:
        assert budget(Kind.TERM, listed_at=NOW - age) == why

    @pytest.mark.parametrize(("age", "why"), [(2.0, None), (2.01, "stale")])
    def test_and_on_a_fresh_reading(self, age: float, why: str | None) -> None:
        assert budget(Kind.TERM, device=gpu(at=NOW - age, listed_at=NOW)) == why

    @pytest.mark.parametrize("sight", [Sight.BLIND, Sight.LOST])
    def test_and_on_a_device_that_is_seen(self, sight: Sight) -> None:
        assert budget(Kind.TERM, device=gpu(sight=sight)) == "stale"

    def test_a_tenant_that_is_not_on_the_device_is_not_evicted_from_it(self) -> None:
        assert budget(Kind.TERM, case(HOG, Rung.TERMED, on=1)) == "stale"

    @pytest.mark.parametrize("kind", [Kind.TERM, Kind.KILL])
    @pytest.mark.parametrize(("age", "why"), [(1.0, None), (1.01, "stale")])
    def test_it_is_measured_again_before_each_rung(
        self, kind: Kind, age: float, why: str | None
    ) -> None:
        begun = remembering(case(HOG, Rung.HELD))
        assert budget(kind, mem=begun, listed_at=NOW - age) == why

    def test_a_list_that_left_it_out_does_not_measure_it(self) -> None:
        begun = remembering(case(HOG, Rung.TERMED))
        look = {"device": gpu(listed_at=NOW), "listed_at": NOW - 1.01}
        assert budget(Kind.KILL, mem=begun, **look) == "stale"  # type: ignore[arg-type]

    def test_a_device_gone_blind_ends_the_climb(self) -> None:
        begun = remembering(case(HOG, Rung.TERMED))
        assert budget(Kind.KILL, mem=begun, device=gpu(sight=Sight.BLIND)) == "stale"

    @pytest.mark.parametrize(("age", "why"), [(4.0, None), (4.01, "stale")])
    def test_an_emergency_may_end_what_it_began_on_two_lists_old_sight(
        self, age: float, why: str | None
    ) -> None:
        urgent = case(HOG, Rung.KILLED, is_emergency=True)
        begun = remembering(case(HOG, Rung.TERMED, is_emergency=True))
        blind = gpu(sight=Sight.BLIND, listed_at=NOW - age)
        assert budget(Kind.KILL, urgent, mem=begun, device=blind) == why

    def test_the_runtimes_bookkeeping_after_the_kill_needs_no_sight(self) -> None:
        begun = remembering(case(HOG, Rung.KILLED))
        gone = case(HOG, Rung.STOPPED)
        assert budget(Kind.STOP, gone, mem=begun, device=gpu(sight=Sight.BLIND)) is None

    @pytest.mark.parametrize(("age", "why"), [(4.0, None), (4.01, "stale")])
    def test_a_throttle_needs_a_list_at_most_two_intervals_old(
        self, age: float, why: str | None
    ) -> None:
        who = case(HOG, Rung.THROTTLED)
        assert budget(Kind.THROTTLE, who, listed_at=NOW - age) == why


class TestOnePerDevice:
    def test_somebody_elses_eviction_on_the_device(self) -> None:
        assert budget(Kind.TERM, busy=((0, "other"),)) == "one-per-device"

    def test_its_own_does_not_stand_in_its_way(self) -> None:
        assert budget(Kind.TERM, busy=((0, "hog"),)) is None

    def test_one_on_another_device_does_not(self) -> None:
        assert budget(Kind.TERM, busy=((1, "other"),)) is None

    def test_one_on_any_device_it_holds_does(self) -> None:
        both = case(HOG, Rung.TERMED, devices=(device_id(0), device_id(1)))
        assert budget(Kind.TERM, both, busy=((1, "other"),)) == "one-per-device"

    def test_a_held_owners_tenant_waits_too(self) -> None:
        held = case(HOG, Rung.STOPPED, reason="tombstone")
        assert budget(Kind.STOP, held, busy=((0, "other"),)) == "one-per-device"

    def test_one_that_has_begun_is_not_stopped_by_it(self) -> None:
        begun = remembering(case(HOG, Rung.HELD))
        assert budget(Kind.TERM, mem=begun, busy=((0, "other"),)) is None


class TestPauses:
    @pytest.mark.parametrize(("until", "why"), [(NOW, None), (NOW + 0.01, "cooldown")])
    def test_cooldown(self, until: float, why: str | None) -> None:
        mem = memory(devices={device_id(0): device_memory(cooldown_until=until)})
        assert budget(Kind.TERM, mem=mem) == why

    @pytest.mark.parametrize(("started", "why"), [(NOW - 2, None), (NOW - 1.99, "warm-up")])
    def test_warm_up(self, started: float, why: str | None) -> None:
        assert budget(Kind.TERM, mem=memory(started_at=started)) == why

    def test_an_emergency_waits_for_neither(self) -> None:
        urgent = case(HOG, Rung.HELD, is_emergency=True)
        mem = memory(started_at=NOW, devices={device_id(0): device_memory(cooldown_until=NOW + 10)})
        assert budget(Kind.FREEZE, urgent, mem=mem) is None

    def test_but_for_a_fresh_list_and_its_turn_it_does(self) -> None:
        urgent = case(HOG, Rung.HELD, is_emergency=True)
        assert budget(Kind.FREEZE, urgent, listed_at=NOW - 1.01) == "stale"
        assert budget(Kind.FREEZE, urgent, busy=((0, "other"),)) == "one-per-device"


@pytest.mark.parametrize(
    ("cls", "evict_high", "may"),
    [
        (PROTECTED, True, False),
        (HIGH, False, False),
        (HIGH, True, True),
        (NORMAL, False, True),
        (LOW, False, True),
    ],
)
def test_who_may_go_for_his_own_overrun(cls: TenantClass, evict_high: bool, may: bool) -> None:
    cfg = config(quota={"evict_high": evict_high})
    assert guard.may_evict_class(cfg, cls, Rung.HELD) is may


def test_the_target_in_these_tests_has_a_group_of_its_own() -> None:
    assert target(HOG).cgroup is not None
