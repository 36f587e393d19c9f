"""Many messages within a short time become one."""

from __future__ import annotations

from gpuwarden.model.oncall import Notice, Reason, Result
from tests.policy.notify_stage import Duty, inc, oncall

FIRST, RESOLVED, FOLDED = Reason.FIRST, Reason.RESOLVED, Reason.STORM_FOLDED
CFG = oncall("pagerduty", storm_notices=3, storm_window_s=60, repeat_s=3600)


def pages(duty: Duty, *numbers: int, severity: str = "error") -> Duty:
    for number in numbers:
        duty.page(number, severity=severity)
    return duty


def storms(duty: Duty, sink: str = "pagerduty") -> list[Notice]:
    return [n for _, n in duty.of(sink) if n.folded_count]


def test_as_many_as_are_allowed_are_told_each() -> None:
    duty = pages(Duty(CFG), 1, 2, 3).run(30)
    assert duty.heard() == [FIRST] * 3


def test_more_at_once_are_one_that_names_the_worst() -> None:
    duty = pages(Duty(CFG), 1, 2, 3)
    duty = pages(duty, 4, severity="critical").run(30)
    (notice,) = storms(duty)
    assert duty.heard() == [FOLDED]
    assert (notice.folded_count, notice.severity, len(notice.folded)) == (4, "critical", 4)
    assert notice.folded[0].startswith("critical inc-4:")
    assert "4 incidents on node-1 (4 x sight)" in notice.brief.summary
    assert notice.more == "gpuwarden incidents"
    assert duty.entry(2).log[-1].reason is FOLDED


def test_more_within_the_window_fold_what_comes_next() -> None:
    duty = Duty(CFG)
    for number in range(1, 8):
        duty.page(number).run(duty.at + 5)
    assert duty.heard() == [FIRST] * 3 + [FOLDED]
    assert {n.brief.incident for _, n in duty.told if not n.folded} == {inc(1), inc(2), inc(3)}


def test_a_storm_that_grows_is_told_once_a_window() -> None:
    duty = pages(Duty(CFG), 1, 2, 3, 4).run(5)
    for number in range(5, 15):
        duty.page(number).run(duty.at + 5)
    duty.run(120)
    assert [n.folded_count for n in storms(duty)] == [4, 14]
    assert FIRST not in duty.heard()


def test_after_it_has_passed_what_comes_is_told_by_itself() -> None:
    duty = pages(Duty(CFG), 1, 2, 3, 4).run(100).page(5).run(110)
    assert duty.heard() == [FOLDED, FIRST]


def test_its_end_is_told_once_when_all_of_it_is_over() -> None:
    duty = pages(Duty(CFG), 1, 2, 3, 4).run(10).close(1, 2, 3).run(20)
    assert duty.heard() == [FOLDED]
    duty.close(4).run(30)
    assert duty.heard() == [FOLDED, RESOLVED]
    assert storms(duty)[0].key == storms(duty)[1].key
    assert duty.book.sinks["pagerduty"].storm is None


def test_who_was_told_alone_hears_of_the_end_alone() -> None:
    duty = Duty(CFG).page(1).run(5)
    pages(duty, 2, 3, 4, 5).run(10).close(1, 2, 3, 4, 5).run(20)
    assert duty.heard(number=1) == [FIRST, RESOLVED]
    assert [n.reason for n in storms(duty)] == [FOLDED, RESOLVED]


def test_down_for_hours_comes_back_as_one() -> None:
    """Of what came and went meanwhile and of what stands: nothing is lost, and nothing is a storm."""
    duty = Duty(CFG, down={"pagerduty": Result.FAILED})
    for number in range(1, 21):
        duty.page(number).run(duty.at + 100, step_s=5.0)
        if number % 2:
            duty.close(number)
    duty.down.clear()
    duty.run(duty.at + 400)
    assert [n.folded_count for n in storms(duty)] == [20]
    assert len(duty.told) == 1


def test_nothing_of_it_is_forgotten_before_it_was_told() -> None:
    duty = Duty(CFG, down={"pagerduty": Result.FAILED})
    pages(duty, 1, 2, 3, 4).run(10).close(1, 2, 3, 4).run(2 * 86_400, step_s=600.0)
    duty.down.clear()
    duty.run(duty.at + 400)
    assert [n.folded_count for n in storms(duty)] == [4]


def test_all_of_it_acknowledged_is_told_so() -> None:
    duty = pages(Duty(CFG), 1, 2, 3, 4).run(10)
    for number in (1, 2, 3):
        duty.ack(number)
    assert duty.run(20).heard() == [FOLDED]
    duty.ack(4).run(8000, step_s=10.0)
    assert duty.heard() == [FOLDED, Reason.ACKNOWLEDGED]


def test_one_nobody_acknowledges_is_repeated() -> None:
    duty = pages(Duty(CFG), 1, 2, 3, 4).run(3700, step_s=5.0)
    assert duty.heard() == [FOLDED, FOLDED]


def test_alertmanager_groups_by_itself() -> None:
    cfg = oncall("alertmanager", storm_notices=3)
    duty = pages(Duty(cfg), *range(1, 9)).run(30)
    assert duty.heard("alertmanager") == [FIRST] * 8


def test_one_refused_is_let_go_when_it_is_over() -> None:
    duty = pages(Duty(CFG, down={"pagerduty": Result.REFUSED}), 1, 2, 3, 4).run(10)
    duty.close(1, 2, 3, 4).run(20)
    assert duty.book.sinks["pagerduty"].storm is None
