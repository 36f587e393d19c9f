"""A case's way along the ladder, look by look, with the outcomes a node would fold in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.model.action import HARMFUL, Kind, Result
from gpuwarden.model.decision import NoteKind
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.memory import Case, Rung
from gpuwarden.model.tenant import Standing, Tenant, Use
from tests.policy.builders import (
    HIGH,
    LOW,
    NORMAL,
    NOW,
    PROTECTED,
    Story,
    budgets,
    config,
    device_id,
    gpu,
    kinds,
    rung_of,
    service,
    standing,
    tenant,
    use,
)

HOG = tenant("hog", quota_mib=10_000)
SERVE = tenant("serve", cls=PROTECTED, quota_mib=None)
RED = (service(who=SERVE),)


class Play:
    """A hog over its quota, looked at every tenth of a second."""

    def __init__(self, who: Tenant = HOG, **sections: Any) -> None:
        self.who = who
        self.story = Story(config(**sections))
        self.at = NOW
        self.used = 20_000
        self.populated: bool | None = True
        self.listed = True
        self.extra: list[tuple[Tenant, Use]] = []
        self.look: dict[str, Any] = {}
        self.device: Device = gpu(used_mib=30_000)

    def step(self, seconds: float = 0.1) -> list[Kind]:
        self.at = round(self.at + seconds, 3)
        alive = [(self.who, use(self.who, self.used))] if self.used else []
        both = [*alive, *self.extra]
        stand: Standing = standing(self.who, is_populated=self.populated)
        decision = self.story.see(
            self.at,
            gpus=[self.device],
            tenants=[t for t, _ in both],
            uses=[u for _, u in both],
            standings=(stand,),
            listed_at=None if self.listed else self.at - 9,
            **self.look,
        )
        return kinds(decision, self.who)

    def until(self, rung: Rung | None, limit: float = 60.0) -> float:
        """Step until it stands on a rung (None: its case is over); how long that took."""
        start = self.at
        while rung_of(self.story.mem, self.who) is not rung:
            assert self.at - start < limit, f"never {rung}: {self.story.ordered}"
            self.step()
        return round(self.at - start, 6)

    @property
    def case(self) -> Case:
        return self.story.mem.cases[self.who.id]

    def convicted(self) -> Play:
        self.step()
        self.step()
        return self

    def dies(self) -> None:
        self.used, self.populated = 0, False


class TestOrdinary:
    def test_warn_term_kill_stop_stuck_each_in_its_time(self) -> None:
        play = Play()
        assert play.step() == [Kind.WARN]
        assert play.step() == [Kind.TERM]
        assert play.until(Rung.KILLED) == pytest.approx(10.0)
        assert play.until(Rung.STOPPED) == pytest.approx(2.0)
        assert play.until(Rung.STUCK) == pytest.approx(10.0)
        assert [k for _, k, _ in play.story.ordered] == [
            Kind.WARN,
            Kind.TERM,
            Kind.KILL,
            Kind.STOP,
            Kind.CORDON,
            Kind.PAGE,
        ]
        for _ in range(100):
            assert play.step() == []

    def test_a_soft_breach_warns_and_throttles_and_goes_no_further(self) -> None:
        play = Play()
        play.used = 10_100
        for _ in range(600):
            play.step()
        assert [k for _, k, _ in play.story.ordered] == [Kind.WARN, Kind.THROTTLE]
        play.used = 9_000
        for _ in range(310):
            play.step()
        assert [k for _, k, _ in play.story.ordered][2:] == [Kind.UNTHROTTLE]
        assert play.story.mem.debts == ()

    def test_success_is_an_empty_group_and_the_bytes_back(self) -> None:
        play = Play().convicted()
        play.populated = False
        for _ in range(20):
            play.step()
        assert rung_of(play.story.mem) is Rung.TERMED  # gone, and its bytes are still there
        play.used = 0
        play.step()
        assert rung_of(play.story.mem) is None

    def test_who_gives_the_bytes_back_is_not_killed_and_has_not_been_evicted(self) -> None:
        play = Play().convicted()
        play.used = 9_000
        play.step()
        assert rung_of(play.story.mem) is not Rung.TERMED
        for _ in range(200):
            play.step()
        assert play.story.times(Kind.KILL) == []
        assert play.story.mem.tombstones == {}

    def test_no_grace_no_term(self) -> None:
        play = Play(replace(HOG, grace_s=0.0))
        play.step()
        assert play.step() == [Kind.KILL]

    def test_high_over_quota_is_warned_and_people_are_told(self) -> None:
        play = Play(replace(HOG, cls=HIGH))
        for _ in range(100):
            play.step()
        ordered = [k for _, k, _ in play.story.ordered]
        assert ordered == [Kind.WARN, Kind.PAGE]


class TestEmergency:
    def emergency(self, who: Tenant = HOG) -> Play:
        play = Play(who)
        play.extra = [(SERVE, use(SERVE, 1_000))]
        play.look = {"services": RED}
        return play.convicted()

    def test_hold_then_term_and_thaw_then_kill_after_a_second(self) -> None:
        play = self.emergency()
        assert kinds(play.story.looks[-1], HOG) == [Kind.FREEZE]
        assert play.step() == [Kind.TERM, Kind.THAW]
        assert play.until(Rung.KILLED) == pytest.approx(1.0)

    def test_an_eviction_under_way_becomes_one(self) -> None:
        play = Play().convicted()
        play.extra = [(SERVE, use(SERVE, 1_000))]
        for _ in range(30):
            play.step()
        play.look = {"services": RED}
        assert play.until(Rung.KILLED) == pytest.approx(1.1)

    def test_one_whose_grace_is_nearly_over_is_not_given_more(self) -> None:
        play = Play().convicted()
        play.extra = [(SERVE, use(SERVE, 1_000))]
        for _ in range(95):
            play.step()
        play.look = {"services": RED}
        assert play.until(Rung.KILLED) == pytest.approx(0.5)

    def test_a_tenant_without_a_group_is_not_held(self) -> None:
        bare = replace(HOG, cgroup=None, runtime="pgrp", id=HOG.id)
        play = self.emergency(bare)
        assert kinds(play.story.looks[-1], HOG) == [Kind.TERM]

    def test_giving_back_is_not_enough_any_more(self) -> None:
        play = self.emergency()
        play.step()
        play.used = 1_000
        play.until(Rung.KILLED)

    def test_a_freeze_that_failed_is_thawed_all_the_same(self) -> None:
        play = self.emergency()
        play.story.mem = replace(play.story.mem)
        play.story.answer(play.story.looks[-1], Result.FAILED)
        assert Kind.THAW in play.step()


class TestFrozen:
    def held(self) -> Play:
        play = Play(replace(HOG, restart_policy="always"))
        play.extra = [(SERVE, use(SERVE, 1_000))]
        play.look = {"services": RED}
        play.story.settle = False
        play.convicted()
        assert rung_of(play.story.mem) is Rung.HELD
        return play

    def test_never_longer_than_the_ttl_even_when_nothing_can_be_seen(self) -> None:
        play = self.held()
        play.device = gpu(sight=Sight.BLIND)
        play.listed = False
        for _ in range(19):
            assert Kind.THAW not in play.step()
        assert Kind.THAW in play.step()

    def test_a_thaw_that_fails_is_tried_again_at_once_and_again(self) -> None:
        play = self.held()
        play.step(0.2)
        thaws = play.story.times(Kind.THAW)
        assert len(thaws) == 1
        for _ in range(30):
            play.step()
        assert 6 <= len(play.story.times(Kind.THAW)) <= 7  # every half second


class TestRestarts:
    ALWAYS = replace(HOG, restart_policy="always")

    def test_the_policy_goes_first_and_term_waits_for_the_answer(self) -> None:
        play = Play(self.ALWAYS)
        play.story.settle = False
        play.step()
        assert play.step() == [Kind.FREEZE, Kind.RESTART_OFF]
        assert play.step() == []
        play.story.answer(play.story.looks[-2])
        assert play.step() == [Kind.TERM, Kind.THAW]

    def test_and_not_longer_than_it_should(self) -> None:
        play = Play(self.ALWAYS)
        play.story.settle = False
        play.convicted()
        assert play.until(Rung.TERMED) == pytest.approx(0.2)

    def test_the_old_policy_is_owed_and_given_back_when_the_window_is_over(self) -> None:
        play = Play(self.ALWAYS)
        play.story.old = {Kind.RESTART_OFF: {"Name": "always"}}
        play.convicted()
        play.step()
        play.dies()
        play.step()
        assert rung_of(play.story.mem) is None
        over = play.at
        for _ in range(599):
            assert play.step(1.0) == []
        assert play.step(1.0) == [Kind.RESTART_BACK]
        assert play.at - over == pytest.approx(600.0)
        given = play.story.looks[-1].actions[-1]
        assert dict(given.params) == {"Name": "always", "restart_policy": "always"}
        assert play.story.mem.debts == ()

    def test_given_back_by_the_worker_that_took_it(self) -> None:
        """Its lane is the device's: Docker may be slow, and the undo must not overtake the deed."""
        play = Play(self.ALWAYS).convicted()
        play.step()
        play.used = 5_000
        play.step()
        devices = {
            a.kind: a.device
            for d in play.story.looks
            for a in d.actions
            if a.kind in (Kind.RESTART_OFF, Kind.RESTART_BACK)
        }
        assert devices == {Kind.RESTART_OFF: device_id(0), Kind.RESTART_BACK: device_id(0)}

    def test_given_back_at_once_to_one_that_was_let_go(self) -> None:
        play = Play(self.ALWAYS).convicted()
        play.step()
        play.used = 5_000
        assert Kind.RESTART_BACK in play.step()

    def test_not_while_it_is_stuck(self) -> None:
        play = Play(self.ALWAYS).convicted()
        play.until(Rung.STUCK)
        for _ in range(700):
            assert Kind.RESTART_BACK not in play.step(1.0)

    def test_a_runtime_that_did_not_answer_is_asked_to_stop_it_with_the_kill(self) -> None:
        play = Play(self.ALWAYS)
        play.story.settle = False
        play.convicted()
        play.story.answer(play.story.looks[-1], Result.FAILED)
        play.story.settle = True
        play.until(Rung.KILLED)
        assert kinds(play.story.looks[-1], HOG) == [Kind.KILL, Kind.STOP]


