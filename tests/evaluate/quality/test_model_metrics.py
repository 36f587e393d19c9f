"""Figures of a model against their definitions and published examples."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.evaluate.quality.model_metrics import (
    classification,
    probabilistic,
    ranking,
    regression,
)

LABELS = st.sampled_from(["a", "b", "c"])


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=60))
def test_classification_against_its_definitions(pairs: list[tuple[str, str]]) -> None:
    found = classification(pairs, positive="a").figures
    right = sum(t == p for t, p in pairs)
    assert found["accuracy"] == pytest.approx(right / len(pairs))
    hit = sum(t == p == "a" for t, p in pairs)
    said, true = sum(p == "a" for _, p in pairs), sum(t == "a" for t, _ in pairs)
    assert found["precision"] == pytest.approx(hit / said if said else 0.0)
    assert found["recall"] == pytest.approx(hit / true if true else 0.0)
    assert found["f1"] == pytest.approx(2 * hit / (said + true) if hit else 0.0)
    recalls = [
        sum(t == p == label for t, p in pairs) / sum(t == label for t, _ in pairs)
        for label in {t for t, _ in pairs}
    ]
    assert found["balanced_accuracy"] == pytest.approx(sum(recalls) / len(recalls))


def test_classification_leaves_out_what_is_no_label() -> None:
    found = classification([("a", "a"), ("", "a"), ("a", "")])
    assert (found.count, found.left_out, found.figures["accuracy"]) == (1, 2, 1.0)
    assert found.figures["cohen_kappa"] is None
    assert set(classification([]).figures.values()) == {None}


def test_a_flood_of_classes_is_left_out() -> None:
    found = classification((f"{n}", f"{n}") for n in range(1500))
    assert (found.count, found.left_out) == (1000, 500)


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 0.99)), min_size=1, max_size=50))
def test_probabilities_against_their_definitions(pairs: list[tuple[bool, float]]) -> None:
    found = probabilistic(pairs).figures
    loss = -sum(math.log(p if t else 1 - p) for t, p in pairs) / len(pairs)
    assert found["log_loss"] == pytest.approx(loss)
    assert found["brier"] == pytest.approx(sum((t - p) ** 2 for t, p in pairs) / len(pairs))
    positive, negative = [p for t, p in pairs if t], [p for t, p in pairs if not t]
    assert (found["roc_auc"] is None) == (not positive or not negative)


def test_the_area_under_the_curve_is_the_share_of_ordered_pairs() -> None:
    pairs = [
        (n % 3 == 0, ((n * 37) % 101) / 101 * 0.7 + (0.3 if n % 3 == 0 else 0)) for n in range(300)
    ]
    positive, negative = [p for t, p in pairs if t], [p for t, p in pairs if not t]
    ordered = sum((a > b) + 0.5 * (a == b) for a in positive for b in negative)
    found = probabilistic([*pairs, (True, 1.5), (True, math.nan)])
    assert found.left_out == 2
    assert found.figures["roc_auc"] == pytest.approx(
        ordered / len(positive) / len(negative), abs=0.01
    )


def test_regression() -> None:
    """The four numbers of scikit-learn's own examples: 3, -0.5, 2, 7 against 2.5, 0.0, 2, 8."""
    found = regression([(3, 2.5), (-0.5, 0.0), (2, 2), (7, 8), (math.inf, 1), (1, math.nan)])
    assert (found.count, found.left_out) == (4, 2)
    assert found.figures["mae"] == pytest.approx(0.5)
    assert found.figures["rmse"] == pytest.approx(0.6123724)
    assert found.figures["r2"] == pytest.approx(0.9486081)
    assert found.figures["mape_percent"] == pytest.approx(32.7380952)
    constant = regression([(0.0, 1.0), (0.0, 2.0)]).figures
    assert (constant["r2"], constant["mape_percent"]) == (None, None)
    assert set(regression([]).figures.values()) == {None}


def test_ranking() -> None:
    """Six documents of relevance 3, 2, 3, 0, 1, 2: DCG with exponential gains 13.848, the best possible order 14.595."""
    found = ranking([[3, 2, 3, 0, 1, 2]], at=6)
    assert found.figures["ndcg"] == pytest.approx(13.848 / 14.595, abs=1e-4)
    two = ranking([[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0], [-1, 1]])
    assert (two.count, two.left_out) == (2, 2)
    assert two.figures["mrr"] == pytest.approx((1 / 2 + 1) / 2)
    assert two.figures["map"] == pytest.approx(((1 / 2 + 2 / 4) / 2 + 1) / 2)
    assert ranking([[0, 0, 1]], at=2).figures == {"ndcg": 0.0, "map": 0.0, "mrr": 0.0}
    assert set(ranking([]).figures.values()) == {None}


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12).filter(any))
def test_the_best_order_is_best(relevance: list[int]) -> None:
    best = ranking([sorted(relevance, reverse=True)]).figures
    assert best == {"ndcg": pytest.approx(1.0), "map": pytest.approx(1.0), "mrr": 1.0}
    assert (ranking([relevance]).figures["ndcg"] or 0.0) <= 1.0 + 1e-12
