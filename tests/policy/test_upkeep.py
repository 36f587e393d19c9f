"""What is owed is given back, when it is due and never by a wall clock that was set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.config import Config
from gpuwarden.model.action import Kind, Result
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.memory import Debt, Memory, Rung, Tombstone
from gpuwarden.policy import upkeep
from tests.policy.builders import (
    NOW,
    WALL,
    Story,
    budgets,
    case,
    config,
    gpu,
    kinds,
    memory,
    remembering,
    rung_of,
    snap,
    standing,
    target,
    tenant,
    use,
)

HOG = tenant("hog")
T0 = WALL + NOW


def debt(kind: Kind, due_s: float | None = None) -> Debt:
    due = None if due_s is None else T0 + due_s
    return Debt(
        tenant=HOG.id, kind=kind, target=target(HOG), incident=IncidentId("inc"), due_wall=due
    )


def owing(*debts: Debt, cfg: Config | None = None, mem: Memory | None = None) -> Story:
    mem = mem or memory()
    return Story(cfg or config(), mem=replace(mem, debts=debts, last_wall=T0 - 0.1), settle=False)


@pytest.mark.parametrize("kind", [Kind.THAW, Kind.UNTHROTTLE, Kind.RESTART_BACK, Kind.CLEAR_LIMIT])
def test_without_a_case_it_is_given_back_at_once_in_observe_mode_too(kind: Kind) -> None:
    story = owing(debt(kind), cfg=config("observe"))
    decision = story.look(snap(NOW, can_record=False))
    assert kinds(decision) == [kind]


@pytest.mark.parametrize("kind", [Kind.UNTHROTTLE, Kind.RESTART_BACK, Kind.CLEAR_LIMIT])
def test_what_fails_is_tried_again_every_five_seconds_for_as_long_as_it_takes(kind: Kind) -> None:
    story = owing(debt(kind))
    for tenth in range(301):
        story.see(NOW + tenth / 10)
        story.answer(story.looks[-1], Result.FAILED)
    assert story.times(kind) == pytest.approx([NOW + 5 * n for n in range(7)], abs=0.11)
    assert len(story.mem.debts) == 1


@pytest.mark.parametrize(("wait", "count"), [(9.9, 0), (10.0, 1)])
def test_not_before_it_is_due(wait: float, count: int) -> None:
    story = owing(debt(Kind.RESTART_BACK, 10.0))
    story.see(NOW)
    story.see(NOW + wait)
    assert len(story.times(Kind.RESTART_BACK)) == count


class TestWallClock:
    @pytest.mark.parametrize("jump", [3_600.0, -3_600.0, 1.0 - T0, 4_294_967_296.0 - T0])
    def test_setting_it_gives_nothing_back_early_nor_late(self, jump: float) -> None:
        story = owing(debt(Kind.RESTART_BACK, 10.0))
        story.see(NOW)
        for tenth in range(1, 120):
            at = NOW + tenth / 10
            story.see(at, wall=WALL + at + jump)
        assert story.times(Kind.RESTART_BACK)[0] == pytest.approx(NOW + 10.0, abs=0.11)

    @pytest.mark.parametrize("jump", [3_600.0, -3_600.0])
    def test_nor_lets_a_held_owner_go_or_holds_it_longer(self, jump: float) -> None:
        stone = Tombstone(owner_key=HOG.owner_key or "", held_until_wall=T0 + 5)
        mem = memory(tombstones={stone.owner_key: stone}, last_wall=T0 - 0.1)
        story = Story(config("observe"), mem=mem)
        story.see(NOW)
        held = []
        for tenth in range(1, 100):
            at = NOW + tenth / 10
            decision = story.see(at, tenants=[HOG], uses=[use(HOG, 1)], wall=WALL + at + jump)
            if any(f.rule == "tombstone" for f in decision.findings):
                held.append(tenth)
        assert held == list(range(1, 50))

    def test_slewing_is_no_setting(self) -> None:
        story = owing(debt(Kind.RESTART_BACK, 10.0))
        for tenth in range(101):
            at = NOW + tenth / 10
            story.see(at, wall=WALL + at + tenth * 0.0001)
        assert len(story.times(Kind.RESTART_BACK)) == 1

    def test_after_a_reboot_nothing_waits_longer_than_its_window(self) -> None:
        story = owing(debt(Kind.RESTART_BACK, 10.0))
        long_ago = T0 - 1e8
        story.look(snap(1.0, wall=long_ago, boot_id="boot-2"))
        assert story.mem.debts[0].due_wall == long_ago + 600


class TestThaw:
    def test_not_while_the_hold_lasts(self) -> None:
        held = case(HOG, Rung.HELD, since=NOW, frozen_since=NOW, is_restart_settled=False)
        story = owing(
            debt(Kind.THAW), mem=remembering(held), cfg=config(ladder={"restart_wait_s": 60})
        )
        for tenth in range(20):
            story.see(
                NOW + tenth / 10, tenants=[HOG], uses=[use(HOG, 9_000)], standings=(standing(HOG),)
            )
        assert story.ordered == []
        story.see(NOW + 2.0, tenants=[HOG], uses=[use(HOG, 9_000)], standings=(standing(HOG),))
        assert story.times(Kind.THAW) == [NOW + 2.0]

    def test_the_loop_is_woken_for_it(self) -> None:
        held = case(HOG, Rung.HELD, since=NOW, frozen_since=NOW, is_restart_settled=False)
        story = owing(
            debt(Kind.THAW), mem=remembering(held), cfg=config(ladder={"restart_wait_s": 60})
        )
        decision = story.see(NOW, tenants=[HOG], uses=[use(HOG, 9_000)], standings=(standing(HOG),))
        assert decision.wake_at == NOW + 2.0


class TestHeldOwners:
    def held(self, **change: object) -> Story:
        stone = Tombstone(owner_key="key", evicted_wall=(T0,) * 3, held_until_wall=T0 + 600)
        mem = memory(tombstones={"key": stone}, last_wall=T0 - 0.1)
        story = Story(mem=mem)
        who = replace(tenant("again", owner_key="key", grace_s=30.0, first_seen=NOW), **change)  # type: ignore[arg-type]
        story.see(NOW, tenants=[who], uses=[use(who, 10)])
        return story

    def test_stopped_with_its_grace_and_paged_once(self) -> None:
        story = self.held()
        assert kinds(story.looks[0]) == [Kind.STOP, Kind.PAGE]
        assert dict(story.looks[0].actions[0].params) == {"grace_s": "30.000"}
        second = tenant("second", owner_key="key", first_seen=NOW)
        story.see(NOW + 0.1, gpus=[gpu(0), gpu(1)], tenants=[second], uses=[use(second, 5, on=1)])
        assert kinds(story.looks[1]) == [Kind.STOP]

    @pytest.mark.parametrize(
        ("change", "budget"),
        [({"is_described": False}, "undescribed"), ({"is_never_victim": True}, "never-victim")],
    )
    def test_not_whom_nothing_may_hit(self, change: dict[str, object], budget: str) -> None:
        story = self.held(**change)
        assert budgets(story.looks[0]) == [budget]
        assert Kind.STOP not in kinds(story.looks[0])

    def test_it_is_not_given_up_while_its_grace_runs(self) -> None:
        story = self.held()
        again = tenant("again", owner_key="key", grace_s=30.0, first_seen=NOW)
        for second in range(1, 40):
            story.see(
                NOW + second, tenants=[again], uses=[use(again, 10)], standings=(standing(again),)
            )
            assert rung_of(story.mem, again) is Rung.STOPPED
        assert story.times(Kind.CORDON) == []


def test_an_agent_that_ends_lets_go_of_what_it_holds_and_of_nothing_else() -> None:
    held = case(HOG, Rung.HELD, frozen_since=NOW)
    debts = tuple(debt(kind) for kind in (Kind.THAW, Kind.UNTHROTTLE, Kind.RESTART_BACK))
    mem, actions = upkeep.parting(replace(remembering(held), debts=debts, serial=7))
    assert [(a.kind, a.target, a.id) for a in actions] == [(Kind.THAW, target(HOG), "inc/8")]
    assert mem.serial == 8
    assert mem.cases[HOG.id].frozen_since is None
    assert mem.cases[HOG.id].rung is Rung.HELD
    assert mem.debts == debts  # until it is done