class TestPaused:
    def test_killed_as_it_is_and_never_run_in_between(self) -> None:
        play = Play(replace(HOG, is_paused=True))
        play.step()
        assert play.step() == [Kind.KILL]

    def test_nor_held_in_an_emergency(self) -> None:
        play = Play(replace(HOG, is_paused=True))
        play.extra = [(SERVE, use(SERVE, 1_000))]
        play.look = {"services": RED}
        play.step()
        assert play.step() == [Kind.KILL]
        assert play.story.times(Kind.THAW) == []

    def test_its_restart_policy_goes_first(self) -> None:
        play = Play(replace(HOG, is_paused=True, restart_policy="always"))
        play.step()
        assert play.step() == [Kind.RESTART_OFF]
        assert play.step() == [Kind.KILL]


class TestTurns:
    A = tenant("a", quota_mib=10_000)
    B = tenant("b", quota_mib=10_000)

    def two(self, first: Tenant, second: Tenant, **sections: Any) -> Story:
        """Both convicted while nobody may go yet; the first was noticed well before the second."""
        story = Story(config(**{"quota": {"warmup_s": 105.0}, **sections}))
        for tenth in range(60):
            at = NOW + tenth / 10
            both = [first] if tenth < 10 else [first, second]
            sizes = {first.id: 11_000, second.id: 30_000}
            story.see(at, tenants=both, uses=[use(t, sizes[t.id]) for t in both])
        return story

    def test_the_worst_goes_first_not_the_one_noticed_first(self) -> None:
        story = self.two(self.A, self.B)
        assert rung_of(story.mem, self.B) is Rung.TERMED
        assert rung_of(story.mem, self.A) is Rung.WARNED

    def test_a_lower_class_before_a_worse_one(self) -> None:
        story = self.two(self.A, replace(self.B, cls=NORMAL))
        assert rung_of(story.mem, self.A) is Rung.TERMED

    def test_never_two_at_once_and_the_second_is_spared_if_it_comes_down(self) -> None:
        story = self.two(self.A, self.B)
        at = NOW + 6
        for tenth in range(40):
            at += 0.1
            story.see(
                at,
                tenants=[self.A, self.B],
                uses=[use(self.A, 11_000), use(self.B, 30_000)],
                standings=(standing(self.B),),
            )
            assert rung_of(story.mem, self.A) is Rung.WARNED, tenth
        story.see(
            at + 0.1,
            tenants=[self.A],
            uses=[use(self.A, 9_000)],
            standings=(standing(self.B, is_populated=False),),
        )
        for _ in range(20):
            at += 0.2
            story.see(at, tenants=[self.A], uses=[use(self.A, 9_000)])
        assert story.times(Kind.TERM, self.A) == []

    def test_it_is_said_once_that_the_second_waits(self) -> None:
        story = self.two(self.A, self.B)
        waiting = [b for d in story.looks for b in budgets(d) if b == "one-per-device"]
        assert waiting == ["one-per-device"]

    def test_two_devices_two_evictions(self) -> None:
        story = Story()
        for tenth in range(2):
            story.see(
                NOW + tenth / 10,
                gpus=[gpu(0), gpu(1)],
                tenants=[self.A, self.B],
                uses=[use(self.A, 20_000), use(self.B, 20_000, on=1)],
            )
        assert rung_of(story.mem, self.A) is rung_of(story.mem, self.B) is Rung.TERMED

    def test_one_that_holds_both_devices_blocks_both(self) -> None:
        story = Story()
        for tenth in range(2):
            story.see(
                NOW + tenth / 10,
                gpus=[gpu(0), gpu(1)],
                tenants=[self.A, self.B],
                uses=[use(self.A, 30_000), use(self.A, 10, on=1), use(self.B, 20_000, on=1)],
            )
        assert rung_of(story.mem, self.A) is Rung.TERMED
        assert rung_of(story.mem, self.B) is Rung.WARNED


