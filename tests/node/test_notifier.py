"""On-call at work on simulated time: spooled before it is taken, sent once, whatever ends in between."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.clock import SystemClock
from gpuwarden.errors import Unavailable, Unsupported
from gpuwarden.model.decision import Incident
from gpuwarden.model.ids import DeviceId, IncidentId
from gpuwarden.model.oncall import Matcher, Notice, Page, Receipt, Result
from gpuwarden.node.notifier import CLOSE_WAIT_S, Notifier, Outfit, attempt
from gpuwarden.node.sent_log import SentLog
from tests.node.test_sent_log import FullDisk
from tests.policy.notify_stage import HOST, inc, oncall
from tests.simulated.oncall import ANN, Desk

WAIT_S = 20.0


def page(desk: Desk, number: int = 1, severity: str = "error", serial: int = 1) -> Page:
    return Page(
        id=f"inc-{number}/{serial}",
        incident=inc(number),
        severity=severity,
        summary=f"GPU {number} is blind",
        wall=desk.clock.wall(),
    )


def incident(desk: Desk, number: int = 1, *, is_over: bool = False) -> Incident:
    now, wall = desk.clock.now(), desk.clock.wall()
    made = Incident(
        id=inc(number),
        rule="sight",
        summary=f"GPU {number} is blind",
        opened_at=now,
        opened_wall=wall,
        device=DeviceId(f"GPU-{number}"),
    )
    return replace(made, closed_at=now, closed_wall=wall, outcome="passed") if is_over else made


def open_incident(desk: Desk, number: int = 1) -> None:
    desk.notifier.follow([incident(desk, number)], {inc(number): f"device/GPU-{number}"})
    desk.notifier.send(page(desk, number))


def close(desk: Desk, number: int = 1) -> None:
    desk.notifier.follow([incident(desk, number, is_over=True)], {})


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, oncall("pagerduty"))


def test_a_page_and_its_end(desk: Desk) -> None:
    open_incident(desk)
    desk.run(10)
    close(desk)
    desk.run(10)
    assert desk.sinks["pagerduty"].heard == [("inc-1", "first"), ("inc-1", "resolved")]
    notice = desk.sinks["pagerduty"].told[0][1]
    assert (notice.brief.rule, notice.brief.device) == ("sight", "GPU-1")


def test_a_page_is_on_disk_before_it_is_taken(desk: Desk) -> None:
    open_incident(desk)
    assert inc(1) in SentLog(desk.folder).read().entries


def test_without_a_sink_the_log_alone_has_it(tmp_path: Path) -> None:
    bare = Desk(tmp_path, oncall("pagerduty").model_copy(update={"pagerduty": ()}))
    with pytest.raises(Unsupported, match=r"no \[oncall\] sink"):
        open_incident(bare)


class TestRestarts:
    """Exactly one message a reason, whenever the agent ended."""

    def test_between_spooled_and_sent(self, desk: Desk) -> None:
        open_incident(desk)
        desk.boot()
        desk.run(10)
        assert desk.sinks["pagerduty"].heard == [("inc-1", "first")]

    def test_after_it_was_sent(self, desk: Desk) -> None:
        open_incident(desk)
        desk.run(10)
        desk.boot()
        desk.notifier.follow([incident(desk)], {}, is_all=True)
        desk.notifier.send(page(desk))  # the same order, carried out again
        desk.run(100)
        assert desk.sinks["pagerduty"].heard == [("inc-1", "first")]

    def test_while_it_was_being_sent_it_is_sent_again_under_the_same_id(self, desk: Desk) -> None:
        open_incident(desk)
        desk.notifier.step()
        call = desk.lanes.waiting[0]
        desk.sinks["pagerduty"].mood = "slow"  # taken there, and nobody here knows
        call()
        desk.sinks["pagerduty"].mood = "well"
        desk.boot()
        desk.run(20)
        (one, two) = (n for _, n in desk.sinks["pagerduty"].told)
        assert one.id == two.id

    def test_of_an_incident_that_was_over_meanwhile(self, desk: Desk) -> None:
        open_incident(desk)
        desk.run(10)
        desk.boot()
        desk.notifier.follow([], {}, is_all=True)
        desk.run(10)
        assert desk.sinks["pagerduty"].heard == [("inc-1", "first"), ("inc-1", "resolved")]

    def test_acknowledged_stays_so(self, desk: Desk) -> None:
        open_incident(desk)
        desk.run(5)
        desk.people().ack("inc-1", ANN, "")
        desk.run(5)
        desk.boot()
        desk.run(4000, step_s=5.0)
        assert [reason for _, reason in desk.sinks["pagerduty"].heard] == ["first", "acknowledged"]

    def test_silences_stay(self, desk: Desk) -> None:
        desk.people().silence(Matcher(rule="sight"), ANN, "known", 1000.0)
        desk.boot()
        open_incident(desk)
        desk.run(900)
        assert desk.sinks["pagerduty"].heard == []
        desk.run(200)
        assert desk.sinks["pagerduty"].heard == [("inc-1", "first")]

    def test_every_second_for_a_while(self, desk: Desk) -> None:
        open_incident(desk)
        for second in range(30):
            desk.run(1)
            desk.boot()
            if second == 20:
                close(desk)
        desk.run(10)
        assert desk.sinks["pagerduty"].heard == [("inc-1", "first"), ("inc-1", "resolved")]

    def test_what_the_loop_was_not_told_yet_it_is_told_again(self, desk: Desk) -> None:
        open_incident(desk)
        desk.is_ticking = False
        desk.run(5)
        desk.boot()
        lines = desk.notifier.delivered()
        assert [(d.sink, d.reason.value, d.result) for d in lines] == [
            ("pagerduty", "first", Result.DELIVERED)
        ]


class TestTrouble:
    def test_down_for_an_hour_then_500s_then_slow(self, tmp_path: Path) -> None:
        """At least once, nothing lost, no storm on return; the dead man's switch falls silent at once."""
        desk = Desk(tmp_path, oncall("pagerduty", storm_notices=5))
        desk.run(120)
        sink = desk.sinks["pagerduty"]
        assert desk.beat.beats
        sink.mood = "down"
        for number in range(1, 31):
            open_incident(desk, number)
            desk.run(120, step_s=5.0)
            if number % 3 == 0:
                close(desk, number)
            if number % 10 == 0:
                desk.boot()
        silent_since = max(desk.beat.beats)
        assert desk.clock.now() - silent_since > 3300
        assert sink.told == []
        assert any("nobody could be told of inc-1" in c for c in desk.notifier.complaints)
        assert sink.asked < 80
        sink.mood = "busy"
        desk.run(1200, step_s=5.0)
        sink.mood = "slow"
        desk.run(1300, step_s=5.0)
        sink.mood = "well"
        desk.run(700, step_s=5.0)
        notices = [n for _, n in sink.told]
        assert {n.folded_count for n in notices} == {30}
        assert len({n.id for n in notices}) == 1
        assert desk.notifier.complaints == ()
        assert max(desk.beat.beats) > desk.clock.now() - 120

    def test_a_dead_mans_switch_falls_silent_when_the_loop_hangs(self, desk: Desk) -> None:
        desk.run(200)
        count = len(desk.beat.beats)
        assert count >= 3
        desk.is_ticking = False
        desk.run(600)
        assert len(desk.beat.beats) <= count + 1

    def test_a_full_disk_does_not_keep_anybody_from_being_told(self, tmp_path: Path) -> None:
        disk = FullDisk(writes_left=0)
        desk = Desk(tmp_path, oncall("pagerduty"), disk=disk)
        desk.notifier.follow([incident(desk)], {})
        with pytest.raises(Unavailable, match=r"held in memory alone: .*No space left"):
            desk.notifier.send(page(desk))
        desk.run(5)
        assert desk.sinks["pagerduty"].heard == [("inc-1", "first")]
        assert "pages are kept in memory alone" in desk.notifier.complaints[0]
        disk.writes_left = 10**9
        open_incident(desk, 2)
        desk.run(5)
        assert set(SentLog(tmp_path).read().entries) == {inc(1), inc(2)}
        assert desk.notifier.complaints == ()

    def test_what_a_sink_does_that_it_must_not_is_a_failure(self) -> None:
        class Wild:
            def deliver(self, notice: Notice) -> Receipt:
                raise KeyError("sehr-geheim")

        result, detail, _ = attempt(Wild(), None)  # type: ignore[arg-type]
        assert (result, detail) == (Result.FAILED, "unexpected KeyError")

    def test_the_wall_clock_set_by_an_hour_fires_nothing_early(self, tmp_path: Path) -> None:
        steps = [{"after": 0, "sinks": ["slack"]}, {"after": "5m", "sinks": ["pagerduty"]}]
        desk = Desk(tmp_path, oncall("slack", "pagerduty", step=steps))
        open_incident(desk)
        desk.run(100)
        desk.clock.set_wall(3600)
        desk.run(150)
        assert desk.sinks["pagerduty"].told == []
        desk.run(100)
        assert desk.sinks["pagerduty"].heard == [("inc-1", "escalated")]


