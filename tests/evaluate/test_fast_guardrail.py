"""Guardrails second by second: entering, leaving, silence, stalls; and shifts against a service's own past."""

import math
import random
from dataclasses import replace

import pytest

from gpuwarden.config_guardrails import GuardrailConfig, pack
from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.evaluate.fast.guardrail import Memory, judge
from gpuwarden.model.evaluation import Cohort, Colour, Histogram, Level, Missing, Verdict, Window
from gpuwarden.model.guardrail import Guardrail, Idle, OnMissing, Side

RISK = Cohort(service="risk")
START = 600_000.0
LATE = Guardrail(
    name="late",
    expression="p99(latency_s)",
    limit=0.5,
    over_s=2.0,
    enter_s=2.0,
    leave_s=3.0,
    hold_red_s=4.0,
)


class Feed:
    """One window a second, judged at its end."""

    def __init__(self, spec: Guardrail, length_s: float = 1.0) -> None:
        self.spec, self.length_s = spec, length_s
        self.memory = Memory()
        self.now = START
        self.windows: list[Window] = []
        self.verdict: Verdict | None = None

    def go(self, steps: int, **series: object) -> list[Colour]:
        seen = []
        for _ in range(steps):
            if series:
                self.windows.append(
                    Window(cohort=RISK, begin_wall=self.now, length_s=self.length_s, **series)  # type: ignore[arg-type]
                )
            self.now += self.length_s
            reach = self.spec.reach_s + 3 * self.length_s
            self.windows = [w for w in self.windows if w.begin_wall >= self.now - reach]
            self.memory, self.verdict = judge(self.spec, self.memory, RISK, self.windows, self.now)
            seen.append(self.verdict.colour)
        return seen


def latency(seconds: float, in_flight: float | None = None) -> dict[str, object]:
    level = in_flight if in_flight is not None else 1.0
    return {
        "sketches": {"latency_s": sketches.of([seconds] * 20)},
        "levels": {"in_flight": Level(total=level, count=1, low=level, high=level, last=level)},
    }


def flying(level: float) -> dict[str, object]:
    return {"levels": {"in_flight": Level(total=level, count=1, low=level, high=level, last=level)}}


G, R, U = Colour.GREEN, Colour.RED, Colour.UNKNOWN


def test_enters_after_its_dwell_and_leaves_after_its_recovery() -> None:
    feed = Feed(LATE)
    assert feed.go(2, **latency(0.1)) == [G, G]
    assert feed.go(4, **latency(2.0)) == [G, G, R, R]
    assert feed.verdict is not None
    assert feed.verdict.value == pytest.approx(2.0, rel=0.01)
    assert (feed.verdict.limit, feed.verdict.missing) == (0.5, None)
    assert "p99(latency_s) is 2" in feed.verdict.summary
    # The slow ones leave the two seconds that are looked at; then three seconds of good ones.
    assert feed.go(6, **latency(0.1)) == [R, R, R, R, G, G]


def test_no_data_is_never_green() -> None:
    feed = Feed(LATE)
    assert feed.go(2) == [U, U]
    assert feed.verdict is not None
    assert feed.verdict.missing is Missing.NO_DATA
    feed.go(3, **latency(0.1))
    assert G not in feed.go(10)[2:]
    assert feed.verdict.value is None


def test_red_stands_through_a_silence_for_a_while_and_is_then_unknown() -> None:
    feed = Feed(LATE)
    feed.go(6, **latency(2.0))
    seen = feed.go(12)
    assert seen[:4] == [R] * 4
    assert seen[-1] is U
    assert G not in seen


def test_no_data_may_be_red_after_its_dwell() -> None:
    feed = Feed(replace(LATE, missing=OnMissing.RED))
    feed.go(3, **latency(0.1))
    seen = feed.go(8)
    assert seen[-1] is R
    assert G not in seen[2:]


def test_too_few_are_not_judged() -> None:
    feed = Feed(replace(LATE, min_support=100))
    assert feed.go(4, **latency(2.0)) == [U] * 4
    assert feed.verdict is not None
    assert feed.verdict.missing is Missing.TOO_FEW


