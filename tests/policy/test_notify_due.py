"""Who is told what, when and why: first, escalated, repeat, acknowledged, resolved."""

from __future__ import annotations

import pytest

from gpuwarden.model.oncall import Reason, Result, State
from gpuwarden.policy.notify import due
from gpuwarden.policy.notify.fold import lost
from gpuwarden.policy.notify.results import concluded
from tests.policy.notify_stage import HOST, T0, Duty, inc, oncall

FIRST, ESCALATED, REPEAT = Reason.FIRST, Reason.ESCALATED, Reason.REPEAT
ACK, RESOLVED, REFRESH = Reason.ACKNOWLEDGED, Reason.RESOLVED, Reason.REFRESH


def test_a_page_is_told_once_and_its_end_once() -> None:
    duty = Duty().page().run(100)
    assert duty.heard() == [FIRST]
    duty.close(1).run(5000)
    assert duty.heard() == [FIRST, RESOLVED]
    assert inc() not in duty.book.entries


def test_the_same_page_twice_is_one() -> None:
    assert Duty().page().page().run(10).heard() == [FIRST]


def test_what_nobody_acknowledges_is_told_again_every_half_hour() -> None:
    duty = Duty().page().run(2 * 1800 + 10, step_s=5.0)
    assert duty.heard() == [FIRST, REPEAT, REPEAT]
    assert [n.number for _, n in duty.told] == [1, 1, 2]
    assert [at for at, _ in duty.told] == [0, 1800, 3600]


def test_acknowledged_is_quiet_until_it_is_over() -> None:
    duty = Duty().page().run(10).ack().run(4000)
    assert duty.heard() == [FIRST, ACK]
    assert duty.told[-1][1].acked_by == "ann"
    assert duty.close(1).run(4100).heard() == [FIRST, ACK, RESOLVED]


class TestEscalation:
    CFG = oncall(
        "slack",
        "pagerduty",
        "email",
        step=[
            {"after": "5m", "sinks": ["pagerduty"]},
            {"after": 0, "sinks": ["slack"]},
            {"after": "10m", "sinks": ["email", "slack"]},
        ],
    )

    def test_in_order_of_time(self) -> None:
        duty = Duty(self.CFG).page().run(700)
        heard = [(at, n.sink, n.reason, n.number) for at, n in duty.told]
        assert heard == [
            (0, "slack", FIRST, 1),
            (300, "pagerduty", ESCALATED, 2),
            (600, "slack", ESCALATED, 3),
            (600, "email", ESCALATED, 3),
        ]

    @pytest.mark.parametrize(("acked_at", "woken"), [(299, 1), (300, 2)])
    def test_ends_with_the_acknowledgement(self, acked_at: int, woken: int) -> None:
        duty = Duty(self.CFG).page().run(acked_at).ack().run(2000)
        assert len([n for _, n in duty.told if n.reason in (FIRST, ESCALATED)]) == woken

    def test_who_was_not_told_does_not_hear_of_the_end(self) -> None:
        duty = Duty(self.CFG).page().run(10).close(1).run(20)
        assert [(n.sink, n.reason) for _, n in duty.told] == [("slack", FIRST), ("slack", RESOLVED)]

    def test_a_worse_page_undoes_the_acknowledgement_and_is_told_at_once(self) -> None:
        duty = Duty(self.CFG).page().run(10).ack().run(20)
        duty.page(id="inc-1/2", severity="critical", summary="it is worse").run(30)
        assert duty.heard("slack") == [FIRST, ACK, ESCALATED]
        notice = duty.told[-1][1]
        assert (notice.severity, notice.severities) == ("critical", ("error", "critical"))
        assert notice.brief.summary == "it is worse"
        assert duty.entry().ack is None

    def test_one_that_is_no_worse_is_an_update(self) -> None:
        duty = Duty(self.CFG).page().run(10)
        duty.page(id="inc-1/2", severity="error", summary="also this").run(20)
        assert duty.heard("slack") == [FIRST, REPEAT]
        assert duty.told[-1][1].brief.summary == "also this"

    def test_an_update_while_the_first_is_on_its_way_is_not_lost(self) -> None:
        duty = Duty(self.CFG).page()
        duty.book = due.advance(duty.cfg, duty.book, T0)
        duty.book, (first,) = due.orders(duty.cfg, duty.book, T0, busy=frozenset(), host=HOST)
        duty.page(id="inc-1/2", severity="error", summary="also this")
        duty.book = concluded(
            duty.cfg, duty.book, first, Result.DELIVERED, detail="", wall=T0 + 0.5
        )
        duty.run(10)
        assert [(n.reason, n.brief.summary) for _, n in duty.told] == [(REPEAT, "also this")]


def test_milder_than_a_sink_wants_is_not_sent_there() -> None:
    cfg = oncall("slack", "pagerduty")
    picky = cfg.pagerduty[0].model_copy(update={"min_severity": "critical"})
    cfg = cfg.model_copy(update={"pagerduty": (picky,)})
    duty = Duty(cfg).page().run(10)
    assert [n.sink for _, n in duty.told] == ["slack"]
    duty.page(id="inc-1/2", severity="critical", summary="worse").run(20)
    assert [n.sink for _, n in duty.told] == ["slack", "pagerduty", "slack"]