class TestAdopting:
    def test_new_settings_count_at_once(self, tmp_path: Path) -> None:
        desk = Desk(tmp_path, oncall("pagerduty", "slack"))
        open_incident(desk)
        desk.run(5)
        desk.cfg = oncall("slack", repeat_s=60)
        desk.sinks = {"slack": desk.sinks["slack"]}
        desk.notifier.adopt(desk.outfit())
        desk.run(100)
        assert [reason for _, reason in desk.sinks["slack"].heard] == ["first", "repeat"]

    def test_a_sink_that_went_while_it_was_asked(self, tmp_path: Path) -> None:
        desk = Desk(tmp_path, oncall("pagerduty", "slack"))
        open_incident(desk)
        desk.notifier.step()
        desk.cfg = oncall("slack")
        desk.sinks.pop("pagerduty")
        desk.notifier.adopt(desk.outfit())
        desk.lanes.work()
        desk.run(5)
        assert desk.sinks["slack"].heard == [("inc-1", "first")]


class TestThreads:
    """As the agent runs it: real time, real threads, no waiting for a duration."""

    def test_a_page_is_told_and_a_clean_end_waits_for_it(self, tmp_path: Path) -> None:
        told, may_end = threading.Event(), threading.Event()

        class Gate:
            def deliver(self, notice: Notice) -> Receipt:
                told.set()
                assert may_end.wait(WAIT_S)
                return Receipt(text="taken")

        outfit = Outfit(cfg=oncall("pagerduty"), sinks={"pagerduty": Gate()})
        notifier = Notifier(outfit, SentLog(tmp_path), SystemClock(), HOST)
        notifier.start()
        wall = SystemClock().wall()
        order = Page(id="p", incident=IncidentId("inc-1"), severity="error", summary="s", wall=wall)
        notifier.send(order)
        assert told.wait(WAIT_S)
        threading.Timer(0.2, may_end.set).start()
        notifier.close()
        (entry,) = SentLog(tmp_path).read().entries.values()
        assert entry.posts[0].is_reached
        assert CLOSE_WAIT_S < WAIT_S

    def test_one_that_hangs_keeps_nobody_from_the_others(self, tmp_path: Path) -> None:
        hung, came = threading.Event(), threading.Event()

        class Hangs:
            def deliver(self, notice: Notice) -> Receipt:
                hung.wait(WAIT_S)
                return Receipt()

        class Works:
            def deliver(self, notice: Notice) -> Receipt:
                came.set()
                return Receipt()

        outfit = Outfit(
            cfg=oncall("pagerduty", "slack"), sinks={"pagerduty": Hangs(), "slack": Works()}
        )
        notifier = Notifier(outfit, SentLog(tmp_path), SystemClock(), HOST)
        notifier.start()
        wall = SystemClock().wall()
        order = Page(id="p", incident=IncidentId("inc-1"), severity="error", summary="s", wall=wall)
        notifier.send(order)
        assert came.wait(WAIT_S)
        hung.set()
        notifier.close()
