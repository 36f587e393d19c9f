"""Gold accuracy, votes with typed ties, and each annotator's report."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.evaluate.quality.annotation import Answer, Vote, accuracy, majority, report
from gpuwarden.evaluate.quality.intervals import wilson, z_of


def test_wilson_of_known_tables() -> None:
    """Newcombe 1998, method 3: 81/263, 15/148, 0/20, 1/29."""
    for hits, count, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(hits, count) == pytest.approx((low, high), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(20, 20)[1] == 1.0
    with pytest.raises(ValueError, match="confidence"):
        z_of(1.0)


@pytest.mark.parametrize(
    ("labels", "vote", "won"),
    [
        ([], Vote.TOO_FEW, ()),
        (["a"], Vote.TOO_FEW, ()),
        (["a", "a"], Vote.DECIDED, ("a",)),
        (["a", "b"], Vote.TIE, ("a", "b")),
        (["a", "b", "b"], Vote.DECIDED, ("b",)),
        (["c", "a", "b"], Vote.TIE, ("a", "b", "c")),
        (["a", "a", "b", "c"], Vote.DECIDED, ("a",)),
        (["a", "a", "b", "b", "c"], Vote.TIE, ("a", "b")),
    ],
)
def test_votes(labels: list[str], vote: Vote, won: tuple[str, ...]) -> None:
    ballot = majority(labels)
    assert (ballot.vote, ballot.labels, ballot.answers) == (vote, won, len(labels))
    assert ballot.label == (won[0] if vote is Vote.DECIDED else None)


@given(st.lists(st.sampled_from("abcd"), max_size=12), st.randoms())
def test_a_vote_does_not_depend_on_the_order(labels: list[str], chance: random.Random) -> None:
    other = list(labels)
    chance.shuffle(other)
    assert majority(labels) == majority(other)


def _answers() -> list[Answer]:
    """Two good ones, one who errs on a tenth, one who always says ``benign``."""
    chance = random.Random(11)
    found = []
    for number in range(200):
        truth = "malign" if number % 4 == 0 else "benign"
        other = "benign" if truth == "malign" else "malign"
        erring = other if chance.random() < 0.1 else truth
        for annotator, label in (
            ("good", truth),
            ("fair", truth),
            ("erring", erring),
            ("lazy", "benign"),
        ):
            found.append(Answer(item=str(number), annotator=annotator, label=label))
    return found


GOLD = {str(number): "malign" if number % 4 == 0 else "benign" for number in range(100)}


def test_the_lazy_one_is_found_although_right_three_times_out_of_four() -> None:
    found = report(_answers(), GOLD)
    by = {each.annotator: each for each in found.annotators}
    assert by["good"].gold.share == 1.0
    assert not by["good"].is_below
    assert by["lazy"].gold.share == 0.75
    assert by["lazy"].is_below
    assert by["lazy"].kappa.value == pytest.approx(0.0, abs=1e-9)
    assert by["lazy"].commonest == ("benign", 1.0)
    assert by["good"].kappa.value is not None
    assert by["good"].kappa.value > 0.5
    assert found.fleiss_people == 4
    assert found.fleiss.items == 200
    assert found.votes[Vote.DECIDED] + found.votes[Vote.TIE] == 200
    assert found.votes[Vote.TIE] == 8, "erring with lazy against the good ones"
    assert (found.answers, found.repeated) == (800, 0)


def test_nobody_votes_on_their_own_answer() -> None:
    three = (("a", "x"), ("b", "x"), ("c", "y"))
    found = report([Answer(item="1", annotator=who, label=label) for who, label in three], {})
    assert found.votes[Vote.DECIDED] == 1
    assert [(each.majority.right, each.majority.count) for each in found.annotators] == [
        (0, 0),  # the others are level
        (0, 0),
        (0, 1),
    ]


def test_an_answer_that_comes_again_does_not_count() -> None:
    one = Answer(item="1", annotator="a", label="x")
    found = report([one, Answer(item="1", annotator="a", label="y"), one], {"1": "x"})
    assert (found.answers, found.repeated) == (1, 2)
    assert found.gold.right == 1
    assert found.fleiss.value is None
    assert found.fleiss.why == "nothing was labelled twice"


def test_few_gold_items_condemn_nobody() -> None:
    two_wrong = [Answer(item=str(n), annotator="a", label="x") for n in range(3)]
    found = report(two_wrong, {"0": "x", "1": "x", "2": "y"}, asked=0.9)
    assert found.annotators[0].gold.share == pytest.approx(2 / 3)
    assert not found.annotators[0].is_below


def test_nothing_at_all() -> None:
    found = report([], {})
    assert found.annotators == ()
    assert found.gold.share is None
    assert accuracy([]).share is None
