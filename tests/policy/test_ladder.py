"""The ladder: the full product of its table, a way to rest from everywhere, and each event's edge."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.config import Config
from gpuwarden.model.action import HARMFUL, Kind
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.memory import IN_FLIGHT, Case, Rung
from gpuwarden.model.tenant import Standing, TenantClass
from gpuwarden.policy import ladder
from gpuwarden.policy.ladder import Event, Judgement, event_of, orders, step
from tests.policy.builders import (
    BEST_EFFORT,
    HIGH,
    LOW,
    MIB,
    NORMAL,
    NOW,
    PROTECTED,
    case,
    config,
    device_id,
    gpu,
    scene,
    snap,
    standing,
    tenant,
    use,
)

HOG = tenant("hog", quota_mib=10_000)
REST = frozenset({Rung.DONE, Rung.STUCK})
CLIMB = [
    Rung.WATCH,
    Rung.WARNED,
    Rung.THROTTLED,
    Rung.HELD,
    Rung.TERMED,
    Rung.KILLED,
    Rung.STOPPED,
    Rung.STUCK,
]


class TestTable:
    def test_every_rung_and_event_lead_to_a_rung(self) -> None:
        pairs = list(itertools.product(Rung, Event))
        assert all(step(r, e) in Rung for r, e in pairs)
        assert len(pairs) == len(Rung) * len(Event)

    def test_every_rung_can_reach_the_end(self) -> None:
        for rung in Rung:
            reached = {rung}
            while new := {step(r, e) for r in reached for e in Event} - reached:
                reached |= new
            assert Rung.DONE in reached, rung

    def test_nothing_leads_down_except_to_the_end(self) -> None:
        for rung, event in itertools.product(CLIMB, Event):
            to = step(rung, event)
            assert to is Rung.DONE or CLIMB.index(to) >= CLIMB.index(rung)

    def test_the_end_is_the_end(self) -> None:
        assert {step(Rung.DONE, e) for e in Event} == {Rung.DONE}

    def test_no_eviction_begins_without_a_conviction(self) -> None:
        for rung, event in itertools.product(set(Rung) - IN_FLIGHT, Event):
            if step(rung, event) in IN_FLIGHT:
                assert event is Event.CONVICTED

    def test_nobody_is_killed_before_the_grace_is_over_or_was_none(self) -> None:
        for rung, event in itertools.product(Rung, Event):
            if step(rung, event) is Rung.KILLED and rung is not Rung.KILLED:
                assert event in (Event.GRACE_OVER, Event.NO_GRACE)

    def test_nothing_happens_leaves_everything(self) -> None:
        assert all(step(r, Event.NOTHING) is r for r in Rung)

    def test_the_table_names_no_step_twice_and_no_step_that_stays(self) -> None:
        assert all(to is not rung for (rung, _), to in ladder.TABLE.items())


def happened(
    rung: Rung,
    *,
    waited: float = 0.0,
    said: Judgement | None = None,
    cfg: Config | None = None,
    device: Device | None = None,
    used_mib: int | None = 12_000,
    stand: Standing | None = None,
    who: dict[str, Any] | None = None,
    has_tenant: bool = True,
    quota_mib: int | None = 10_000,
    is_described: bool = True,
) -> Event:
    """What counts for a case that has stood on its rung for ``waited`` seconds."""
    cfg = cfg or config()
    hog = replace(tenant("hog", quota_mib=quota_mib), is_described=is_described)
    look = snap(
        gpus=[device or gpu()],
        tenants=[hog] if has_tenant else [],
        uses=[] if used_mib is None else [use(hog, used_mib)],
        standings=(stand or standing(hog),),
    )
    given = {"since": NOW - waited, "limit_bytes": HOG.hard_bytes, **(who or {})}
    return event_of(cfg, case(HOG, rung, **given), said or Judgement(), scene(cfg, look))


class TestEarly:
    EARLY = (Rung.WATCH, Rung.WARNED, Rung.THROTTLED)

    @pytest.mark.parametrize("rung", EARLY)
    def test_a_conviction_counts_before_anything_else(self, rung: Rung) -> None:
        said = Judgement(is_noticed=True, is_convicted=True, is_soft=True)
        assert happened(rung, said=said, waited=99) is Event.CONVICTED

    @pytest.mark.parametrize("rung", EARLY)
    def test_a_tenant_that_is_not_there_ends_the_case(self, rung: Rung) -> None:
        said = Judgement(is_convicted=True)
        assert happened(rung, said=said, has_tenant=False) is Event.GONE

    @pytest.mark.parametrize("rung", EARLY)
    @pytest.mark.parametrize("device", [gpu(sight=Sight.BLIND), gpu(listed_at=None)])
    def test_one_that_nobody_can_have_seen_is_not_gone(self, rung: Rung, device: Device) -> None:
        assert happened(rung, has_tenant=False, device=device) is Event.NOTHING

    @pytest.mark.parametrize("rung", EARLY)
    def test_nor_is_one_right_after_a_start(self, rung: Rung) -> None:
        look = scene(config(), snap(gpus=[]))
        assert event_of(config(), case(HOG, rung), Judgement(), look) is Event.NOTHING

    @pytest.mark.parametrize("rung", EARLY)
    def test_one_whose_quota_is_not_known_yet_stays_where_it_is(self, rung: Rung) -> None:
        assert happened(rung, quota_mib=None, is_described=False) is Event.NOTHING

    @pytest.mark.parametrize("rung", EARLY)
    def test_nothing_said_any_more_ends_it(self, rung: Rung) -> None:
        assert happened(rung) is Event.FREED

    def test_noticed_warns_and_then_waits(self) -> None:
        said = Judgement(is_noticed=True)
        assert happened(Rung.WATCH, said=said) is Event.NOTICED
        assert happened(Rung.WARNED, said=said, waited=99) is Event.NOTHING

    @pytest.mark.parametrize(("waited", "event"), [(9.99, Event.NOTHING), (10.0, Event.PERSISTS)])
    def test_over_soft_ten_seconds_after_the_warning(self, waited: float, event: Event) -> None:
        said = Judgement(is_noticed=True, is_soft=True)
        assert happened(Rung.WARNED, said=said, waited=waited) is event


class TestHeld:
    def test_ready_when_nothing_will_bring_it_back(self) -> None:
        assert happened(Rung.HELD) is Event.READY

    def test_without_grace_it_is_killed_next(self) -> None:
        assert happened(Rung.HELD, who={"grace_s": 0.0}) is Event.NO_GRACE

    @pytest.mark.parametrize(("waited", "event"), [(0.14, Event.NOTHING), (0.15, Event.READY)])
    def test_it_waits_a_little_for_the_restart_policy(self, waited: float, event: Event) -> None:
        assert happened(Rung.HELD, waited=waited, who={"is_restart_settled": False}) is event


class TestTermed:
    @pytest.mark.parametrize(("waited", "event"), [(9.99, Event.NOTHING), (10.0, Event.GRACE_OVER)])
    def test_the_grace_to_the_second(self, waited: float, event: Event) -> None:
        assert happened(Rung.TERMED, waited=waited) is event

    @pytest.mark.parametrize("rung", [Rung.HELD, Rung.TERMED])
    @pytest.mark.parametrize(
        ("used_mib", "obeyed"), [(9_500, True), (9_501, False), (0, True), (None, True)]
    )
    def test_giving_the_bytes_back_is_enough(
        self, rung: Rung, used_mib: int | None, obeyed: bool
    ) -> None:
        event = happened(rung, waited=0.1, used_mib=used_mib)
        assert (event is Event.OBEYED) is obeyed

    @pytest.mark.parametrize("rung", [Rung.HELD, Rung.TERMED])
    def test_in_an_emergency_it_is_not(self, rung: Rung) -> None:
        who = {"is_emergency": True}
        assert happened(rung, waited=0.1, used_mib=0, who=who) is not Event.OBEYED

    def test_a_list_from_before_it_was_asked_proves_nothing(self) -> None:
        device = gpu(listed_at=NOW - 0.2)
        assert happened(Rung.TERMED, waited=0.1, used_mib=0, device=device) is Event.NOTHING

    def test_nor_does_a_stale_one_or_a_blind_device(self) -> None:
        stale = gpu(listed_at=NOW - 1.01)
        blind = gpu(sight=Sight.BLIND)
        for device in (stale, blind):
            assert happened(Rung.TERMED, waited=5, used_mib=0, device=device) is Event.NOTHING

    def test_a_quota_raised_or_taken_away_meanwhile_lets_it_go(self) -> None:
        assert happened(Rung.TERMED, waited=0.1, quota_mib=13_000) is Event.OBEYED
        assert happened(Rung.TERMED, waited=0.1, quota_mib=None) is Event.OBEYED

    @pytest.mark.parametrize("rung", [Rung.HELD, Rung.TERMED])
    def test_a_quota_that_is_not_known_yet_lets_nobody_go(self, rung: Rung) -> None:
        event = happened(rung, waited=0.1, quota_mib=None, is_described=False)
        assert event is not Event.OBEYED

    @pytest.mark.parametrize(("free", "event"), [(8_192, Event.OBEYED), (8_191, Event.NOTHING)])
    def test_who_goes_for_a_reserve_is_spared_once_it_is_made_good(
        self, free: int, event: Event
    ) -> None:
        cfg = config(reserve={"bytes": "8GiB"})
        device = gpu(used_mib=81_920 - free)
        who = {"reason": "reserve"}
        assert happened(Rung.TERMED, waited=0.1, cfg=cfg, device=device, who=who) is event


class TestKilled:
    @pytest.mark.parametrize(("waited", "event"), [(1.99, Event.NOTHING), (2.0, Event.STILL_THERE)])
    def test_still_there_after_two_seconds(self, waited: float, event: Event) -> None:
        assert happened(Rung.KILLED, waited=waited) is event

    @pytest.mark.parametrize(("waited", "event"), [(9.99, Event.NOTHING), (10.0, Event.GIVE_UP)])
    def test_given_up_after_ten(self, waited: float, event: Event) -> None:
        assert happened(Rung.STOPPED, waited=waited) is event

    @pytest.mark.parametrize(("waited", "event"), [(39.9, Event.NOTHING), (40.0, Event.GIVE_UP)])
    def test_a_held_owners_tenant_has_its_grace_first(self, waited: float, event: Event) -> None:
        who = {"reason": "tombstone", "grace_s": 30.0}
        assert happened(Rung.STOPPED, waited=waited, who=who) is event


class TestGone:
    IN_ACTION = sorted(IN_FLIGHT | {Rung.STUCK})
    EMPTY = standing(HOG, is_populated=False)

    @pytest.mark.parametrize("rung", IN_ACTION)
    def test_empty_and_the_bytes_back(self, rung: Rung) -> None:
        assert happened(rung, waited=0.1, used_mib=None, stand=self.EMPTY) is Event.FREED

    @pytest.mark.parametrize("rung", IN_ACTION)
    @pytest.mark.parametrize(
        "unproven",
        [
            {"used_mib": 1},  # bytes stay
            {"stand": standing(HOG, is_populated=True)},  # somebody is in there
            {"stand": standing(HOG, is_populated=None)},  # could not be read
            {"stand": standing("another", is_populated=False)},  # was not read
            {"stand": standing(HOG, is_populated=False, live_pids=HOG.pids)},  # lives elsewhere
            {"device": gpu(listed_at=NOW - 0.2)},  # not listed since
            {"device": gpu(listed_at=None)},
            {"device": gpu(sight=Sight.BLIND)},
        ],
    )
    def test_nothing_less_is_success(self, rung: Rung, unproven: dict[str, Any]) -> None:
        given = {"waited": 0.1, "used_mib": None, "stand": self.EMPTY, **unproven}
        emergency = {"is_emergency": True}
        assert happened(rung, who=emergency, **given) is not Event.FREED

    def test_a_device_the_driver_has_lost_holds_nothing(self) -> None:
        lost = gpu(sight=Sight.LOST)
        assert happened(Rung.KILLED, used_mib=12_000, stand=self.EMPTY, device=lost) is Event.FREED

    def test_bytes_on_another_of_its_devices_count(self) -> None:
        look = snap(gpus=[gpu(0), gpu(1)], uses=[use(HOG, 5, on=1)], standings=(self.EMPTY,))
        both = case(HOG, Rung.KILLED, since=NOW - 0.1, devices=(device_id(0), device_id(1)))
        assert event_of(config(), both, Judgement(), scene(look=look)) is Event.NOTHING

    @pytest.mark.parametrize(
        ("nobodys", "is_back"), [(1_000, True), (1_512, True), (1_513, False), (13_000, False)]
    )
    def test_bytes_that_are_nobodys_now_are_not_back(self, nobodys: int, is_back: bool) -> None:
        look = snap(
            gpus=[gpu()],
            standings=(self.EMPTY,),
            unattributed=((device_id(0), nobodys * MIB),),
        )
        ended = case(
            HOG,
            Rung.KILLED,
            since=NOW - 0.1,
            held=((device_id(0), 12_000 * MIB),),
            nobodys=((device_id(0), 1_000 * MIB),),
        )
        event = event_of(config(), ended, Judgement(), scene(look=look))
        assert (event is Event.FREED) is is_back

    @pytest.mark.parametrize("rung", IN_ACTION)
    def test_another_thing_under_its_name_ends_the_case(self, rung: Rung) -> None:
        stand = standing(HOG, identity_holds=False)
        assert happened(rung, waited=99, stand=stand) is Event.GONE


class TestOrders:
    def test_only_what_the_rung_is_for(self) -> None:
        assert orders(case(HOG, Rung.WATCH)) == ()
        assert orders(case(HOG, Rung.WARNED)) == (Kind.WARN,)
        assert orders(case(HOG, Rung.THROTTLED)) == (Kind.THROTTLE,)
        assert orders(case(HOG, Rung.HELD)) == (Kind.FREEZE,)
        assert orders(case(HOG, Rung.TERMED)) == (Kind.TERM,)
        assert orders(case(HOG, Rung.KILLED)) == (Kind.KILL,)
        assert orders(case(HOG, Rung.STOPPED)) == (Kind.STOP,)
        assert orders(case(HOG, Rung.STUCK)) == (Kind.CORDON, Kind.PAGE)
        assert orders(case(HOG, Rung.DONE)) == ()

    def test_a_signal_reaches_what_is_frozen_and_then_it_is_let_go(self) -> None:
        frozen: dict[str, Any] = {"frozen_since": NOW}
        assert orders(case(HOG, Rung.TERMED, **frozen)) == (Kind.TERM, Kind.THAW)
        assert orders(case(HOG, Rung.KILLED, **frozen)) == (Kind.KILL, Kind.THAW)

    def test_the_restart_policy_goes_before_anything_ends(self) -> None:
        unsettled = {"is_restart_settled": False, "is_restart_off": False}
        assert orders(case(HOG, Rung.HELD, **unsettled)) == (Kind.FREEZE, Kind.RESTART_OFF)

    def test_one_that_may_be_restarted_is_stopped_in_its_runtime_with_the_kill(self) -> None:
        assert orders(case(HOG, Rung.KILLED, is_restart_off=False)) == (Kind.KILL, Kind.STOP)

    @pytest.mark.parametrize("runtime", sorted(ladder.STOP_WITH_TERM))
    def test_a_manager_is_asked_together_with_the_signal(self, runtime: str) -> None:
        who = tenant("job", runtime=runtime)
        assert orders(case(who, Rung.TERMED)) == (Kind.TERM, Kind.STOP)
        assert orders(case(who, Rung.KILLED)) == (Kind.KILL, Kind.STOP)

    def test_one_that_podman_would_start_again_is_ended_by_podman_s_stop(self) -> None:
        """A signal of ours would have it started again before its stop is heard of."""
        box = tenant("box", runtime="podman")
        back: dict[str, Any] = {"is_restart_off": False, "frozen_since": NOW}
        assert orders(case(box, Rung.TERMED, **back)) == (Kind.THAW, Kind.STOP)
        assert orders(case(box, Rung.KILLED, **back)) == (Kind.KILL, Kind.THAW, Kind.STOP)
        assert orders(case(box, Rung.TERMED)) == (Kind.TERM,)

    def test_a_pod_s_container_is_stopped_alike_under_either_cgroup_driver(self) -> None:
        """The systemd driver's paths tell the runtime; those of cgroupfs only that it is a pod's."""
        assert {"containerd", "crio", "kubernetes"} <= ladder.STOP_WITH_TERM

    def test_what_somebody_else_paused_is_not_held(self) -> None:
        paused = {"is_paused": True, "is_restart_settled": False}
        assert orders(case(HOG, Rung.HELD, **paused)) == (Kind.RESTART_OFF,)
        assert ladder.enter(case(HOG, is_paused=True), Rung.HELD, NOW).frozen_since is None

    def test_without_a_group_there_is_nothing_to_slow_or_hold(self) -> None:
        bare = tenant("bare", runtime="pgrp", cgroup=None)
        assert orders(case(bare, Rung.THROTTLED)) == ()
        assert orders(case(bare, Rung.HELD)) == ()
        assert ladder.enter(case(bare), Rung.HELD, NOW).frozen_since is None

    def test_no_rung_below_the_evictions_orders_more_than_a_throttle(self) -> None:
        for rung in set(Rung) - IN_FLIGHT - {Rung.STUCK}:
            assert set(orders(case(HOG, rung, frozen_since=NOW))) & HARMFUL <= {Kind.THROTTLE}


class TestGrace:
    def test_by_class(self) -> None:
        graces = {c: ladder.class_grace_s(config(), c) for c in TenantClass}
        assert graces == {HIGH: 30.0, NORMAL: 30.0, LOW: 10.0, BEST_EFFORT: 2.0, PROTECTED: 300.0}

    @pytest.mark.parametrize(
        ("own", "emergency", "grace"),
        [
            (10.0, False, 10.0),
            (10.0, True, 1.0),
            (0.5, True, 0.5),
            (0.0, True, 0.0),
            (900.0, False, 300.0),
        ],
    )
    def test_an_emergency_shortens_it_and_never_lengthens_it(
        self, own: float, emergency: bool, grace: float
    ) -> None:
        who = tenant(grace_s=own)
        assert ladder.grace_s(config(), who, is_emergency=emergency) == grace


def test_entering_a_rung_starts_its_clock_and_keeps_what_is_owed() -> None:
    before: Case = case(HOG, Rung.HELD, since=1.0, frozen_since=1.0, is_throttled=True)
    after = ladder.enter(before, Rung.TERMED, NOW)
    assert (after.rung, after.since, after.frozen_since, after.is_throttled) == (
        Rung.TERMED,
        NOW,
        1.0,
        True,
    )
