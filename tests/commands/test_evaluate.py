"""``gpuwarden debug evaluate``: whatever it is given, it answers each case or says why not."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from gpuwarden.commands import evaluate
from gpuwarden.errors import Refused
from gpuwarden.evaluate.cases.table import METHODS, answer
from tests.commands.cli_run import ROOT, run

GOOD = {"id": "g", "method": "kll_rank_error", "input": {}, "params": {"k": 200}}
SERIES = {"rng": "numpy.default_rng", "seed": 1, "steps": [{"dist": "normal", "n": 9, "loc": 0}]}
GMA = {"min_instances": 1, "alpha": 0.9, "threshold": 1.0}


def gma(stream: Any, **params: Any) -> dict[str, Any]:
    return {"id": "x", "method": "gma", "input": {"stream": stream}, "params": GMA | params}


def ask(document: object, **more: float) -> list[dict[str, Any]]:
    text = json.dumps(document).encode()
    return [json.loads(line) for line in evaluate.answers(io.BytesIO(text), **more)]


HOSTILE: list[tuple[Any, str]] = [
    (None, "expected an object"),
    ([GOOD], "expected an object"),
    ({}, "method: missing"),
    ({"method": "no_such"}, "no method 'no_such'"),
    ({"method": ["gma"]}, "no method a list"),
    ({"method": "gma"}, "input: missing"),
    (GOOD | {"params": {}}, "params.k: missing"),
    (GOOD | {"params": {"k": "200"}}, "params.k: expected a number, got '200'"),
    (GOOD | {"params": {"k": True}}, "params.k: expected a number, got True"),
    (GOOD | {"params": {"k": 200.5}}, "params.k: expected a whole number"),
    (GOOD | {"params": {"k": float("nan")}}, "params.k: expected a finite number"),
    (GOOD | {"params": {"k": 10**400}}, "params.k: expected a finite number"),
    (GOOD | {"params": {"k": -1}}, "expected 8 to 65535"),
    (gma([]), "empty"),
    (gma([1, float("inf")]), "stream[1]: expected a finite number"),
    (gma([1, None]), "stream[1]: expected a number"),
    (gma("bits"), "expected an object"),
    (gma({}), "expected a list, an encoding or a generator"),
    (gma([[1, 2]]), "expected a number, got a list of 2"),
    (gma({"encoding": "gzip"}), "encoding: expected one of bits-base64"),
    (gma({"encoding": "bits-base64", "runs": 1, "n": 9, "data": "AA=="}), "8 bits, 9 are needed"),
    (gma({"encoding": "bits-base64", "runs": 1, "n": 1, "data": "?"}), "not base64"),
    (gma({"encoding": "bits-base64", "runs": 10**9, "n": 10**9, "data": ""}), "in all"),
    (gma(SERIES | {"rng": "os.urandom"}), "rng: expected one of"),
    (gma(SERIES | {"seed": -1}), "seed: expected 1 to"),
    (gma(SERIES | {"seed": []}), "seed: expected 1 to"),
    (gma(SERIES | {"steps": []}), "expected 1 to 1000 steps"),
    (gma(SERIES), "steps[0].scale: missing"),
    (gma(SERIES | {"steps": [{"dist": "cauchy", "n": 3}]}), "dist: expected one of normal"),
    (gma(SERIES | {"steps": [{"dist": "constant", "n": 10**12, "value": 0}]}), "more than"),
    (gma(SERIES | {"steps": [{"dist": "constant", "n": -1, "value": 0}]}), "expected 0 or more"),
    (gma(SERIES | {"steps": [{"dist": "randint", "n": 3, "low": 0, "high": 2}]}), "RandomState"),
    (
        gma(SERIES | {"steps": [{"dist": "normal", "n": 3, "loc": 0, "scale": -1}]}),
        "scale: expected 0 or more",
    ),
    (
        gma(SERIES | {"steps": [{"dist": "lognormal", "n": 3, "mean": 1e6, "sigma": 1}]}),
        "a float cannot hold",
    ),
    (
        gma(SERIES | {"steps": [{"dist": "binomial", "n": 3, "trials": 2, "p": 7}]}),
        "steps[0]",
    ),
    (gma([1, 2], alpha=float("-inf")), "params.alpha"),
    (gma([1, 2], alpha=3), "alpha: expected 0 to 1"),
    (
        {
            "method": "srm_chi_square",
            "input": {"observed": [-3, 4], "expected_ratio": [1, 1]},
            "params": {"alpha": 0.05},
        },
        "0 or more",
    ),
    (
        {
            "method": "share_divergences",
            "input": {"ref_shares": [0.5, 0.5], "cur_shares": [0.7, 0.7]},
            "params": {"moderate_from": 0.1, "major_from": 0.25},
        },
        "sum to 1.4",
    ),
    (
        {
            "method": "thompson_regret",
            "input": {"arm_means": [0.1, 0.2]},
            "params": {"T": 10**12, "runs": 10**6, "prior": [1, 1], "min_share": 0},
        },
        "plays x runs x arms",
    ),
    (
        {
            "method": "wasserstein_1d",
            "input": {"ref": [1, 2]},
            "params": {"norm": "population_std_of_ref"},
        },
        "input.cur: missing",
    ),
]


@pytest.mark.parametrize(("case", "why"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_mistake_is_its_cases_answer(case: Any, why: str) -> None:
    reply = answer(case)
    assert reply["got"] is None
    assert why in reply["unsupported"]
    assert "\n" not in json.dumps(reply, allow_nan=False)


def test_mistakes_cost_their_neighbours_nothing() -> None:
    cases = [GOOD, *(case for case, _ in HOSTILE), GOOD]
    replies = ask({"cases": cases})
    assert len(replies) == len(cases)
    assert replies[0]["got"] == replies[-1]["got"] == answer(GOOD)["got"]
    assert all(reply["unsupported"] for reply in replies[1:-1])


def test_a_case_past_its_deadline_is_given_up() -> None:
    replies = ask({"cases": [GOOD, GOOD | {"id": 7}]}, deadline_s=0.0)
    assert [reply["id"] for reply in replies] == ["g", 7]
    assert {reply["unsupported"] for reply in replies} == {"no answer within 0 s"}


def test_a_case_that_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel does when memory is short."""
    monkeypatch.setenv("PYTHONHOME", "/nonexistent")  # the child cannot even begin
    reply = ask({"cases": [GOOD]})[0]
    assert reply["got"] is None
    assert "ended with" in reply["unsupported"]


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"cases": 3}', "[" * 200_000])
def test_what_is_no_list_of_cases(text: str) -> None:
    with pytest.raises(Refused, match=r"not JSON|expected an object"):
        list(evaluate.answers(io.BytesIO(text.encode())))
    result = run("debug", "evaluate", stdin=text)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "Traceback" not in result.output