class TestWithheld:
    @pytest.mark.parametrize(
        ("change", "budget"),
        [
            ({"is_described": False}, "undescribed"),
            ({"is_never_victim": True}, "never-victim"),
            ({"cannot_act": "no scancel here"}, "cannot-act"),
        ],
    )
    def test_said_once_and_nothing_done(self, change: dict[str, Any], budget: str) -> None:
        play = Play(replace(HOG, **change))
        for _ in range(100):
            play.step()
        assert [b for d in play.story.looks for b in budgets(d)] == [budget]
        assert not HARMFUL & {k for _, k, _ in play.story.ordered}

    def test_observe_mode_says_what_it_would_do_and_does_nothing(self) -> None:
        play = Play(mode="observe")
        for _ in range(300):
            play.step()
        assert [b for d in play.story.looks for b in budgets(d)] == ["observe"]
        assert {k for _, k, _ in play.story.ordered} <= {Kind.WARN, Kind.PAGE}

    def test_a_cordon_without_a_permit_keeps_nobody_from_being_told(self) -> None:
        play = Play()
        play.look = {"fleet_permit": False}
        play.convicted().until(Rung.STUCK)
        assert play.story.times(Kind.CORDON) == []
        assert len(play.story.times(Kind.PAGE)) == 1
        assert "permit" in [b for d in play.story.looks for b in budgets(d)]

    def test_no_rung_higher_on_a_stale_list(self) -> None:
        play = Play().convicted()
        play.listed = False
        for _ in range(200):
            play.step()
        assert rung_of(play.story.mem) is Rung.TERMED
        play.listed = True
        assert play.step() == [Kind.KILL]