class TestTrouble:
    def test_down_for_hours_loses_nothing_and_repeats_nothing(self) -> None:
        duty = Duty(down={"pagerduty": Result.FAILED}).page().run(4 * 3600, step_s=5.0)
        assert duty.told == []
        assert len(duty.tried) < 150  # backs off
        duty.down.clear()
        duty.run(4 * 3600 + 306)
        assert duty.heard() == [FIRST]
        assert duty.tried[0][1].id == duty.told[0][1].id

    def test_over_before_anybody_could_be_told_is_told_once_as_news(self) -> None:
        duty = Duty(down={"pagerduty": Result.FAILED}).page().run(60).close(1).run(120)
        duty.down.clear()
        duty.run(1000)
        assert duty.heard() == [RESOLVED]
        assert duty.told[0][1].is_news

    def test_told_and_then_over_is_no_news(self) -> None:
        duty = Duty().page().run(5).close(1).run(10)
        assert [n.is_news for _, n in duty.told] == [True, False]

    def test_refused_is_not_repeated_until_the_next_reason(self) -> None:
        duty = Duty(down={"pagerduty": Result.REFUSED}).page().run(1790)
        assert len(duty.tried) == 1
        assert duty.entry().posts[0].state is State.REFUSED
        duty.down.clear()
        duty.run(1810)
        assert duty.heard() == [FIRST]

    def test_one_that_a_sink_chokes_on_does_not_stand_before_the_others(self) -> None:
        duty = Duty().page(1).page(2)
        seen = []
        for _ in range(200):
            for notice in duty.now():
                seen.append(notice.brief.incident)
            duty.at += 1
            choked = inc(1) in seen and not duty.heard(number=2)
            duty.down = {"pagerduty": Result.FAILED} if choked and seen[-1] == inc(1) else {}
        assert FIRST in duty.heard(number=2)

    def test_one_sink_that_hangs_is_no_matter_to_the_others(self) -> None:
        duty = Duty(oncall("pagerduty", "slack")).page()
        duty.book = due.advance(duty.cfg, duty.book, T0)
        _, notices = due.orders(duty.cfg, duty.book, T0, busy=frozenset({"pagerduty"}), host=HOST)
        assert [n.sink for n in notices] == ["slack"]


class TestAlertmanager:
    CFG = oncall("alertmanager")

    def test_is_told_again_until_it_is_over(self) -> None:
        duty = Duty(self.CFG).page().run(181).close(1).run(400)
        heard = [(at, n.reason) for at, n in duty.told]
        ticks = [(60, REFRESH), (120, REFRESH), (180, REFRESH)]
        assert heard == [(0, FIRST), *ticks, (182, RESOLVED)]

    def test_repeats_and_acknowledgements_are_its_own_business(self) -> None:
        duty = Duty(self.CFG).page().run(10).ack().run(4000)
        assert set(duty.heard("alertmanager")) == {FIRST, REFRESH}

    def test_an_incident_that_the_agent_forgot_is_over(self) -> None:
        duty = Duty(self.CFG).page(1).page(2).run(5)
        duty.book = lost(duty.book, frozenset({inc(2)}), T0 + 6)
        duty.run(10)
        assert duty.heard("alertmanager", 1)[-1] is RESOLVED
        assert RESOLVED not in duty.heard("alertmanager", 2)


def test_a_page_without_an_incident_is_told_once_and_forgotten() -> None:
    cfg = oncall("alertmanager", "slack")
    duty = Duty(cfg).page("limits/x", has_incident=False).run(1900)
    assert duty.heard("slack") == [FIRST]
    assert duty.heard("alertmanager") == [FIRST]
    assert duty.run(4000).book.entries == {}


def test_a_sink_that_is_not_set_any_more_is_forgotten() -> None:
    duty = Duty(oncall("pagerduty", "slack"), down={"slack": Result.FAILED}).page().run(5)
    duty.cfg = oncall("pagerduty")
    duty.run(10)
    assert {p.sink for p in duty.entry().posts} == {"pagerduty"}


def test_the_notice_names_the_first_steps_and_the_command() -> None:
    (notice,) = Duty().page().now()
    assert notice.key == "node-1/inc-1"
    assert notice.more == "gpuwarden explain inc-1"
    assert len(notice.first_steps) == 3
    assert all("INCIDENT" not in line for line in notice.first_steps)


def test_what_an_incident_tells_of_its_messages_is_bounded() -> None:
    duty = Duty().page().run(200 * 1800, step_s=30.0)
    assert len(duty.heard()) > 150
    (first, repeat) = duty.entry().log
    assert (first.reason, repeat.reason, repeat.result) == (FIRST, REPEAT, Result.DELIVERED)


def test_same_inputs_same_decision() -> None:
    one, two = (Duty(oncall("slack", "email")).page().run(50) for _ in range(2))
    assert one.book == two.book
    assert [n for _, n in one.told] == [n for _, n in two.told]
