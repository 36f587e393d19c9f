"""Every reference case by the product's own functions: as written, and renamed in another order."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import pytest

from gpuwarden.commands import evaluate
from gpuwarden.evaluate.cases import series
from gpuwarden.evaluate.cases.table import METHODS, answer
from tests.evaluate.reference import asked, cases, wrong

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_case(case: dict[str, Any]) -> None:
    reply = json.loads(json.dumps(answer(asked(case)), allow_nan=False))
    assert reply["unsupported"] is None
    assert reply["id"] == case["id"]
    assert wrong(case, reply["got"]) == []


@pytest.mark.timeout(900)
def test_renamed_and_in_another_order() -> None:
    """One run of the command; only what is cheap, for the rest is above."""
    order = [case for case in CASES if not case["method"].endswith("_rates")]
    random.Random(7).shuffle(order)
    question = {"cases": [{**asked(case), "id": f"n{i}"} for i, case in enumerate(order)]}
    lines = list(evaluate.answers(io.BytesIO(json.dumps(question).encode())))
    replies = [json.loads(line) for line in lines]
    assert [reply["id"] for reply in replies] == [f"n{i}" for i in range(len(order))]
    for case, reply in zip(order, replies, strict=True):
        assert reply["unsupported"] is None, case["id"]
        assert wrong(case, reply["got"]) == [], case["id"]


def test_every_method_of_the_cases_is_known() -> None:
    assert {case["method"] for case in CASES} <= set(METHODS)


def _streams(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        own = [value] if "check" in value else []
        return own + [found for each in value.values() for found in _streams(each)]
    return []


def test_generators_draw_what_the_cases_say() -> None:
    """`check` of each recipe: length, sum and first values of the first run."""
    seen = 0
    for case in CASES:
        for recipe in _streams(case["input"]):
            seeds = recipe["seed"]
            first = seeds[0] if isinstance(seeds, list) else seeds
            run = series.named_runs({**recipe, "seed": first}, "input")[0]
            for name, check in recipe["check"].items():
                assert run[name].size == check["n"]
                assert run[name].sum() == pytest.approx(check["sum"], rel=1e-12)
                assert run[name][:3].tolist() == check["first3"]
                seen += 1
    assert seen > 90
