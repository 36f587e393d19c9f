"""What a tick adds to memory: the edge second of every hold and of every clearing."""

from __future__ import annotations

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.device import Sight
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.memory import Debt, DeviceMemory, Episode, Memory, Rung, Tombstone
from gpuwarden.model.repair import FaultClass, Phase, Repair, Step
from gpuwarden.model.snapshot import Health
from gpuwarden.policy import fold
from tests.policy.builders import (
    BOOT,
    MIB,
    NOW,
    PROTECTED,
    WALL,
    Story,
    case,
    config,
    device_id,
    gpu,
    kinds,
    memory,
    remembering,
    rung_of,
    scene,
    service,
    snap,
    target,
    tenant,
    use,
    xid,
)

HOG = tenant("hog", quota_mib=10_000)
"""Trips at 10,200 MiB, soft at 10,000, clears at 9,500."""
SERVE = tenant("serve", cls=PROTECTED, quota_mib=None)


def lists(story: Story, *sizes: tuple[float, int]) -> None:
    for at, size in sizes:
        story.see(at, tenants=[HOG], uses=[use(HOG, size)])


def only(story: Story) -> Episode:
    (episode,) = story.mem.episodes.values()
    return episode


def claims(story: Story) -> list[str]:
    return [f.key.split()[0] for f in story.looks[-1].findings]


class TestHard:
    def test_two_lists_confirm_and_one_list_twice_does_not(self) -> None:
        story = Story(config("observe"))
        lists(story, (NOW, 11_000))
        story.see(NOW + 0.1, tenants=[HOG], uses=[use(HOG, 11_000)], listed_at=NOW)
        assert (only(story).hard_lists, only(story).confirmed_at) == (1, None)
        lists(story, (NOW + 0.2, 11_000))
        assert (only(story).hard_lists, only(story).confirmed_at) == (2, NOW + 0.2)

    def test_a_list_under_the_trip_in_between_starts_over(self) -> None:
        story = Story(config("observe"))
        lists(story, (NOW, 11_000), (NOW + 0.1, 10_100), (NOW + 0.2, 11_000))
        assert (only(story).hard_lists, only(story).confirmed_at) == (1, None)

    def test_a_confirmed_one_that_came_down_is_confirmed_no_more(self) -> None:
        story = Story(config("observe"))
        lists(story, (NOW, 11_000), (NOW + 0.1, 11_000), (NOW + 0.2, 10_200))
        assert only(story).confirmed_at is None

    def test_nor_is_one_that_holds_less_while_a_process_of_its_is_left_out(self) -> None:
        """Its size is then as old as the list that had them all, but not greater than it is told to be."""
        story = Story(config("observe"))
        lists(story, (NOW, 11_000), (NOW + 0.1, 11_000))
        story.see(NOW + 0.2, tenants=[HOG], uses=[use(HOG, 5_000)], listed_at=NOW + 0.1)
        assert only(story).confirmed_at is None
        assert only(story).hard_lists == 0

    def test_a_blind_device_confirms_nothing(self) -> None:
        story = Story(config("observe"))
        lists(story, (NOW, 11_000))
        story.see(NOW + 0.1, gpus=[gpu(sight=Sight.BLIND)], tenants=[HOG], uses=[use(HOG, 11_000)])
        lists(story, (NOW + 0.2, 11_000))
        assert only(story).confirmed_at is None

    @pytest.mark.parametrize(("age", "counts"), [(4.0, True), (4.01, False)])
    def test_a_list_older_than_two_intervals_counts_for_nothing(
        self, age: float, counts: bool
    ) -> None:
        story = Story(config("observe"))
        story.see(NOW, tenants=[HOG], uses=[use(HOG, 11_000)], listed_at=NOW - age)
        assert bool(story.mem.episodes) is counts

    @pytest.mark.parametrize(("silence", "stands"), [(5.0, True), (5.01, False)])
    def test_after_a_silence_it_has_to_be_confirmed_again(
        self, silence: float, stands: bool
    ) -> None:
        story = Story(config("observe"))
        lists(story, (NOW, 11_000), (NOW + 0.1, 11_000))
        at = NOW + 0.1 + silence
        story.see(at, tenants=[HOG], uses=[use(HOG, 11_000)], listed_at=at)
        assert (only(story).confirmed_at is not None) is stands


