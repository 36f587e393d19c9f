"""What people say to on-call: in the journal before it counts, and refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.audit import Audited
from gpuwarden.model.memory import Memory
from gpuwarden.model.oncall import Matcher
from gpuwarden.node.journal import FileJournal, Reading, read
from gpuwarden.node.oncall_desk import FOR_MAX_S
from gpuwarden.node.recover import recover
from gpuwarden.policy.notify import people
from tests.adapters.sink_notices import EVIL
from tests.node.test_notifier import close, open_incident
from tests.policy.notify_stage import inc, oncall
from tests.simulated.oncall import ANN, Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, oncall("pagerduty", "slack", storm_notices=3))


class TestAck:
    @pytest.mark.parametrize("wanted", ["inc-1", "inc-", "last", "all"])
    def test_by_its_id_the_beginning_of_it_and_by_words(self, wanted: str, desk: Desk) -> None:
        open_incident(desk)
        desk.run(3)
        assert desk.people().ack(wanted, ANN, "on it") == ("inc-1",)
        desk.run(4000, step_s=10.0)
        assert [r for _, r in desk.sinks["slack"].heard] == ["first", "acknowledged"]
        (line,) = [d for d in desk.notifier.book.entries[inc(1)].log if not d.sink]
        assert line.detail == "by ann: on it"

    def test_of_a_whole_storm(self, desk: Desk) -> None:
        for number in range(1, 6):
            open_incident(desk, number)
        desk.run(3)
        storm = desk.sinks["slack"].told[0][1].brief.incident
        assert len(desk.people().ack(storm, ANN, "")) == 5

    @pytest.mark.parametrize(
        ("wanted", "why"),
        [("inc-9", "nobody is being paged about inc-9"), ("", "nobody"), ("inc-", "fits 2")],
    )
    def test_what_there_is_nothing_to_acknowledge_of(
        self, wanted: str, why: str, desk: Desk
    ) -> None:
        open_incident(desk, 1)
        open_incident(desk, 2)
        with pytest.raises(Refused, match=why):
            desk.people().ack(wanted, ANN, "")
        assert desk.audit.entries == []

    def test_what_is_over(self, desk: Desk) -> None:
        open_incident(desk)
        close(desk)
        desk.run(3)
        with pytest.raises(Refused):
            desk.people().ack("inc-1", ANN, "")


class TestSilences:
    def test_one_is_listed_and_ends(self, desk: Desk) -> None:
        made = desk.people().silence(Matcher(rule="sight"), ANN, "known", 60.0)
        assert desk.people().silences() == (made,)
        assert (made.author, made.until_wall) == ("ann", desk.clock.wall() + 60)
        assert desk.people().expire(made.id[:8], ANN) == made
        assert desk.people().silences() == ()
        assert [e.verb for e in desk.audit.entries] == ["silence add", "silence expire"]

    @pytest.mark.parametrize(
        ("matcher", "reason", "for_s", "why"),
        [
            (Matcher(), "r", 60.0, "a silence of everything"),
            (Matcher(rule="x"), " ", 60.0, "needs a reason"),
            (Matcher(rule="x"), "r", 0.0, "up to 90 days"),
            (Matcher(rule="x"), "r", FOR_MAX_S + 1, "up to 90 days"),
            (Matcher(rule="x"), "r", float("nan"), "up to 90 days"),
        ],
    )
    def test_none_without_end_reason_or_aim(
        self, matcher: Matcher, reason: str, for_s: float, why: str, desk: Desk
    ) -> None:
        with pytest.raises(Refused, match=why):
            desk.people().silence(matcher, ANN, reason, for_s)

    def test_bounded(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(people, "SILENCES_MAX", 2)
        for _ in range(2):
            desk.people().silence(Matcher(rule="x"), ANN, "r", 60.0)
        with pytest.raises(Refused, match="expire one"):
            desk.people().silence(Matcher(rule="x"), ANN, "r", 60.0)

    def test_one_that_is_not_there(self, desk: Desk) -> None:
        for wanted in ("", "sil-"):
            with pytest.raises(Refused, match="there is none"):
                desk.people().expire(wanted, ANN)


class TestTesting:
    def test_is_delivered_and_counts_for_nothing(self, desk: Desk) -> None:
        assert desk.people().test("slack", ANN).text == "taken"
        (notice,) = [n for _, n in desk.sinks["slack"].told]
        assert notice.reason == "test"
        assert desk.notifier.book.entries == {}

    def test_says_why_it_was_not_taken(self, desk: Desk) -> None:
        desk.sinks["slack"].mood = "refuses"
        with pytest.raises(Refused, match="HTTP 400: no"):
            desk.people().test("slack", ANN)

    def test_one_that_is_not_set(self, desk: Desk) -> None:
        with pytest.raises(Refused, match=r"known: pagerduty, slack"):
            desk.people().test("pager", ANN)


def test_what_cannot_be_written_down_does_not_count(desk: Desk) -> None:
    open_incident(desk)
    desk.run(3)
    desk.audit.is_broken = True
    calls = (
        lambda: desk.people().ack("inc-1", ANN, ""),
        lambda: desk.people().silence(Matcher(rule="x"), ANN, "r", 60.0),
        lambda: desk.people().test("slack", ANN),
    )
    for call in calls:
        with pytest.raises(Unavailable, match="No space left"):
            call()
    assert desk.notifier.book.silences == {}
    assert [r for _, r in desk.sinks["slack"].heard] == ["first"]


def test_the_journal_names_who_said_what_and_is_read_on(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path, 2**20)
    journal.begin("{}", Memory())
    entry = Audited(at=1.0, wall=2.0, caller=ANN, verb="ack", what=f"inc-1: {EVIL}")
    journal.audit(entry)
    journal.remember(Memory(serial=7))
    journal.close()
    reading = Reading()
    records = list(read(tmp_path, reading))
    assert reading.gaps == 0
    assert [r.audit for r in records if r.kind == "audit"] == [entry]
    assert recover(records).memory.serial == 7
