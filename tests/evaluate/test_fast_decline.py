"""Accuracy as a guardrail: its own reference, evidence label by label, and no labels are no good news."""

from __future__ import annotations

import random

import pytest

from gpuwarden.config_guardrails import GuardrailConfig, pack
from gpuwarden.evaluate.fast import decline
from gpuwarden.evaluate.fast.guardrail import Memory, judge
from gpuwarden.model.evaluation import Cohort, Colour, Missing, Verdict, Window
from gpuwarden.model.guardrail import Guardrail, Judge, Then

RISK = Cohort(service="risk")
SPEC = {each.name: each for each in pack(())}["accuracy-drop"]
STEP_S = 60.0


class Labels:
    """Windows of a minute with so many labels each, judged at their end."""

    def __init__(self, spec: Guardrail = SPEC, seed: int = 1) -> None:
        self.spec, self.memory, self.now = spec, Memory(), 600_000.0
        self.random = random.Random(seed)
        self.windows: list[Window] = []
        self.verdict: Verdict | None = None
        self.labels = 0

    def go(self, minutes: int, accuracy: float | None, labels: int = 10) -> Colour | None:
        """Until it is over, or red."""
        for _ in range(minutes):
            counts = {}
            if accuracy is not None:
                right = sum(self.random.random() < accuracy for _ in range(labels))
                counts = {"labels": float(labels), "correct": float(right)}
                self.labels += labels
            self.windows.append(
                Window(cohort=RISK, begin_wall=self.now, length_s=STEP_S, counts=counts)
            )
            self.now += STEP_S
            reach = self.spec.reach_s + 3 * STEP_S
            self.windows = [w for w in self.windows if w.begin_wall >= self.now - reach]
            self.memory, self.verdict = judge(self.spec, self.memory, RISK, self.windows, self.now)
            if self.verdict.colour is Colour.RED:
                break
        return None if self.verdict is None else self.verdict.colour


def test_the_pack_pages_for_five_points() -> None:
    assert (SPEC.judge, SPEC.limit, SPEC.then) == (Judge.DECLINE, 0.05, Then.PAGE)


def test_before_there_is_a_reference_nothing_is_said_however_bad() -> None:
    labels = Labels()
    assert labels.go(99, 0.5) is Colour.UNKNOWN
    assert labels.verdict is not None
    assert labels.verdict.missing is Missing.TOO_FEW
    assert labels.go(3, 0.5) is Colour.GREEN


def test_five_points_are_found_within_a_thousand_labels() -> None:
    found = 0
    for seed in range(20):
        labels = Labels(seed=seed)
        assert labels.go(1000, 0.97) is Colour.GREEN, seed
        before = labels.labels
        labels.go(200, 0.92)
        found += labels.labels - before <= 1000
    # 14,400 labels a day: the rarer a false alarm may be, the more evidence is asked for.
    assert found >= 17


def test_the_verdict_tells_what_it_stands_on() -> None:
    labels = Labels()
    labels.go(1000, 0.97)
    assert labels.go(400, 0.85) is Colour.RED
    verdict = labels.verdict
    assert verdict is not None
    assert verdict.value is not None
    assert 0.7 < verdict.value < 0.9
    assert verdict.limit == pytest.approx(0.97 - 0.05, abs=0.01)
    assert "before (" in verdict.summary
    assert "nats of evidence" in verdict.summary


def test_it_is_good_again_once_the_labels_are() -> None:
    labels = Labels()
    labels.go(1000, 0.97)
    assert labels.go(400, 0.85) is Colour.RED
    for _ in range(200):
        labels.go(1, 0.97)
    assert labels.verdict is not None
    assert labels.verdict.colour is Colour.GREEN


def test_without_labels_for_an_hour_nobody_knows() -> None:
    labels = Labels()
    assert labels.go(200, 0.97) is Colour.GREEN
    assert labels.go(59, None) is Colour.GREEN
    assert labels.go(2, None) is Colour.UNKNOWN
    assert labels.verdict is not None
    assert labels.verdict.value is None
    assert labels.go(1, 0.97) is Colour.GREEN, "and what was known before is not forgotten"


def test_a_slow_decline_is_not_taken_for_what_the_service_is_like() -> None:
    labels = Labels()
    labels.go(1100, 0.97)
    reference = labels.memory.decline
    assert reference is not None
    assert reference.reference_labels >= decline.REFERENCE_MAX
    colour = None
    for tenth in range(1, 60):
        colour = labels.go(20, 0.97 - tenth / 1000)
        if colour is Colour.RED:
            break
    assert colour is Colour.RED
    after = labels.memory.decline
    assert after is not None
    assert after.reference_wrong == reference.reference_wrong


@pytest.mark.parametrize(
    ("labels", "correct"), [(10.0, 12.0), (10.0, -3.0), (0.0, 0.0), (0.0, 5.0)]
)
def test_counts_that_cannot_be_are_no_evidence_of_anything(labels: float, correct: float) -> None:
    feed = Labels()
    feed.go(200, 0.97)
    for _ in range(30):
        counts = {"labels": labels, "correct": correct}
        feed.windows.append(
            Window(cohort=RISK, begin_wall=feed.now, length_s=STEP_S, counts=counts)
        )
        feed.now += STEP_S
        feed.memory, feed.verdict = judge(feed.spec, feed.memory, RISK, feed.windows, feed.now)
    assert feed.memory.decline is not None
    assert 0 <= feed.memory.decline.value <= 1


def test_what_is_no_share_of_counts_is_said() -> None:
    spec = pack((GuardrailConfig(name="x", expression="mean(score)", limit=0.1, judge="decline"),))[
        -1
    ]
    feed = Labels(spec)
    feed.go(5, 0.9)
    assert feed.verdict is not None
    assert feed.verdict.colour is Colour.UNKNOWN