class TestQuotaChangedLive:
    def test_lowered_starts_the_ladder_afresh(self) -> None:
        story = Story(config("observe"))
        lists(story, (NOW, 11_000), (NOW + 0.1, 11_000))
        lower = tenant("hog", quota_mib=5_000)
        story.see(NOW + 0.2, tenants=[lower], uses=[use(lower, 11_000)])
        assert (only(story).hard_lists, only(story).confirmed_at) == (1, None)

    def test_raised_acquits_at_once_by_the_list_there_is(self) -> None:
        story = Story(config("observe"))
        lists(story, (NOW, 11_000), (NOW + 0.1, 11_000))
        raised = tenant("hog", quota_mib=20_000)
        decision = story.see(
            NOW + 0.2, tenants=[raised], uses=[use(raised, 11_000)], listed_at=NOW + 0.1
        )
        assert decision.findings == ()
        assert rung_of(story.mem) is None

    def test_taken_away_acquits(self) -> None:
        story = Story(config("observe"))
        lists(story, (NOW, 11_000), (NOW + 0.1, 11_000))
        free = tenant("hog", quota_mib=None)
        decision = story.see(NOW + 0.2, tenants=[free], uses=[use(free, 11_000)])
        assert decision.findings == ()


class TestSoft:
    @pytest.mark.parametrize(("held", "is_claimed"), [(9.9, False), (10.0, True)])
    def test_held_for_ten_seconds(self, held: float, is_claimed: bool) -> None:
        story = Story(config("observe"))
        for second in range(0, 10, 2):
            lists(story, (NOW + second, 10_100))
        lists(story, (NOW + held, 10_100))
        assert (claims(story) == ["quota-soft"]) is is_claimed

    def test_time_alone_completes_the_hold_between_two_lists(self) -> None:
        story = Story(config("observe"))
        for second in range(0, 10, 2):
            lists(story, (NOW + second, 10_100))
        story.see(NOW + 10, tenants=[HOG], uses=[use(HOG, 10_100)], listed_at=NOW + 8)
        assert claims(story) == ["quota-soft"]

    def test_one_list_over_and_then_under_is_no_breach_however_long(self) -> None:
        story = Story()
        lists(story, (NOW, 10_100))
        for second in range(1, 60):
            lists(story, (NOW + second, 9_700))
        assert all(d.findings == () for d in story.looks)
        assert story.ordered == []

    def test_flapping_is_one_episode_with_one_warning(self) -> None:
        story = Story()
        for second in range(60):
            lists(story, (NOW + second, 10_100 if second % 2 else 9_900))
        assert len(story.times(Kind.WARN, HOG)) == 1
        assert story.times(Kind.THROTTLE) == []
        assert claims(story) == ["quota-soft"]

    def test_a_breach_clears_only_after_thirty_seconds_under_the_clear_line(self) -> None:
        story = Story(config("observe"))
        lists(story, *((NOW + s, 10_100) for s in range(12)))
        lists(story, *((NOW + 12 + s, 9_500) for s in range(30)))
        assert claims(story) == ["quota-soft"]
        lists(story, (NOW + 42, 9_500))
        assert claims(story) == []
        assert story.mem.episodes == {}

    def test_a_rise_over_the_clear_line_starts_the_probation_again(self) -> None:
        story = Story(config("observe"))
        lists(story, *((NOW + s, 10_100) for s in range(12)))
        lists(story, *((NOW + 12 + s, 9_500) for s in range(29)))
        lists(story, (NOW + 41, 9_501))
        lists(story, *((NOW + 42 + s, 9_500) for s in range(30)))
        assert claims(story) == ["quota-soft"]
        lists(story, (NOW + 72, 9_500))
        assert claims(story) == []

    def test_seconds_nobody_looked_do_not_count_as_under_the_line(self) -> None:
        story = Story(config("observe"))
        lists(story, *((NOW + s, 10_100) for s in range(12)), (NOW + 12, 9_500))
        lists(story, (NOW + 80, 9_500))
        assert claims(story) == ["quota-soft"]

    def test_the_throttle_needs_it_over_without_a_dip(self) -> None:
        story = Story()
        lists(story, *((NOW + s, 10_100) for s in range(12)))
        lists(story, (NOW + 12, 9_900))
        lists(story, *((NOW + 13 + s, 10_100) for s in range(10)))
        assert story.times(Kind.THROTTLE) == []
        lists(story, (NOW + 23, 10_100))
        assert story.times(Kind.THROTTLE) == [NOW + 23]

    def test_a_blind_device_throttles_nobody(self) -> None:
        story = Story()
        lists(story, *((NOW + s, 10_100) for s in range(12)))
        for second in range(12, 40):
            story.see(
                NOW + second,
                gpus=[gpu(sight=Sight.BLIND)],
                tenants=[HOG],
                uses=[use(HOG, 10_100)],
                listed_at=NOW + 11,
            )
        assert story.times(Kind.THROTTLE) == []

    def test_a_soft_quota_of_its_own(self) -> None:
        who = tenant("hog", quota_mib=10_000, soft_mib=5_000)
        story = Story(config("observe"))
        for second in range(11):
            story.see(NOW + second, tenants=[who], uses=[use(who, 5_001)])
        assert claims(story) == ["quota-soft"]


