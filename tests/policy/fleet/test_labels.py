"""Labels joined by prediction id: each once, in any order, and bounded."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.evaluation import Cohort
from gpuwarden.policy.fleet.labels import Answer, Joined, LabelJoin

CHAT = Cohort(service="chat", version="v1")


def answer(name: str = "p1", cohort: Cohort = CHAT, **more: Any) -> Answer:
    return Answer(cohort=cohort, id=name, **more)


def _said(words: dict[str, Any]) -> Answer:
    return answer(**words)


@pytest.mark.parametrize("order", [("prediction", "label"), ("label", "prediction")])
def test_two_halves_in_any_order_are_one(order: tuple[str, str]) -> None:
    join = LabelJoin()
    first, second = ({name: "yes"} for name in order)
    assert join.take(_said(first))[0] is Joined.WAITING
    became, _, counts, _ = join.take(_said(second))
    assert became is Joined.COUNTED
    assert counts == {"labels": 1.0, "correct": 1.0}
    assert join.take(answer(prediction="yes", label="no"))[0] is Joined.KNOWN


def test_it_belongs_to_whoever_told_the_prediction() -> None:
    join = LabelJoin()
    join.take(answer(cohort=Cohort(service="chat"), label="yes"))
    assert join.take(answer(prediction="no"))[1] == CHAT


@pytest.mark.parametrize(
    ("prediction", "label", "name"),
    [
        ("yes", "yes", "true_positives"),
        ("yes", "no", "false_positives"),
        ("no", "yes", "false_negatives"),
        ("no", "no", ""),
    ],
)
def test_the_positive_answer_makes_a_table(prediction: str, label: str, name: str) -> None:
    counts = LabelJoin().take(answer(prediction=prediction, label=label, positive="yes"))[2]
    table = {key: value for key, value in counts.items() if key.endswith("tives")}
    assert {key for key, value in table.items() if value} == ({name} if name else set())


def test_complaints_opt_outs_and_scores_count_once_a_prediction() -> None:
    join = LabelJoin()
    first = join.take(answer(is_complaint=True, is_opt_out=True, score=3.0))
    assert first[0] is Joined.COUNTED
    assert first[2] == {"complaints": 1.0, "opt_outs": 1.0}
    assert join.take(answer(is_complaint=True, is_opt_out=True, score=1.0))[2] == {}
    assert join.take(answer("p2", is_complaint=True))[2] == {"complaints": 1.0}


def test_services_are_apart() -> None:
    join = LabelJoin()
    for service in ("chat", "ocr"):
        told = answer(cohort=Cohort(service=service), prediction="a", label="a")
        assert join.take(told)[0] is Joined.COUNTED


def test_the_oldest_are_let_go_and_those_without_a_label_are_counted() -> None:
    join = LabelJoin(most=2)
    join.take(answer("p1", prediction="a"))
    join.take(answer("p2", prediction="a", label="a"))
    join.take(answer("p3", prediction="a"))
    join.take(answer("p4", prediction="a"))
    assert join.forgotten == 1
    assert join.take(answer("p1", label="a"))[0] is Joined.WAITING


def test_a_second_score_adds_nothing_even_where_it_brings_the_label() -> None:
    join = LabelJoin()
    assert join.take(answer(prediction="a", score=3.0))[3] == 3.0
    became, _, counts, score = join.take(answer(label="a", score=5.0))
    assert (became, counts["labels"], score) == (Joined.COUNTED, 1.0, None)