def test_nothing_ending_while_requests_are_in_flight_is_red_and_idle_is_not() -> None:
    spec = replace(LATE, stall_s=2.0, idle=Idle.KEEP)
    feed = Feed(spec)
    feed.go(3, **latency(0.1))
    seen = feed.go(10, **flying(3.0))
    assert R in seen[3:6]
    idle = Feed(spec)
    idle.go(3, **latency(0.1))
    assert R not in idle.go(10, **flying(0.0))
    assert idle.memory.colour is G
    assert idle.verdict is not None
    assert (idle.verdict.colour, idle.verdict.missing) == (U, Missing.TOO_FEW)


@pytest.mark.parametrize(("share", "colour"), [(0.04, G), (0.06, R)])
def test_side_above_and_below(share: float, colour: Colour) -> None:
    counts = {"counts": {"requests": 1000.0, "errors": 1000 * share}}
    above = Feed(Guardrail(name="e", expression="errors / requests", limit=0.05))
    assert above.go(2, **counts)[-1] is colour
    below = Feed(
        Guardrail(name="e", expression="1 - errors / requests", limit=0.95, side=Side.BELOW)
    )
    assert below.go(2, **counts)[-1] is colour


def test_a_drop_is_judged_against_the_past_and_red_does_not_become_the_past() -> None:
    spec = Guardrail(
        name="drop",
        expression="drop(correct / labels)",
        limit=0.05,
        over_s=300,
        past_s=3600,
        step_s=60,
    )
    feed = Feed(spec, length_s=60.0)
    good = {"counts": {"labels": 100.0, "correct": 95.0}}
    assert feed.go(30, **good)[-1] is G
    bad = {"counts": {"labels": 100.0, "correct": 85.0}}
    assert feed.go(10, **bad)[-1] is R
    assert feed.go(120, **bad)[-1] is R
    assert feed.go(20, **good)[-1] is G


def service(chance: random.Random, requests: int, p99_s: float, errors: float) -> dict[str, object]:
    """A minute: a p99 with some noise, and errors by chance."""
    worst = p99_s * math.exp(chance.gauss(0, 0.06))
    failed = sum(chance.random() < errors for _ in range(requests))
    return {
        "counts": {"requests": float(requests), "errors": float(failed)},
        "histograms": {
            "latency_s": Histogram(
                bounds=(worst / 2, worst, math.inf),
                counts=(requests * 0.9, requests * 0.1, 0.0),
            )
        },
    }


SHIFTS = {each.name: each for each in pack(()) if each.name.endswith("-shift")}


@pytest.mark.parametrize(
    ("name", "p99_s", "errors", "minutes"),
    [("latency-p99-shift", 0.4, 0.01, 2), ("error-rate-shift", 0.2, 0.03, 3)],
)
def test_a_shift_is_found_in_minutes_and_a_stationary_service_is_left_alone(
    name: str, p99_s: float, errors: float, minutes: int
) -> None:
    found = 0
    for seed in range(10):
        chance = random.Random(seed)
        feed = Feed(SHIFTS[name], length_s=60.0)
        for minute in range(150):
            load = round(1800 + 600 * math.sin(minute / 100))
            assert feed.go(1, **service(chance, load, 0.2, 0.01))[0] is not R, (seed, minute)
        found += R in feed.go(minutes, **service(chance, 1800, p99_s, errors))
    assert found >= 9


def test_a_shift_says_nothing_before_it_has_a_past() -> None:
    feed, chance = Feed(SHIFTS["latency-p99-shift"], length_s=60.0), random.Random(1)
    assert set(feed.go(40, **service(chance, 1800, 0.2, 0.01))) == {U}
    assert feed.verdict is not None
    assert feed.verdict.missing is Missing.TOO_FEW


def test_the_file_changes_a_default_adds_its_own_and_takes_one_away() -> None:
    said = (
        GuardrailConfig(name="latency-p99", limit=0.2),
        GuardrailConfig(name="queue-length", enabled=False),
        GuardrailConfig(name="mine", expression="cost / requests", limit=0.1, side="above"),
    )
    found = {each.name: each for each in pack(said)}
    assert found["latency-p99"].limit == 0.2
    assert found["latency-p99"].expression == "p99(latency_s)"
    assert "queue-length" not in found
    assert found["mine"].side is Side.ABOVE
