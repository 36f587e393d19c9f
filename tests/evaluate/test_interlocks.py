"""The sample ratio interlock, the gatekeeper, and what an A/B test may say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gpuwarden.evaluate.experiment import ab_test, business_score, gatekeeper, srm_monitor
from gpuwarden.evaluate.experiment.ab_test import AbSettings
from gpuwarden.evaluate.experiment.business_score import Confusion
from gpuwarden.evaluate.experiment.confidence_sequence import Arm
from gpuwarden.evaluate.experiment.gatekeeper import Evidence, Signal, Stage
from gpuwarden.evaluate.experiment.srm_monitor import Period

HALF = {"a": 0.5, "b": 0.5}


def drawn(
    seed: int, shares: dict[str, float], true: dict[str, float], units: int, periods: int
) -> list[Period]:
    r = np.random.default_rng(seed)
    p = np.array(list(true.values())) / sum(true.values())
    return [
        Period(shares=shares, counts=dict(zip(true, map(int, row), strict=True)))
        for row in r.multinomial(units, p, size=periods)
    ]


def test_a_right_split_is_let_through_at_every_look() -> None:
    withheld = 0
    for seed in range(60):
        periods = drawn(seed, HALF, HALF, 500, 24)
        withheld += any(srm_monitor.judge(periods[:n]).must_withhold for n in range(1, 25))
    assert withheld == 0


def test_a_wrong_split_is_found_with_its_size() -> None:
    periods = drawn(1, HALF, {"a": 0.53, "b": 0.47}, 1000, 40)
    got = srm_monitor.judge(periods)
    assert got.must_withhold
    assert got.p_always_valid < 0.001
    assert got.max_relative_deviation == pytest.approx(0.06, abs=0.02)
    assert "off its promised traffic" in got.why


def test_a_bandits_moving_shares_are_no_mismatch() -> None:
    periods = []
    for index, share in enumerate((0.5, 0.6, 0.8, 0.9)):
        shares = {"a": 1 - share, "b": share}
        periods += drawn(index, shares, shares, 3000 * (index + 1), 5)
    got = srm_monitor.judge(periods)
    assert not got.must_withhold
    as_if_fixed = [Period(shares=HALF, counts=period.counts) for period in periods]
    assert srm_monitor.judge(as_if_fixed).must_withhold


def test_small_and_certain_is_no_harm() -> None:
    periods = [Period(shares=HALF, counts={"a": 10_020_000, "b": 9_980_000})]
    got = srm_monitor.judge(periods)
    assert got.p_always_valid < 0.001
    assert not got.must_withhold


def test_traffic_that_nobody_promised() -> None:
    shares = {"a": 0.5, "b": 0.5, "c": 0.0}
    got = srm_monitor.judge([Period(shares=shares, counts={"a": 500, "b": 510, "c": 2})])
    assert got.leaks == ("c",)
    assert got.must_withhold
    unknown = srm_monitor.judge([Period(shares=HALF, counts={"a": 5, "b": 5, "ghost": 1})])
    assert unknown.leaks == ("ghost",)
    assert unknown.must_withhold


def test_too_few_is_said_and_withholds_nothing() -> None:
    got = srm_monitor.judge([Period(shares=HALF, counts={"a": 50, "b": 1})])
    assert (got.must_withhold, got.has_enough) == (False, False)
    assert not srm_monitor.judge([]).has_enough


def test_the_segment_at_fault_is_named() -> None:
    r = np.random.default_rng(3)
    segments = {f"os{i}": 0.5 for i in range(12)} | {"os7": 0.7}
    periods = []
    for _ in range(10):
        by = {}
        for name, p in segments.items():
            a = int(r.binomial(300, p))
            by[name] = {"a": a, "b": 300 - a}
        counts = {arm: sum(n[arm] for n in by.values()) for arm in "ab"}
        periods.append(Period(shares=HALF, counts=counts, by_segment=by))
    got = srm_monitor.judge(periods)
    assert got.must_withhold
    assert [hint.segment for hint in got.hints] == ["os7"]
    assert got.hints[0].deviation == pytest.approx(0.4, abs=0.05) or got.hints[0].deviation < 0


def test_periods_that_do_not_fit() -> None:
    for wrong in (
        Period(shares={"a": 0.0}, counts={"a": 500}),
        Period(shares=HALF, counts={"a": -1, "b": 500}),
        Period(shares={"a": float("nan"), "b": 1}, counts={"a": 1, "b": 500}),
    ):
        with pytest.raises(ValueError, match="periods"):
            srm_monitor.judge([wrong])


# --- A/B ---


def proportion(n: int, share: float) -> Arm:
    return Arm(n=n, total=n * share, sum_squares=n * share)


@pytest.mark.parametrize(
    ("candidate", "higher", "finding"),
    [
        (proportion(999, 0.9), True, "not_enough"),
        (proportion(20_000, 0.10), True, "undecided"),
        (proportion(20_000, 0.14), True, "better"),
        (proportion(20_000, 0.14), False, "worse"),
        (proportion(20_000, 0.06), True, "worse"),
        (proportion(20_000, 0.06), False, "better"),
    ],
)
def test_findings(candidate: Arm, higher: bool, finding: str) -> None:
    settings = AbSettings(metric="proportion", higher_is_better=higher)
    got = ab_test.judge(proportion(20_000, 0.10), candidate, settings)
    assert got.finding == finding
    assert (got.comparison is None) == (finding == "not_enough")


def test_more_comparisons_need_more_evidence() -> None:
    def found(comparisons: int) -> str:
        settings = AbSettings(metric="proportion", higher_is_better=True, comparisons=comparisons)
        return ab_test.judge(proportion(9000, 0.1), proportion(9000, 0.1155), settings).finding

    assert (found(1), found(1000)) == ("better", "undecided")


def test_negative_means_point_the_other_way() -> None:
    control = Arm(n=5000, total=-5000.0, sum_squares=6000.0)
    candidate = Arm(n=5000, total=-4000.0, sum_squares=5000.0)  # less loss
    settings = AbSettings(metric="mean", higher_is_better=True)
    assert ab_test.judge(control, candidate, settings).finding == "better"


# --- the gatekeeper ---

WELL = Evidence(
    finding="better",
    is_breached=False,
    is_mismatched=False,
    is_frozen=False,
    stage_age_s=8 * 86_400,
    bandit_best=0.99,
)


def evidence(**change: object) -> Evidence:
    from dataclasses import replace

    return replace(WELL, **change)  # type: ignore[arg-type]


def test_every_pair_has_a_stage_and_every_stage_an_end() -> None:
    assert set(gatekeeper.STEPS) == set(itertools.product(Stage, Signal))
    for stage in Stage:
        reachable, grown = {stage}, True
        while grown:
            new = {gatekeeper.STEPS[s, signal] for s in reachable for signal in Signal}
            grown = not new <= reachable
            reachable |= new
        assert Stage.OVER in reachable


def test_the_way_of_a_good_candidate() -> None:
    first = gatekeeper.step(Stage.AB, WELL)
    assert (first.stage, first.signal) == (Stage.BANDIT, Signal.BETTER)
    assert gatekeeper.step(first.stage, WELL).stage is Stage.ALL


@pytest.mark.parametrize("stage", [Stage.AB, Stage.BANDIT])
@pytest.mark.parametrize(
    ("change", "heard"),
    [
        ({"is_mismatched": True}, Signal.MISMATCH),
        ({"is_frozen": True}, Signal.FROZEN),
        ({"stage_age_s": 6 * 86_400.0}, Signal.TOO_EARLY),
        ({"finding": "not_enough"}, Signal.TOO_EARLY),
        ({"finding": "undecided"}, Signal.UNDECIDED),
        ({"finding": "worse", "is_mismatched": True}, Signal.MISMATCH),
    ],
)
def test_what_holds_it(stage: Stage, change: dict[str, object], heard: Signal) -> None:
    got = gatekeeper.step(stage, evidence(**change))
    assert (got.stage, got.signal) == (stage, heard)


def test_what_ends_it() -> None:
    breach = evidence(is_breached=True, is_frozen=True, is_mismatched=True)
    assert gatekeeper.step(Stage.ALL, breach).stage is Stage.OVER
    assert gatekeeper.step(Stage.AB, evidence(finding="worse")).stage is Stage.OVER
    unsure = evidence(bandit_best=None)
    assert gatekeeper.step(Stage.BANDIT, unsure).signal is Signal.UNDECIDED


# --- what it is worth ---


def test_business_score() -> None:
    got = business_score.score(Confusion(true_positives=80, false_positives=20, false_negatives=40))
    assert got.precision == 0.8
    assert got.f1 == pytest.approx(2 * 0.8 * (80 / 120) / (0.8 + 80 / 120))
    assert got.f1 is not None
    assert got.business == pytest.approx(0.6 * got.f1 - 0.4 * 0.2)


def test_business_score_of_little() -> None:
    nothing = business_score.score(
        Confusion(true_positives=0, false_positives=0, false_negatives=0, true_negatives=9)
    )
    assert (nothing.f1, nothing.business) == (None, None)
    missed = business_score.score(Confusion(true_positives=0, false_positives=0, false_negatives=5))
    assert (missed.precision, missed.f1, missed.business) == (None, 0, 0)
    with pytest.raises(ValueError, match="0 or more"):
        business_score.score(Confusion(true_positives=-1, false_positives=0, false_negatives=0))