def test_no_cases_no_lines() -> None:
    assert ask({"cases": []}) == []


def test_from_the_shell() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpuwarden", "debug", "evaluate"],
        input=json.dumps({"cases": [GOOD]}),
        env={**os.environ, "PYTHONPATH": str(ROOT / "agent")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["id"] == "g"


def test_every_method_survives_empty_objects_and_wrong_types() -> None:
    junk: list[Any] = [None, True, -1, 0, 1e308, "x", [], [[]], {}, [None], ["a"], [-1, 1e308]]
    keys = [
        "n", "n1", "n2", "alpha", "stream", "values", "observed", "expected_ratio", "weights",
        "metrics", "p_values", "tests", "looks", "mu", "k", "h", "lambda", "L", "samples", "ref",
        "cur", "arm_a", "arm_b", "arm_means", "T", "runs", "prior", "batches", "null", "q", "nodes",
        "metric", "delta_max", "alarms", "drifts", "n_samples", "failures", "failure_limit", "bins",
    ]  # fmt: skip
    for method in METHODS:
        for value in junk:
            fields = dict.fromkeys(keys, value)
            reply = answer({"id": "j", "method": method, "input": fields, "params": fields})
            json.dumps(reply, allow_nan=False)
            assert (reply["got"] is None) == (reply["unsupported"] is not None)