class TestReserve:
    CFG = config("observe", reserve={"bytes": "10GiB"})

    def free(self, story: Story, at: float, free_mib: int) -> float | None:
        story.see(at, gpus=[gpu(used_mib=81_920 - free_mib)])
        return story.mem.devices[device_id(0)].reserve_since

    def test_counts_from_the_first_look_and_ends_with_the_first_that_is_not(self) -> None:
        story = Story(self.CFG)
        assert self.free(story, NOW, 10_240) is None
        assert self.free(story, NOW + 1, 10_239) == NOW + 1
        assert self.free(story, NOW + 2, 10_000) == NOW + 1
        assert self.free(story, NOW + 3, 10_240) is None

    def test_a_silence_ends_it_and_a_list_taken_meanwhile_confirms_nothing(self) -> None:
        story = Story(self.CFG)
        self.free(story, NOW, 1_000)
        assert self.free(story, NOW + 5.0, 1_000) == NOW
        assert self.free(story, NOW + 10.1, 1_000) == NOW + 10.1

    def test_an_unseen_device_has_no_breach(self) -> None:
        story = Story(self.CFG)
        self.free(story, NOW, 1_000)
        story.see(NOW + 1, gpus=[gpu(used_mib=81_000, sight=Sight.BLIND)])
        assert story.mem.devices[device_id(0)].reserve_since is None

    def test_bytes_the_driver_keeps_are_not_free(self) -> None:
        story = Story(self.CFG)
        story.see(NOW, gpus=[gpu(used_mib=71_680, reserved_bytes=1 * MIB)])
        assert story.mem.devices[device_id(0)].reserve_since == NOW


class TestLock:
    def locked(self, story: Story) -> bool:
        return story.mem.devices[device_id(0)].locked_since is not None

    @pytest.mark.parametrize("code", [46, 61, 62, 79, 95, 109, 119, 120, 140, 143])
    def test_an_xid_that_stops_the_device(self, code: int) -> None:
        story = Story(config("observe"))
        story.see(NOW, events=(xid(code),))
        assert self.locked(story)
        assert story.mem.devices[device_id(0)].locked_why == f"Xid {code}"

    @pytest.mark.parametrize("code", [13, 31, 43, 45, 94])
    def test_an_xid_of_the_application_locks_nothing(self, code: int) -> None:
        story = Story(config("observe"))
        story.see(NOW, events=(xid(code),))
        assert not self.locked(story)

    def test_an_event_of_another_device_locks_nothing_here(self) -> None:
        story = Story(config("observe"))
        story.see(NOW, gpus=[gpu(0), gpu(1)], events=(xid(79, on=1),))
        assert not self.locked(story)

    @pytest.mark.parametrize(("after", "still"), [(1.0, True), (1.01, False)])
    def test_a_lock_nothing_speaks_for_any_more_is_over_after_a_second(
        self, after: float, still: bool
    ) -> None:
        story = Story(config("observe"))
        story.see(NOW, events=(xid(109),))
        story.see(NOW + after)
        assert self.locked(story) is still

    def test_the_drivers_own_word_locks_and_holds(self) -> None:
        story = Story(config("observe"))
        for second in range(5):
            story.see(NOW + second, gpus=[gpu(recovery_action=1)])
        assert self.locked(story)
        story.see(NOW + 5, gpus=[gpu(recovery_action=0)])
        assert not self.locked(story)

    @pytest.mark.parametrize("health", [Health.RED, Health.UNKNOWN])
    def test_a_service_that_is_not_known_to_be_well_keeps_it_locked(self, health: Health) -> None:
        story = Story(config("observe"))
        around = {"tenants": [SERVE], "uses": [use(SERVE, 1_000)]}
        story.see(NOW, events=(xid(109),), services=(service(health=health),), **around)  # type: ignore[arg-type]
        story.see(NOW + 5, services=(service(health=health),), **around)  # type: ignore[arg-type]
        assert self.locked(story)
        story.see(NOW + 6, services=(service(health=Health.GREEN, p99_s=0.1),), **around)  # type: ignore[arg-type]
        assert not self.locked(story)

    def test_a_blind_device_is_not_free_again(self) -> None:
        story = Story(config("observe"))
        story.see(NOW, events=(xid(109),))
        story.see(NOW + 5, gpus=[gpu(sight=Sight.BLIND)])
        assert self.locked(story)


