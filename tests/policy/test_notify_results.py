"""What became of messages: back-off from state, Retry-After, how a sink stands; and who complains when."""

from __future__ import annotations

import itertools

import pytest

from gpuwarden.model.oncall import Book, Matcher, Reason, Result
from gpuwarden.policy.notify import clock_set, due, fold, people, standing
from gpuwarden.policy.notify.results import (
    BACKOFF_FIRST_S,
    BACKOFF_MAX_S,
    RETRY_AFTER_MAX_S,
    backoff_s,
    concluded,
)
from tests.policy.notify_stage import HOST, T0, Duty, brief, inc, oncall, page


def test_backoff_doubles_is_bounded_and_spread() -> None:
    waits = [backoff_s("a", n) for n in range(40)]
    for n, wait in enumerate(waits):
        whole = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**n)
        assert whole / 2 <= wait <= whole
    assert backoff_s("a", 3) == backoff_s("a", 3)
    assert len({backoff_s(str(seed), 3) for seed in range(50)}) > 40


@pytest.mark.parametrize(
    ("asked_s", "at_least"), [(None, 2.5), (120.0, 120.0), (1e9, RETRY_AFTER_MAX_S)]
)
def test_retry_after_is_obeyed_within_bounds(asked_s: float | None, at_least: float) -> None:
    duty = Duty().page()
    (notice,) = duty.now()
    book = concluded(
        duty.cfg,
        duty.book,
        notice,
        Result.FAILED,
        detail="HTTP 429",
        wall=T0,
        retry_after_s=asked_s,
    )
    wait = book.sinks["pagerduty"].retry_wall - T0
    assert at_least <= wait <= max(at_least, BACKOFF_FIRST_S)


def test_a_result_of_an_older_message_settles_only_that_one() -> None:
    duty = Duty().page()
    duty.book = due.advance(duty.cfg, duty.book, T0)
    duty.book, (old,) = due.orders(duty.cfg, duty.book, T0, busy=frozenset(), host=HOST)
    duty.close(1)
    duty.book = due.advance(duty.cfg, duty.book, T0 + 1)
    duty.book = concluded(duty.cfg, duty.book, old, Result.DELIVERED, detail="", wall=T0 + 1)
    duty.run(10)
    assert [(n.reason, n.is_news) for _, n in duty.told] == [(Reason.RESOLVED, False)]


class TestComplaints:
    def said(self, duty: Duty) -> str:
        return "\n".join(standing.complaints(duty.cfg, duty.book, T0 + duty.at))

    @pytest.mark.parametrize(("at", "count"), [(298, 0), (300, 2)])
    def test_nobody_reached_for_long(self, at: int, count: int) -> None:
        duty = Duty(down={"pagerduty": Result.FAILED}).page().run(at)
        duty.at = at
        assert len(standing.complaints(duty.cfg, duty.book, T0 + at)) == count
        if count:
            assert "nobody could be told of inc-1 for 5 min" in self.said(duty)
            assert "pagerduty: said failed" in self.said(duty)

    def test_one_sink_that_fails_while_another_works(self) -> None:
        cfg = oncall("pagerduty", "slack")
        duty = Duty(cfg, down={"slack": Result.REFUSED}).page().run(400)
        assert "on-call sink slack has taken nothing for" in self.said(duty)
        assert "nobody" not in self.said(duty)

    def test_nobody_complains_of_what_is_held_back_or_in_hand(self) -> None:
        duty = Duty(down={"pagerduty": Result.FAILED}).page().run(3).ack().run(400)
        assert "nobody" not in self.said(duty)

    def test_many_are_named_by_some(self) -> None:
        duty = Duty(down={"pagerduty": Result.FAILED})
        for number in range(7):
            duty.page(number)
        assert "and 4 more" in self.said(duty.run(400))

    def test_a_dead_mans_switch_is_told_only_while_pages_arrive(self) -> None:
        duty = Duty(down={"pagerduty": Result.FAILED}).page().run(50)
        assert standing.is_alive(duty.cfg, duty.book, T0 + 59)
        assert not standing.is_alive(duty.cfg, duty.book, T0 + 60)
        duty.down.clear()
        duty.run(400)
        assert standing.is_alive(duty.cfg, duty.book, T0 + 400)


def test_state_for_readers() -> None:
    duty = Duty(oncall("pagerduty", "slack"), down={"slack": Result.FAILED}).page().run(400)
    state = standing.state(duty.cfg, duty.book, T0 + 400)
    assert [(s.name, s.kind, s.due) for s in state.sinks] == [
        ("pagerduty", "pagerduty", 0),
        ("slack", "slack", 1),
    ]
    assert state.sinks[0].failing_wall is None
    assert state.sinks[1].failing_wall == T0
    assert state.unreached == ()