class TestOwners:
    def evicted(self, play: Play) -> None:
        play.used, play.populated = 20_000, True
        play.convicted()
        play.step()
        play.dies()
        play.step()
        assert rung_of(play.story.mem, play.who) is None
        play.step(20.0)

    def test_the_owner_is_remembered_though_the_tenant_is_gone(self) -> None:
        play = Play(replace(HOG, owner_key="compose:shop/train"))
        self.evicted(play)
        assert set(play.story.mem.tombstones) == {"compose:shop/train"}

    def test_a_tenant_without_an_owner_leaves_no_stone_under_its_name(self) -> None:
        play = Play(replace(HOG, owner_key=None, name="compose:shop/train"))
        self.evicted(play)
        assert play.story.mem.tombstones == {}

    def test_three_evictions_hold_the_owner_and_its_next_tenant_is_stopped(self) -> None:
        play = Play(replace(HOG, owner_key="compose:shop/train"))
        for _ in range(3):
            self.evicted(play)
        again = tenant(
            "fresh", owner_key="compose:shop/train", quota_mib=10_000, first_seen=play.at
        )
        ordered = kinds(play.story.see(play.at + 1, tenants=[again], uses=[use(again, 10)]), again)
        assert ordered == [Kind.STOP]
        assert Kind.PAGE in kinds(play.story.looks[-1])


def test_a_case_and_its_incident_end_together() -> None:
    play = Play().convicted()
    play.dies()
    play.step()
    notes = [n.kind for n in play.story.looks[-1].incidents]
    assert NoteKind.CLOSED in notes
    assert play.story.mem.open_incidents == {}


def test_every_action_of_an_eviction_carries_the_incident_and_a_reason() -> None:
    play = Play().convicted()
    play.until(Rung.STUCK)
    actions = [a for d in play.story.looks for a in d.actions if a.target is not None]
    assert len({a.incident for a in actions}) == 1
    assert len({a.id for a in actions}) == len(actions)
    assert all(a.why for a in actions)
    assert all(a.device == device_id(0) for a in actions)
    assert LOW < HIGH
