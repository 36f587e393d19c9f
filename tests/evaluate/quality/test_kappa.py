"""Kappa against published tables, and against its definition counted out."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.evaluate.quality.kappa import Weights, cohen, fleiss


def _of_table(table: list[list[int]]) -> tuple[list[int], list[int]]:
    cells = [
        (a, b) for a, row in enumerate(table) for b, number in enumerate(row) for _ in range(number)
    ]
    return [a for a, _ in cells], [b for _, b in cells]


def test_cohen_of_fleiss_1981() -> None:
    """Statistical Methods for Rates and Proportions, table 13.1: 0.6765, error 0.0877, 0.5046 to 0.8484."""
    found = cohen(*_of_table([[75, 1, 4], [5, 4, 1], [0, 0, 10]]))
    assert found.value == pytest.approx(0.6765, abs=5e-5)
    assert found.error == pytest.approx(0.0877, abs=5e-5)
    assert [found.low, found.high] == pytest.approx([0.5046, 0.8484], abs=1e-4)


def test_cohen_with_linear_weights() -> None:
    """SAS FREQ, Cicchetti-Allison weights: simple 0.4842 (0.1380), weighted 0.4701 (0.1457)."""
    pairs = _of_table([[0, 4, 1], [0, 8, 0], [0, 1, 5]])
    plain = cohen(*pairs, order=[0, 1, 2])
    linear = cohen(*pairs, order=[0, 1, 2], weights=Weights.LINEAR)
    assert [plain.value, plain.error] == pytest.approx([0.4842, 0.1380], abs=5e-5)
    assert [linear.value, linear.error] == pytest.approx([0.4701, 0.1457], abs=5e-5)


def test_cohen_of_fifty_proposals() -> None:
    found = cohen(*_of_table([[20, 5], [10, 15]]))
    assert (found.observed, found.expected) == (0.7, 0.5)
    assert found.value == pytest.approx(0.4)


FLEISS_1971 = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


def test_fleiss_of_fourteen_people() -> None:
    """Ten items, fourteen people, five labels: 0.378 observed, 0.213 expected, 0.210."""
    found = fleiss([dict(enumerate(row)) for row in FLEISS_1971])
    assert found.value == pytest.approx(0.210, abs=5e-4)
    assert found.observed == pytest.approx(0.378, abs=5e-4)
    assert found.expected == pytest.approx(0.213, abs=5e-4)
    assert found.low is not None
    assert found.value is not None
    assert found.low < found.value


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=4, max_size=4), min_size=2, max_size=12))
def test_fleiss_against_all_pairs(items: list[list[str]]) -> None:
    found = fleiss([Counter(item) for item in items])
    pairs = [a == b for item in items for a, b in itertools.permutations(item, 2)]
    everything = [label for item in items for label in item]
    chance = sum((everything.count(label) / len(everything)) ** 2 for label in "abc")
    if chance == 1:
        assert found.value is None
        assert found.why
    else:
        assert found.value == pytest.approx((sum(pairs) / len(pairs) - chance) / (1 - chance))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30),
    st.sampled_from(list(Weights)),
)
def test_cohen_against_its_definition(pairs: list[tuple[int, int]], weights: Weights) -> None:
    power = {Weights.NONE: 0, Weights.LINEAR: 1, Weights.QUADRATIC: 2}[weights]
    distance = (
        (lambda a, b: float(a != b)) if not power else (lambda a, b: (abs(a - b) / 3) ** power)
    )
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    apart = sum(distance(a, b) for a, b in pairs) / len(pairs)
    chance = sum(distance(a, b) for a in first for b in second) / len(pairs) ** 2
    found = cohen(first, second, weights=weights, order=[0, 1, 2, 3])
    if chance == 0:
        assert found.value is None
        assert found.why == "one label only"
    else:
        assert found.value is not None
        assert found.value == pytest.approx(1 - apart / chance)
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.value <= found.high


def _simulated(chance: random.Random, items: int, copies: float) -> tuple[list[str], list[str]]:
    """Kappa is ``copies``: that share of the second's labels is the first's, the others are drawn anew."""
    first = [chance.choice("ab") for _ in range(items)]
    return first, [a if chance.random() < copies else chance.choice("ab") for a in first]


def test_intervals_hold_what_they_promise() -> None:
    chance = random.Random(5)
    inside = {"cohen": 0, "fleiss": 0}
    for _ in range(400):
        first, second = _simulated(chance, 150, 0.6)
        found = {
            "cohen": cohen(first, second),
            "fleiss": fleiss([Counter(pair) for pair in zip(first, second, strict=True)]),
        }
        for name, kappa in found.items():
            assert kappa.low is not None
            assert kappa.high is not None
            inside[name] += kappa.low <= 0.6 <= kappa.high
    # 95 % of 400 are 380; four deviations of the binomial are 18.
    assert all(362 <= number <= 398 for number in inside.values()), inside


def test_what_cannot_be_said() -> None:
    assert cohen([], []).value is None
    assert cohen(["a"] * 5, ["a"] * 5).why == "one label only"
    assert fleiss([]).value is None
    assert fleiss([{"a": 1}]).why == "nothing was labelled twice"
    assert fleiss([{"a": 1, "b": 1}]).why == "too few items for an interval"
    with pytest.raises(ValueError, match="each item needs as many labels"):
        fleiss([{"a": 2}, {"a": 3}])
    with pytest.raises(ValueError, match="order"):
        cohen(["a"], ["b"], weights=Weights.LINEAR)
    with pytest.raises(ValueError, match="order"):
        cohen(["a"], ["b"], order=["a"])
