"""By segment, then by doubt; the rare segments are kept, the budget is kept, memory is bounded."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.evaluate.quality import sampling
from gpuwarden.evaluate.quality.sampling import Prediction, Sampler, allocate, doubt, is_candidate


def _said(
    name: str, confidence: float | None = None, segment: str = "", **more: object
) -> Prediction:
    return Prediction(id=name, segment=segment, label="x", confidence=confidence, **more)  # type: ignore[arg-type]


def test_doubt() -> None:
    assert doubt(_said("a", 0.9)).uncertainty == pytest.approx(0.1)
    assert doubt(_said("a", probabilities=(0.5, 0.5))).uncertainty == 1.0
    assert doubt(_said("a", probabilities=(1.0, 0.0, 0.0))).uncertainty == 0.0
    assert doubt(_said("a", probabilities=(0.25,) * 4)).uncertainty == pytest.approx(1.0)
    assert doubt(_said("a", probabilities=(2.0, 2.0))).uncertainty == 1.0, (
        "shares of whatever they sum to"
    )
    assert doubt(_said("a", 0.8, opinions=("x", "y"))).dispute == 0.5


@pytest.mark.parametrize("nonsense", [None, math.nan, math.inf, -0.1, 1.1])
def test_no_confidence_is_no_certainty(nonsense: float | None) -> None:
    assert doubt(_said("a", nonsense)).uncertainty == 1.0
    assert is_candidate(_said("a", nonsense), 0.7)


def test_nonsense_among_probabilities_falls_back_to_the_confidence() -> None:
    for odd in ((math.nan, 0.5), (-1.0, 2.0), (0.0, 0.0), (1.0,)):
        assert doubt(_said("a", 0.75, probabilities=odd)).uncertainty == 0.25


def test_candidates() -> None:
    assert not is_candidate(_said("a", 0.7), 0.7)
    assert is_candidate(_said("a", 0.69), 0.7)
    assert is_candidate(_said("a", 0.99, opinions=("y",)), 0.7)
    assert not is_candidate(_said("a", 0.99, opinions=("x",)), 0.7)


def test_a_dispute_comes_before_any_uncertainty_of_the_models_own() -> None:
    sampler = Sampler(1)
    sampler.add([_said("unsure", 0.01), _said("disputed", 0.99, opinions=("y", "y"))])
    assert [each.id for each in sampler.sample()] == ["disputed"]


def test_a_rare_segment_is_kept_although_another_is_more_doubtful() -> None:
    chance = random.Random(2)
    sampler = Sampler(50, floor=5)
    sampler.add(_said(f"c{n}", chance.uniform(0.0, 0.3), "common") for n in range(20_000))
    sampler.add(_said(f"r{n}", 0.65, "rare") for n in range(7))
    sampler.add(_said(f"s{n}", 0.99, "sure") for n in range(1000))
    chosen = sampler.sample()
    by = {
        segment: [each for each in chosen if each.segment == segment]
        for segment in ("common", "rare", "sure")
    }
    assert len(chosen) == 50
    assert len(by["rare"]) >= 5
    assert by["sure"] == []
    confidences = [each.confidence or 0.0 for each in by["common"]]
    assert confidences == sorted(confidences)
    assert max(confidences) < 0.01, "the least certain of 20,000"


def test_memory_is_bounded_by_budget_and_segments() -> None:
    sampler = Sampler(3)
    sampler.add(_said(f"{n}", 0.1, f"segment {n}") for n in range(2000))
    sampler.add(_said(f"more {n}", 0.2, "segment 0") for n in range(2000))
    assert len(sampler._strata) == sampling.SEGMENTS_MAX + 1
    assert max(len(stratum.heap) for stratum in sampler._strata.values()) == 3
    assert len(sampler.sample()) == 3
    assert sampler.predictions == 4000


def test_the_same_sample_in_any_order() -> None:
    items = [_said(f"{n}", (n % 17) / 40, f"s{n % 3}") for n in range(300)]
    samples = []
    for seed in range(5):
        random.Random(seed).shuffle(items)
        sampler = Sampler(20)
        sampler.add(items)
        samples.append(sampler.sample())
    assert all(each == samples[0] for each in samples)


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.integers(0, 500), max_size=8),
    st.integers(0, 600),
    st.integers(0, 20),
)
def test_allocation_keeps_its_promises(available: dict[str, int], budget: int, floor: int) -> None:
    shares = allocate(available, budget, floor=floor)
    assert sum(shares.values()) == min(budget, sum(available.values()))
    assert all(0 <= shares[name] <= available[name] for name in available)
    if budget >= sum(min(floor, number) for number in available.values()):
        assert all(shares[name] >= min(floor, available[name]) for name in available)
    ordered = sorted(available, key=lambda name: available[name])
    assert all(shares[a] <= shares[b] + 1 for a, b in itertools.pairwise(ordered))


def test_what_is_left_goes_by_the_square_root() -> None:
    assert allocate({"a": 100, "b": 10_000}, 110, floor=0) == {"a": 10, "b": 100}
