"""A stream of errors, step by step: what is found, what is not, and what a restart or a repeated step changes."""

from __future__ import annotations

import numpy as np
import pytest

from gpuwarden.evaluate.drift import concept, stream
from gpuwarden.evaluate.drift.concept import Concept, ConceptMemory, ConceptSettings
from gpuwarden.evaluate.drift.sliding import Sliding, Weighted
from gpuwarden.evaluate.drift.vote import Vote, VoteSettings

STEP_S = 8640.0
"""Ten steps a day."""


def fed(judge: Concept, share: float, labels: int, seed: int = 1, step: int = 20) -> int | None:
    """Labels of that share of mistakes; after how many it was a drift."""
    r = np.random.default_rng(seed)
    begin = judge.memory.upto_wall
    for n in range(step, labels + 1, step):
        assert judge.add(begin, begin + STEP_S, step, int(r.binomial(step, share)))
        begin += STEP_S
        judge.judge(begin, streams=100)
        if judge.memory.is_drift:
            return n
    return None


def test_a_loss_of_five_points_is_found_and_ends() -> None:
    judge = Concept(ConceptSettings())
    assert fed(judge, 0.05, 6000) is None
    found = fed(judge, 0.10, 1000, seed=2)
    assert found is not None
    why = judge.evidence(judge.memory.upto_wall, streams=100)
    assert why.p_value is not None
    assert why.level is not None
    assert why.p_value <= why.level
    assert why.baseline == pytest.approx(0.05, abs=0.01)
    assert len(judge.memory.voted) >= 2
    assert judge.version == stream.VERSION
    r = np.random.default_rng(3)
    for _ in range(80):
        begin = judge.memory.upto_wall
        judge.add(begin, begin + STEP_S, 20, int(r.binomial(20, 0.04)))
        judge.judge(begin + STEP_S, streams=100)
    assert not judge.memory.is_drift


def test_a_loss_that_hovers_around_what_matters_is_one_drift() -> None:
    judge = Concept(ConceptSettings())
    fed(judge, 0.05, 6000)
    assert fed(judge, 0.10, 1000, seed=2) is not None
    baseline = judge.memory.reference_wrong / judge.memory.reference_labels
    for wrong, is_drift in ((7, True), (5, False)):
        assert (wrong / 100 - baseline >= 0.0125) is is_drift
        assert wrong / 100 - baseline < 0.025
        for _ in range(15):
            begin = judge.memory.upto_wall
            judge.add(begin, begin + STEP_S, 100, wrong)
            judge.judge(begin + STEP_S, streams=100)
        assert judge.memory.is_drift is is_drift


def test_the_baseline_is_its_own_and_does_not_learn_the_loss() -> None:
    judge = Concept(ConceptSettings())
    assert fed(judge, 0.20, 4000) is None
    assert judge.evidence(judge.memory.upto_wall).baseline == pytest.approx(0.20, abs=0.03)
    assert fed(judge, 0.40, 1000, seed=2) is not None
    before = judge.memory.reference_labels
    for n in range(200):
        begin = judge.memory.upto_wall
        judge.add(begin, begin + STEP_S, 20, 8 if n else 0)
        judge.judge(begin + STEP_S)
    assert judge.memory.is_drift
    assert judge.memory.reference_labels == before


def test_too_few_labels_say_nothing() -> None:
    judge = Concept(ConceptSettings())
    assert fed(judge, 0.5, 980) is None
    assert judge.evidence(0.0).baseline is None
    fed(judge, 0.5, 120)
    assert judge.evidence(0.0).share is None
    assert judge.evidence(0.0).baseline is not None


