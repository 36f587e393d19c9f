"""A sketch keeps what it promises of every value, whatever is merged in whichever order."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.evaluate.fast.sketch import ACCURACY, HUGE, Builder, key_of, value_of

VALUES = st.floats(min_value=-1e9, max_value=1e9, allow_nan=False)


def test_keys_and_representatives_are_those_of_the_paper() -> None:
    values = [0.001, 1.0, 37.0, 500.0, 1_000_000.0]
    assert [key_of(v, 0.02) for v in values] == [-172, 0, 91, 156, 346]
    assert [key_of(v, 0.05) for v in values] == [-69, 0, 37, 63, 139]
    assert value_of(156, 0.02) == pytest.approx(503.0197795157537, rel=1e-9)


@given(st.lists(VALUES, min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_within_the_accuracy_of_the_true_one(
    values: list[float], share: float
) -> None:
    got = sketches.quantile(sketches.of(values), share)
    true = sorted(values)[math.floor(share * (len(values) - 1))]
    assert got is not None
    assert abs(got - true) <= ACCURACY * abs(true) * (1 + 1e-6) + 2e-9


@given(st.lists(st.lists(VALUES, max_size=30), min_size=1, max_size=6), st.randoms())
def test_merged_in_any_order_it_is_the_sketch_of_all(
    parts: list[list[float]], chance: random.Random
) -> None:
    whole = sketches.of([v for part in parts for v in part])
    pieces = [sketches.of(part) for part in parts]
    chance.shuffle(pieces)
    merged = sketches.merge(pieces)
    assert merged is not None
    assert (merged.bins, merged.negatives, merged.zeros, merged.low, merged.high) == (
        whole.bins,
        whole.negatives,
        whole.zeros,
        whole.low,
        whole.high,
    )
    assert merged.total == pytest.approx(whole.total, rel=1e-9, abs=1e-3)


def test_sketches_of_two_accuracies_do_not_merge() -> None:
    with pytest.raises(ValueError, match="accuracy"):
        sketches.merge([sketches.of([1.0]), sketches.of([1.0], 0.02)])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused_and_changes_nothing(value: float) -> None:
    builder = Builder()
    builder.add(2.0)
    with pytest.raises(ValueError, match="no value"):
        builder.add(value)
    assert builder.done() == sketches.of([2.0])


def test_a_sketch_is_bounded_whatever_it_is_told() -> None:
    builder = Builder()
    for exponent in range(-400, 301):
        builder.add(float(f"1e{exponent}"))
        builder.add(-float(f"1e{exponent}"))
    assert max(builder.bins) == key_of(HUGE)
    assert len(sketches.thinned(builder.done(), 10).bins) == 10
    assert sketches.count(sketches.thinned(builder.done(), 10)) == builder.count


def test_share_above_counts_negative_values_too() -> None:
    sketch = sketches.of([-5.0, -1.0, 0.0, 1.0, 5.0])
    assert sketches.share_above(sketch, 2.0) == pytest.approx(0.2)
    assert sketches.share_above(sketch, 0.0) == pytest.approx(0.4)
    assert sketches.share_above(sketch, -2.0) == pytest.approx(0.8)


def test_nothing_has_no_quantile() -> None:
    assert sketches.quantile(Builder().done(), 0.5) is None
    assert sketches.merge([]) is None
    assert sketches.mean(Builder().done()) is None


def test_one_bad_node_in_forty_is_in_the_fleets_p99() -> None:
    chance = random.Random(5)
    nodes = [[chance.lognormvariate(math.log(80), 0.3) for _ in range(1000)] for _ in range(39)]
    nodes.append([chance.lognormvariate(math.log(400), 0.3) for _ in range(1000)])
    merged = sketches.merge([sketches.of(node) for node in nodes])
    assert merged is not None
    true = sorted(v for node in nodes for v in node)[int(0.99 * 39_999)]
    assert sketches.quantile(merged, 0.99) == pytest.approx(true, rel=0.011)
    each = [sketches.quantile(sketches.of(node), 0.99) or 0.0 for node in nodes]
    assert sum(each) / 40 < 0.5 * true  # what a mean of percentiles would have said