def test_more_pages_than_there_is_room_for_are_counted() -> None:
    book = Book()
    for number in range(fold.ENTRIES_MAX + 3):
        book = fold.taken(oncall(), book, page(number), brief(number), has_incident=True)
    assert len(book.entries) == fold.ENTRIES_MAX
    assert book.dropped == 3
    assert "3 pages were dropped" in standing.complaints(oncall(), book, T0)[-1]


def test_what_is_over_makes_room() -> None:
    duty = Duty(storm_free := oncall(storm_notices=1000)).page(0).run(2).close(0).run(4)
    for number in range(1, fold.ENTRIES_MAX + 1):
        duty.book = fold.taken(
            storm_free, duty.book, page(number), brief(number), has_incident=True
        )
    assert duty.book.dropped == 0
    assert inc(0) not in duty.book.entries


class TestClock:
    """Somebody sets the wall clock: nothing fires early, nothing is lost."""

    @pytest.mark.parametrize("jump_s", [3600.0, -3600.0, -1e9, 2.5e9])
    def test_a_jump_moves_what_is_remembered(self, jump_s: float) -> None:
        steps = [{"after": 0, "sinks": ["slack"]}, {"after": "5m", "sinks": ["pagerduty"]}]
        duty = Duty(oncall("slack", "pagerduty", step=steps)).page().run(100)
        duty.book = clock_set.rebased(duty.book, jump_s)
        duty.at += jump_s
        duty.run(duty.at + 190)
        assert [n.sink for _, n in duty.told] == ["slack"]
        duty.run(duty.at + 20)
        assert [n.sink for _, n in duty.told] == ["slack", "pagerduty"]

    def test_there_and_back_is_where_it_was(self) -> None:
        duty = Duty(oncall("slack", storm_notices=1)).page(1).page(2).page(3).run(100)
        back = clock_set.rebased(clock_set.rebased(duty.book, 4096.0), -4096.0)
        assert back == duty.book

    def test_what_is_read_from_a_future_is_brought_back(self) -> None:
        duty = Duty(down={"pagerduty": Result.FAILED}).page().run(100)
        woken = clock_set.awoken(duty.book, T0 - 10_000.0)
        duty.book, duty.at, duty.down = woken, -10_000.0, {}
        duty.run(-9_600.0)
        assert duty.heard() == [Reason.FIRST]


def test_next_look_is_no_later_than_what_is_due() -> None:
    steps = [{"after": 0, "sinks": ["slack"]}, {"after": "7s", "sinks": ["pagerduty"]}]
    duty = Duty(oncall("slack", "pagerduty", step=steps)).page().run(4)
    looks = [standing.next_look(duty.cfg, duty.book, T0 + at) for at in (4.0, 6.0)]
    assert looks == [T0 + 7, T0 + 7]
    assert standing.next_look(duty.cfg, Book(), T0) == T0 + standing.IDLE_LOOK_S


def test_what_a_sink_would_forget_is_said_again_in_time() -> None:
    cfg = oncall("alertmanager")
    cfg = cfg.model_copy(
        update={"alertmanager": (cfg.alertmanager[0].model_copy(update={"resend_s": 1.0}),)}
    )
    duty = Duty(cfg).page().run(4)
    assert standing.next_look(cfg, duty.book, T0 + 4) <= T0 + 5


def test_acknowledged_before_anybody_was_told_wakes_nobody() -> None:
    duty = Duty(down={"pagerduty": Result.FAILED}).page().run(3).ack()
    duty.down.clear()
    assert duty.run(400).told == []
    assert duty.close(1).run(410).told == []


def test_an_acknowledgement_stands_in_the_incident() -> None:
    duty = Duty().page().run(3).ack(who="ann")
    assert (duty.entry().log[-1].reason, duty.entry().log[-1].detail) == (
        Reason.ACKNOWLEDGED,
        "by ann",
    )


def test_silences_have_ids_of_their_own() -> None:
    book, ids = Book(), set()
    for _, wall in itertools.product(range(3), (T0, T0 + 1)):
        book, silence = people.silenced(
            book, Matcher(rule="x"), author="a", reason="r", wall=wall, until_wall=wall + 1
        )
        ids.add(silence.id)
    assert len(ids) == len(book.silences) == 6
