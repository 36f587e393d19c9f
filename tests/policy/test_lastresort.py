"""A device that stays locked after its offender is gone (DESIGN 4.4, last sentences)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.config import Config
from gpuwarden.model.action import HARMFUL, Kind
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.memory import Rung
from gpuwarden.model.tenant import Tenant, Use
from tests.policy.builders import (
    LOW,
    MIB,
    NOW,
    PROTECTED,
    Story,
    budgets,
    case,
    config,
    device_id,
    device_memory,
    gpu,
    kinds,
    memory,
    remembering,
    standing,
    tenant,
    use,
)

SERVE = tenant("serve", cls=PROTECTED, quota_mib=None)
ALLOWED = config(ladder={"allow_protected_restart": True})
LOCKED = {
    device_id(0): device_memory(locked_since=NOW - 3, locked_why="driver asks for a reset"),
}


def locked(
    cfg: Config | None = None,
    *,
    others: tuple[Device, ...] = (),
    there: tuple[tuple[Tenant, Use], ...] = ((SERVE, use(SERVE, 10_000)),),
    mem: Any = None,
    at: float = NOW,
    **look: Any,
) -> Story:
    story = Story(cfg or config(), mem=mem or memory(devices=LOCKED))
    story.see(
        at,
        gpus=[gpu(0, used_mib=20_000, recovery_action=1), *others],
        tenants=[t for t, _ in there],
        uses=[u for _, u in there],
        **look,
    )
    return story


def page_of(story: Story) -> str:
    (page,) = [a for a in story.looks[0].actions if a.kind is Kind.PAGE]
    return dict(page.params)["summary"]


class TestWhen:
    @pytest.mark.parametrize(("held", "is_due"), [(2.99, False), (3.0, True)])
    def test_three_seconds_after_it_locked(self, held: float, is_due: bool) -> None:
        states = {device_id(0): device_memory(locked_since=NOW - held)}
        story = locked(mem=memory(devices=states))
        assert (story.ordered != []) is is_due

    @pytest.mark.parametrize(("ago", "is_due"), [(2.99, False), (3.0, True)])
    def test_three_seconds_after_its_offender_went(self, ago: float, is_due: bool) -> None:
        states = {device_id(0): device_memory(locked_since=NOW - 60)}
        story = locked(mem=memory(devices=states, released={device_id(0): NOW - ago}))
        assert (story.ordered != []) is is_due

    def test_not_while_an_eviction_is_under_way_there(self) -> None:
        hog = tenant("hog", quota_mib=10_000)
        flying = remembering(case(hog, Rung.TERMED, since=NOW), devices=LOCKED)
        story = locked(
            mem=flying,
            there=((SERVE, use(SERVE, 1)), (hog, use(hog, 20_000))),
            standings=(standing(hog),),
        )
        assert story.ordered == []

    def test_once(self) -> None:
        story = locked()
        count = len(story.ordered)
        for tenth in range(1, 100):
            story.see(
                NOW + tenth / 10,
                gpus=[gpu(0, recovery_action=1)],
                tenants=[SERVE],
                uses=[use(SERVE, 10_000)],
            )
        assert len(story.ordered) == count

    def test_and_again_when_it_locks_again(self) -> None:
        story = locked()
        for second in range(1, 12):
            asks = 1 if second > 5 else 0
            story.see(
                NOW + second,
                gpus=[gpu(0, recovery_action=asks)],
                tenants=[SERVE],
                uses=[use(SERVE, 10_000)],
            )
        assert len(story.times(Kind.PAGE)) == 2


class TestWithoutLeave:
    def test_cordon_page_and_the_reset_by_name(self) -> None:
        story = locked()
        assert kinds(story.looks[0]) == [Kind.CORDON, Kind.PAGE]
        text = page_of(story)
        assert "nvidia-smi --gpu-reset -i 0" in text
        assert "empty first" in text
        assert "still there: serve" in text
        assert "allow_protected_restart is off" in text
        assert budgets(story.looks[0]) == ["operator"]

    def test_observe_mode_only_calls_people(self) -> None:
        story = locked(config("observe"))
        assert kinds(story.looks[0]) == [Kind.PAGE]
        assert "observe mode" in page_of(story)

    def test_the_rules_own_mode_counts(self) -> None:
        story = locked(config("enforce", rules={"locked": {"mode": "observe"}}))
        assert not HARMFUL & set(kinds(story.looks[0]))

    def test_without_the_fleets_permit_no_cordon_until_it_comes(self) -> None:
        story = locked(fleet_permit=False)
        assert kinds(story.looks[0]) == [Kind.PAGE]
        assert "permit" in budgets(story.looks[0])
        again = {"gpus": [gpu(0, recovery_action=1)], "tenants": [SERVE], "uses": [use(SERVE, 10)]}
        story.see(NOW + 1, fleet_permit=False, **again)  # type: ignore[arg-type]
        leave = {"fleet_permit": False, "permits": (("cordon", device_id(0)),)}
        story.see(NOW + 2, **leave, **again)  # type: ignore[arg-type]
        assert story.times(Kind.CORDON) == [NOW + 2]

    def test_nothing_harmful_when_it_cannot_be_written_down(self) -> None:
        story = locked(ALLOWED, others=(gpu(1),), can_record=False)
        assert kinds(story.looks[0]) == [Kind.PAGE]
        assert "journal" in budgets(story.looks[0])


class TestRelocation:
    def moved_to(self, story: Story) -> dict[str, str]:
        return {
            a.target.name: a.device or ""
            for a in story.looks[0].actions
            if a.kind is Kind.RELOCATE and a.target is not None
        }

    def test_to_the_emptiest_healthy_device_with_room(self) -> None:
        story = locked(ALLOWED, others=(gpu(1, used_mib=50_000), gpu(2, used_mib=20_000)))
        assert self.moved_to(story) == {"serve": "GPU-2"}
        assert kinds(story.looks[0]) == [Kind.RELOCATE, Kind.CORDON, Kind.PAGE]
        action = story.looks[0].actions[0]
        assert dict(action.params) == {"index": "2", "from": "GPU-0"}

    @pytest.mark.parametrize(
        "unsound",
        [
            gpu(1, sight=Sight.BLIND),
            gpu(1, sight=Sight.LOST),
            gpu(1, used_mib=75_000),
            gpu(1, used_bytes=None),
            gpu(1, parent=device_id(9)),
            gpu(1, is_mig_parent=True),
        ],
    )
    def test_never_to_one_that_is_not_sound(self, unsound: Device) -> None:
        story = locked(ALLOWED, others=(unsound,))
        assert self.moved_to(story) == {}
        assert "no healthy device has room for serve" in page_of(story)
        assert budgets(story.looks[0]) == ["no-refuge"]

    @pytest.mark.parametrize(
        "state",
        [
            device_memory(locked_since=NOW - 1),
            device_memory(cordoned_by=IncidentId("inc-9")),
        ],
    )
    def test_nor_to_one_that_is_locked_or_cordoned(self, state: Any) -> None:
        mem = memory(devices={**LOCKED, device_id(1): state})
        story = locked(ALLOWED, others=(gpu(1, recovery_action=1),), mem=mem)
        assert self.moved_to(story) == {}

    def test_the_reserve_of_the_refuge_stays_free(self) -> None:
        cfg = config(ladder={"allow_protected_restart": True}, reserve={"bytes": "8GiB"})
        full = gpu(1, used_mib=81_920 - 10_000 - 8_191)
        assert self.moved_to(locked(cfg, others=(full,))) == {}
        room = gpu(1, used_mib=81_920 - 10_000 - 8_192)
        assert self.moved_to(locked(cfg, others=(room,))) == {"serve": "GPU-1"}

    def test_two_do_not_take_the_same_room(self) -> None:
        second = tenant("score", cls=PROTECTED, quota_mib=None)
        there = ((SERVE, use(SERVE, 40_000)), (second, use(second, 40_000)))
        story = locked(ALLOWED, others=(gpu(1, used_mib=20_000),), there=there)
        assert self.moved_to(story) == {"serve": "GPU-1"}
        story = locked(
            ALLOWED, others=(gpu(1, used_mib=20_000), gpu(2, used_mib=30_000)), there=there
        )
        assert self.moved_to(story) == {"serve": "GPU-1", "score": "GPU-2"}

    def test_only_what_a_runtime_can_move_and_only_the_protected(self) -> None:
        bare = replace(SERVE, runtime="pgrp")
        assert self.moved_to(locked(ALLOWED, others=(gpu(1),), there=((bare, use(bare, 5)),))) == {}
        low = tenant("low", cls=LOW)
        assert self.moved_to(locked(ALLOWED, others=(gpu(1),), there=((low, use(low, 5)),))) == {}


def test_a_use_whose_tenant_is_not_known_breaks_nothing() -> None:
    stranger = tenant("stranger")
    story = Story(config(), mem=memory(devices=LOCKED))
    story.see(NOW, gpus=[gpu(0, recovery_action=1)], tenants=[], uses=[use(stranger, 5 * MIB)])
    assert Kind.PAGE in kinds(story.looks[0])
