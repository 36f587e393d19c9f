"""Labels of one service out of the picture: each counted once, up to where they are whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.aggregator.retrain_facts import ServiceFacts
from gpuwarden.model.drift import DriftView
from gpuwarden.model.evaluation import Cohort
from tests.aggregator.services_told import WALL, Bench, bench, message, window


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


def test_fresh_labels_lately_and_first_ones(it: Bench) -> None:
    sequence = 0
    it.until(WALL + 120, 120.0)
    for place in range(12):
        for segment in ("a", "b"):
            sequence += 1
            counts = {"labels": 10.0, "correct": 9.0, "custom.reviewed": 1.0}
            cohort = Cohort(service="chat", version="v1", segment=segment)
            begin = WALL + 10 * place
            it.tell("n1", message(window(begin, cohort=cohort, counts=counts), sequence))
    other = window(WALL, cohort=Cohort(service="other"), counts={"labels": 500.0})
    it.tell("n1", message(other, 99))
    it.until(WALL + 125)
    it.services.start()
    facts = ServiceFacts(
        it.services, lambda: DriftView(serial=0, wall=WALL), lambda service: "frozen"
    )
    try:
        found = facts.labelled("chat", WALL + 50, WALL + 20, 60.0, WALL + 105)
        again = facts.labelled("chat", found.upto_wall, WALL + 20, 60.0, WALL + 120)
        nodes = facts.nodes("chat", WALL)
    finally:
        it.services.stop()
    assert found.upto_wall == WALL + 100
    assert found.fresh == 5 * 22
    assert (found.labels, found.correct) == (6 * 20, 6 * 18)
    assert (found.first_labels, found.first_correct) == (8 * 20, 8 * 18)
    assert again.fresh == 2 * 22
    assert nodes == {"n1"}
    assert facts.held("chat") == "frozen"
    assert facts.drift("chat") == ()
