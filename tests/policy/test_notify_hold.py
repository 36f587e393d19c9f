"""Reasons to tell nobody now: silences, maintenance windows, flapping; each at its edge second."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.config_oncall import WindowConfig
from gpuwarden.model.oncall import Matcher, Reason, Result
from gpuwarden.policy.notify import fold, hold, people
from tests.policy.notify_stage import T0, Duty, brief, oncall, page

FIRST, RESOLVED = Reason.FIRST, Reason.RESOLVED


def silence(duty: Duty, for_s: float, **matcher: str) -> Duty:
    duty.book, _ = people.silenced(
        duty.book,
        Matcher(**matcher),
        author="ann",
        reason="known bad",
        wall=T0 + duty.at,
        until_wall=T0 + duty.at + for_s,
    )
    return duty


class TestMatching:
    BRIEF = brief(
        1, tenant="docker:abc", tenant_name="hog", rule="quota", fault="hang", device="GPU-1"
    )

    @pytest.mark.parametrize(
        ("matcher", "fits"),
        [
            ({"tenant": "hog"}, True),
            ({"tenant": "docker:*"}, True),
            ({"tenant": "ho"}, False),
            ({"device": "GPU-1"}, True),
            ({"device": "GPU-2"}, False),
            ({"rule": "quota"}, True),
            ({"rule": "hang"}, True),
            ({"rule": "sight"}, False),
            ({"incident": "inc-1"}, True),
            ({"incident": "inc-?"}, True),
            ({"tenant": "hog", "device": "GPU-2"}, False),
            ({}, False),
        ],
    )
    def test_every_given_field(self, matcher: dict[str, str], fits: bool) -> None:
        assert hold.matches(Matcher(**matcher), self.BRIEF) is fits

    def test_a_star_does_not_fit_what_is_not_there(self) -> None:
        assert not hold.matches(Matcher(tenant="*"), brief(1))


class TestSilence:
    def test_until_it_ends_and_then_it_is_told(self) -> None:
        duty = silence(Duty(), 100.0, device="GPU-1").page().run(99)
        assert duty.told == []
        assert duty.run(100).heard() == [FIRST]
        assert [(d.reason, d.result) for d in duty.entry().log] == [
            (Reason.SILENCED, Result.HELD),
            (FIRST, Result.DELIVERED),
        ]
        assert "known bad" in duty.entry().log[0].detail

    def test_over_before_that_is_never_told(self) -> None:
        duty = silence(Duty(), 100.0, device="GPU-1").page().run(50).close(1).run(5000, step_s=9.0)
        assert duty.told == []
        assert duty.book.entries == {}

    def test_of_somebody_else(self) -> None:
        assert silence(Duty(), 100.0, device="GPU-2").page().run(5).heard() == [FIRST]

    def test_who_was_told_before_hears_of_the_end(self) -> None:
        duty = silence(Duty().page().run(5), 9_000.0, rule="sight").run(4000, step_s=5.0)
        assert duty.heard() == [FIRST]
        assert duty.close(1).run(4100).heard() == [FIRST, RESOLVED]

    def test_what_waits_already_waits_on(self) -> None:
        duty = Duty(down={"pagerduty": Result.FAILED}).page().run(3)
        silence(duty, 1000.0, rule="sight").down.clear()
        assert duty.run(1000).told == []
        assert duty.run(1100).heard() == [FIRST]

    def test_escalation_counts_from_its_end(self) -> None:
        steps = [{"after": 0, "sinks": ["slack"]}, {"after": "5m", "sinks": ["pagerduty"]}]
        duty = silence(Duty(oncall("slack", "pagerduty", step=steps)), 600.0, rule="sight").page()
        duty.run(899)
        assert [n.sink for _, n in duty.told] == ["slack"]
        assert [n.sink for _, n in duty.run(901).told] == ["slack", "pagerduty"]

    def test_ended_early(self) -> None:
        duty = silence(Duty(), 1000.0, rule="sight").page().run(10)
        (only,) = duty.book.silences
        duty.book = people.expired(duty.book, only)
        assert duty.run(11).heard() == [FIRST]

    def test_is_forgotten_when_it_is_over(self) -> None:
        assert silence(Duty(), 10.0, rule="x").run(11).book.silences == {}


# T0 is 2027-01-15 08:00:00 UTC, a Friday.
DAY = 86_400.0
FRIDAY = T0 - 8 * 3600.0


def window(**said: Any) -> WindowConfig:
    return WindowConfig.model_validate({"name": "w", **said})


class TestMaintenance:
    @pytest.mark.parametrize(
        ("said", "at", "within"),
        [
            ({"from": "02:00", "to": "04:00"}, 2 * 3600 - 1, False),
            ({"from": "02:00", "to": "04:00"}, 2 * 3600, True),
            ({"from": "02:00", "to": "04:00"}, 4 * 3600 - 1, True),
            ({"from": "02:00", "to": "04:00"}, 4 * 3600, False),
            ({"days": ["fri"], "from": "02:00", "to": "04:00"}, 3 * 3600, True),
            ({"days": ["sat"], "from": "02:00", "to": "04:00"}, 3 * 3600, False),
            ({"days": ["sat"], "from": "02:00", "to": "04:00"}, DAY + 3 * 3600, True),
            # over midnight: it belongs to the day on which it began
            ({"days": ["thu"], "from": "23:00", "to": "01:00"}, 1800, True),
            ({"days": ["fri"], "from": "23:00", "to": "01:00"}, 1800, False),
            ({"days": ["fri"], "from": "23:00", "to": "01:00"}, DAY + 1800, True),
            ({"days": ["fri"], "from": "00:00", "to": "00:00"}, DAY - 1, True),
            ({"days": ["fri"], "from": "00:00", "to": "00:00"}, DAY, False),
        ],
    )
    def test_each_week(self, said: dict[str, Any], at: float, within: bool) -> None:
        assert hold.is_within(window(**said), FRIDAY + at) is within

    @pytest.mark.parametrize(("at", "within"), [(-1, False), (0, True), (9, True), (10, False)])
    def test_once(self, at: float, within: bool) -> None:
        assert hold.is_within(window(start=T0, end=T0 + 10), T0 + at) is within

    @pytest.mark.parametrize(
        ("said", "held"), [({}, 60), ({"rule": "sight"}, 60), ({"rule": "x"}, 0)]
    )
    def test_holds_what_it_is_for(self, said: dict[str, str], held: int) -> None:
        cfg = oncall("pagerduty", window=[{"name": "w", "start": T0, "end": T0 + 60, **said}])
        duty = Duty(cfg).page().run(100)
        assert [at for at, _ in duty.told] == [held]


class TestFlapping:
    """Comes and goes every minute."""

    CFG = oncall("pagerduty", flap_count=3, flap_window_s="1h")

    def duty(self) -> Duty:
        return Duty(self.CFG)

    def same(self, duty: Duty, number: int, severity: str = "error") -> Duty:
        """The same device, under another incident's id."""
        order = page(number, duty.at, severity=severity)
        known = brief(number, device="GPU-1", opened_wall=T0 + duty.at)
        duty.book = fold.taken(duty.cfg, duty.book, order, known, has_incident=True)
        return duty

    def come_and_go(self, duty: Duty, *numbers: int) -> Duty:
        for number in numbers:
            self.same(duty, number).run(duty.at + 20).close(number).run(duty.at + 40)
        return duty

    def test_the_third_says_so_and_further_ones_are_held_back(self) -> None:
        duty = self.come_and_go(self.duty(), 1, 2, 3, 4, 5, 6)
        firsts = [(n.brief.incident, n.is_flapping) for _, n in duty.told if n.reason is FIRST]
        assert firsts == [("inc-1", False), ("inc-2", False), ("inc-3", True)]
        assert [d.reason for d in duty.entry(5).log] == [Reason.FLAP_SUPPRESSED]

    def test_the_end_of_the_last_one_is_told_when_it_is_calm(self) -> None:
        duty = self.come_and_go(self.duty(), 1, 2, 3, 4, 5)
        assert duty.heard(number=3) == [FIRST]
        duty.run(3 * 3600, step_s=10.0)
        assert duty.heard(number=3) == [FIRST, RESOLVED]
        assert duty.heard(number=5) == []

    def test_one_that_stays_is_told_when_it_is_calm(self) -> None:
        duty = self.come_and_go(self.duty(), 1, 2, 3, 4)
        self.same(duty, 5).run(3 * 3600, step_s=10.0)
        assert duty.heard(number=5)[0] is FIRST

    def test_a_worse_one_is_told(self) -> None:
        duty = self.come_and_go(self.duty(), 1, 2, 3, 4)
        self.same(duty, 5, "critical").run(duty.at + 5)
        assert duty.heard(number=5) == [FIRST]
        self.same(duty, 6, "critical").run(duty.at + 5)
        assert duty.heard(number=6) == []

    def test_another_device_does_not_flap(self) -> None:
        duty = self.come_and_go(self.duty(), 1, 2, 3, 4).page(7).run(400)
        assert FIRST in duty.heard(number=7)

    def test_rare_ones_are_all_told(self) -> None:
        duty = self.duty()
        for number in range(1, 6):
            self.same(duty, number).run(duty.at + 20).close(number).run(duty.at + 1800, step_s=10.0)
        assert len([n for _, n in duty.told if n.reason is FIRST]) == 5