class TestUnattributed:
    CFG = config("observe")

    def see(self, story: Story, at: float, held_mib: int) -> DeviceMemory:
        story.see(at, unattributed=((device_id(0), held_mib * MIB),))
        return story.mem.devices[device_id(0)]

    def test_what_was_there_at_first_is_the_floor(self) -> None:
        story = Story(self.CFG)
        assert self.see(story, NOW, 3_000).unattributed_floor_bytes == 3_000 * MIB
        assert self.see(story, NOW + 1, 3_512).unattributed_since is None
        assert self.see(story, NOW + 2, 3_513).unattributed_since == NOW + 2
        assert self.see(story, NOW + 3, 3_512).unattributed_since is None

    def test_the_floor_only_goes_down(self) -> None:
        story = Story(self.CFG)
        self.see(story, NOW, 3_000)
        self.see(story, NOW + 1, 1_000)
        assert self.see(story, NOW + 2, 1_513).unattributed_since == NOW + 2


class TestBoots:
    def test_a_new_boot_keeps_what_owners_and_wall_time_carry(self) -> None:
        stone = Tombstone(owner_key="image/hog", evicted_wall=(WALL,))
        back = Debt(
            tenant=HOG.id,
            kind=Kind.RESTART_BACK,
            target=target(HOG),
            incident=case(HOG).incident,
            old=(("restart_policy", "always"),),
        )
        thaw = Debt(tenant=HOG.id, kind=Kind.THAW, target=target(HOG), incident=back.incident)
        old = remembering(
            case(HOG, Rung.TERMED),
            serial=41,
            debts=(back, thaw),
            tombstones={"image/hog": stone},
            devices={
                device_id(0): DeviceMemory(cordoned_by=back.incident, cooldown_until=1e9),
                device_id(1): DeviceMemory(cooldown_until=1e9),
            },
            last_at=5_000.0,
        )
        new = fold.remember(config(), old, scene(look=snap(7.0, boot_id="boot-2")))
        assert (new.boot_id, new.started_at, new.serial) == ("boot-2", 7.0, 41)
        assert new.cases == {}
        assert [d.kind for d in new.debts] == [Kind.RESTART_BACK]
        assert new.tombstones == {"image/hog": stone}
        assert new.devices == {device_id(0): DeviceMemory(cordoned_by=back.incident)}

    def test_a_new_boot_goes_on_with_what_it_does_not_end(self) -> None:
        """A repair whose step it was, a cordon: their incidents stay open, and nobody is paged afresh."""
        going, held, over = IncidentId("inc-1"), IncidentId("inc-2"), IncidentId("inc-3")
        repair = Repair(
            subject=device_id(0),
            device=device_id(0),
            cls=FaultClass.LOST,
            incident=going,
            ladder=(Step.REBOOT, Step.HAND_OVER),
            phase=Phase.ACTING,
            since=NOW,
            opened_at=NOW,
        )
        old = memory(
            repairs={repair.subject: repair},
            devices={device_id(1): DeviceMemory(cordoned_by=held)},
            open_incidents={"device/GPU-0": going, "cordon/GPU-1": held, "tenant/x": over},
            paged={"sight GPU-0": NOW, "quota-hard x": NOW},
        )
        new = fold.remember(config(), old, scene(look=snap(7.0, boot_id="boot-2")))
        assert new.open_incidents == {"device/GPU-0": going, "cordon/GPU-1": held}
        assert new.paged == {"sight GPU-0": 7.0}

    def test_the_same_boot_keeps_the_ladder(self) -> None:
        old = remembering(case(HOG, Rung.TERMED))
        new = fold.remember(config(), old, scene(look=snap(boot_id=BOOT)))
        assert rung_of(new, HOG) is Rung.TERMED

    def test_the_first_tick_of_all_starts_the_warm_up(self) -> None:
        new = fold.remember(config(), Memory(), scene(look=snap(7.0)))
        assert (new.boot_id, new.started_at) == (BOOT, 7.0)


def test_folding_does_not_change_the_memory_it_was_given() -> None:
    before = memory()
    story = Story(mem=before)
    lists(story, (NOW, 11_000))
    assert before == memory()
    assert kinds(story.looks[0]) == [Kind.WARN]