def test_steps_count_once_in_whatever_order_they_are_repeated() -> None:
    one, two = Concept(ConceptSettings()), Concept(ConceptSettings())
    r = np.random.default_rng(1)
    steps = [(i * 60.0, (i + 1) * 60.0, 20, int(r.binomial(20, 0.1))) for i in range(300)]
    for step in steps:
        one.add(*step)
        two.add(*step)
        two.add(*step)
        assert not two.add(*steps[max(0, int(step[0] // 60) - 7)])
    assert one.memory == two.memory


def test_it_goes_on_after_a_restart() -> None:
    judge = Concept(ConceptSettings())
    fed(judge, 0.05, 3000)
    fed(judge, 0.10, 300, seed=2)
    again = Concept(ConceptSettings(), judge.memory)
    assert again.memory == judge.memory
    assert fed(again, 0.10, 700, seed=4) is not None
    late = Concept(ConceptSettings(), again.memory)
    assert late.memory.is_drift


@pytest.mark.parametrize(
    ("labels", "wrong"), [(0, 0), (-5, 0), (5, 6), (5, -1)], ids=["none", "minus", "more", "less"]
)
def test_what_cannot_be_is_left_out(labels: int, wrong: int) -> None:
    judge = Concept(ConceptSettings())
    assert not judge.add(0.0, 60.0, labels, wrong)
    assert judge.memory == ConceptMemory()


def test_a_stream_without_mistakes_has_a_baseline_of_its_own() -> None:
    judge = Concept(ConceptSettings())
    for i in range(300):
        judge.add(i * 60.0, i * 60.0 + 60, 20, 0)
        judge.judge(i * 60.0 + 60)
    assert not judge.memory.is_drift
    assert fed(judge, 0.06, 1000) is not None


def test_one_large_step_is_one_step() -> None:
    judge = Concept(ConceptSettings())
    judge.add(0.0, 60.0, 5000, 250)
    judge.add(60.0, 120.0, 10_000_000, 500_000)
    judge.judge(120.0)
    assert not judge.memory.is_drift
    judge.add(120.0, 180.0, 10_000_000, 1_000_000)
    judge.judge(180.0)
    assert judge.memory.is_drift


def test_history_is_bounded() -> None:
    judge = Concept(ConceptSettings())
    for i in range(3000):
        judge.add(i * 60.0, i * 60.0 + 60, 1 if i > 1000 else 2, 0)
    assert len(judge.memory.steps) <= concept.STEPS_MAX
    assert sum(n for n, _ in judge.memory.steps) <= 1100


def test_more_streams_have_a_stricter_level() -> None:
    judge = Concept(ConceptSettings())
    fed(judge, 0.1, 3000)
    one, many = (judge.evidence(judge.memory.upto_wall, streams=n).level for n in (1, 1000))
    assert one is not None
    assert many is not None
    assert many == pytest.approx(one / 1000) or one == 0.01


@pytest.mark.parametrize(("labels", "wrong"), [(0, 0), (1, 1), (10, 3), (7, 7), (1000, 1)])
def test_mistakes_are_spread_evenly(labels: int, wrong: int) -> None:
    values = concept.spread(labels, wrong)
    assert len(values) == labels
    assert sum(values) == wrong
    for start in range(0, labels - 10, 10):
        assert abs(sum(values[start : start + 10]) - 10 * wrong / labels) < 1.001


def alarmed(detector: Sliding | Weighted, *values: float) -> bool:
    for value in values:
        detector.update(value)
    return detector.drift_detected


def test_sliding_window_and_weighted_error() -> None:
    sliding, weighted = Sliding(size=100, cut=3.0), Weighted(weight=0.05, cut=3.0)
    assert not alarmed(sliding, *[9.0] * 99)  # not full yet
    assert alarmed(sliding, 9.0)
    assert not alarmed(sliding, *[0.2] * 100)  # two standard errors
    assert not alarmed(weighted, *[0.4] * 100)  # its limit is 0.48
    assert alarmed(weighted, *[0.6] * 100)
    for size in (0, 10**7):
        with pytest.raises(ValueError, match="size"):
            Sliding(size=size, cut=1.0)
    with pytest.raises(ValueError, match="weight"):
        Weighted(weight=0.0, cut=1.0)


def test_own_detectors_vote_on_z_scores() -> None:
    own = {"sliding": {"size": 50, "cut": 3.0}, "weighted": {"weight": 0.05, "cut": 3.0}}
    vote = Vote(VoteSettings(detectors=own, quorum=2, span=100), mean=10.0, std=2.0)
    assert all(vote.update(10.0) is None for _ in range(200))
    alarms = [a for a in (vote.update(12.0) for _ in range(100)) if a is not None]
    assert alarms
    assert alarms[0].detectors == ("sliding", "weighted")


def test_the_reference_reaches_over_days_however_many_labels_come_in_one() -> None:
    """Of 30,000 labels a day the first 10,000 are eight hours: what those were is not what the stream is."""
    settings = ConceptSettings(reference_span_s=3 * concept.DAY_S)
    judge = Concept(settings)
    for hour in range(5 * 24):
        judge.add(hour * 3600.0, (hour + 1) * 3600.0, 1250, 30 + hour % 24)
    assert judge.memory.reference_labels == pytest.approx(3 * 30_000, abs=3 * 1250)
    told = judge.memory.reference_wrong / judge.memory.reference_labels
    assert told == pytest.approx((30 + 11.5) / 1250, rel=0.02), "of whole days"
