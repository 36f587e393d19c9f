"""Standing, claims and gate from verdicts: red fails, no data passes nothing, people are told once."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.config_guardrails import pack
from gpuwarden.model.evaluation import Cohort, Colour, Missing, Verdict
from gpuwarden.model.finding import Severity
from gpuwarden.model.fitness import Standing
from gpuwarden.policy.fleet.fitness import (
    OWN_MAX,
    Gate,
    Red,
    claims,
    colour_of,
    fit_of,
    gated,
)

SPECS = {spec.name: spec for spec in pack(())}
RED, GREEN, UNKNOWN = Colour.RED, Colour.GREEN, Colour.UNKNOWN


def verdict(
    colour: Colour, guardrail: str = "latency-p99", severity: str = "error", **more: Any
) -> Verdict:
    cohort = Cohort(service="chat", **more.pop("cohort", {}))
    missing = Missing.NO_DATA if colour is UNKNOWN else None
    return Verdict(
        guardrail=guardrail,
        cohort=cohort,
        colour=colour,
        since_wall=more.get("since", 1.0),
        at_wall=9.0,
        missing=missing,
        severity=severity,
        summary="it is so",
    )


def standing(*verdicts: Verdict, age_s: float | None = 1.0) -> Standing:
    return Standing(
        service="chat", colour=GREEN, why="", since_wall=0.0, age_s=age_s, verdicts=verdicts
    )


@pytest.mark.parametrize(
    ("verdicts", "age_s", "is_fit"),
    [
        ((verdict(GREEN),), 1.0, True),
        ((verdict(GREEN), verdict(RED)), 1.0, False),
        ((verdict(GREEN), verdict(RED, severity="warning")), 1.0, True),
        ((verdict(UNKNOWN),), 1.0, None),
        ((), 1.0, None),
        ((verdict(GREEN),), 181.0, None),
        ((verdict(GREEN),), None, None),
        ((verdict(RED),), 181.0, False),
    ],
)
def test_what_load_balancers_are_told(
    verdicts: tuple[Verdict, ...], age_s: float | None, is_fit: bool | None
) -> None:
    assert fit_of(standing(*verdicts, age_s=age_s), 180.0) is is_fit


@pytest.mark.parametrize(
    ("verdicts", "is_silent", "colour"),
    [
        ((verdict(GREEN), verdict(UNKNOWN)), False, GREEN),
        ((verdict(GREEN), verdict(RED, severity="warning")), False, RED),
        ((verdict(GREEN), verdict(RED, severity="info")), False, GREEN),
        ((verdict(GREEN),), True, UNKNOWN),
        ((verdict(RED),), True, RED),
        ((verdict(UNKNOWN),), False, UNKNOWN),
        ((), False, UNKNOWN),
    ],
)
def test_the_worst_counts_and_no_data_is_never_green(
    verdicts: tuple[Verdict, ...], is_silent: bool, colour: Colour
) -> None:
    assert colour_of(verdicts, is_silent=is_silent)[0] is colour


@pytest.mark.parametrize(
    ("verdicts", "requests", "gate"),
    [
        ((verdict(GREEN), verdict(UNKNOWN)), 100, Gate.PASS),
        ((verdict(GREEN), verdict(RED)), 100, Gate.FAIL),
        ((verdict(RED),), 1, Gate.FAIL),
        ((verdict(GREEN), verdict(RED, severity="warning")), 100, Gate.FAIL),
        ((verdict(GREEN), verdict(RED, severity="info")), 100, Gate.PASS),
        ((verdict(GREEN),), 99, Gate.NOT_ENOUGH),
        ((verdict(UNKNOWN),), 100, Gate.NOT_ENOUGH),
        ((), 100, Gate.NOT_ENOUGH),
    ],
)
def test_what_a_pipeline_is_told(
    verdicts: tuple[Verdict, ...], requests: float, gate: Gate
) -> None:
    result, reasons = gated(verdicts, requests, 100)
    assert result is gate
    assert reasons


def told(*reds: Red, silent: tuple[tuple[str, float | None], ...] = (), then: str = "tell") -> Any:
    return claims(SPECS, reds, silent, then)


def test_versions_and_segments_of_one_guardrail_are_one_claim() -> None:
    reds = [
        Red(verdict=verdict(RED, cohort=part), bad=(f"n{number}",))
        for number, part in enumerate(
            ({}, {"version": "v2"}, {"segment": "s"}, {"version": "v2", "segment": "s"})
        )
    ]
    (claim,) = told(*reds)
    assert (claim.key, claim.count, claim.severity) == (
        "guardrail chat latency-p99",
        4,
        Severity.ERROR,
    )
    assert "version v2" in claim.summary
    assert "segment s" in claim.summary


def test_what_few_nodes_say_themselves_is_not_told_twice() -> None:
    names = tuple(f"n{n}" for n in range(OWN_MAX + 1))
    few = Red(verdict=verdict(RED), bad=names[:OWN_MAX], said_by=frozenset(names))
    assert told(few)[0].severity is Severity.INFO
    many = Red(verdict=verdict(RED), bad=names, said_by=frozenset(names))
    assert told(many)[0].severity is Severity.ERROR
    some = Red(verdict=verdict(RED), bad=names[:2], said_by=frozenset(names[:1]))
    assert told(some)[0].severity is Severity.ERROR


def test_a_guardrail_that_only_tells_pages_nobody() -> None:
    severity = told(Red(verdict=verdict(RED, "qps-drop", "critical")))[0].severity
    assert severity is Severity.WARNING
    coverage = told(Red(verdict=verdict(RED, "label-coverage", "warning")))[0]
    assert "for people to label" in coverage.summary


@pytest.mark.parametrize(
    ("then", "severity"), [("tell", Severity.WARNING), ("page", Severity.ERROR), ("ignore", None)]
)
def test_silence_is_told_as_was_asked(then: str, severity: Severity | None) -> None:
    found = told(silent=(("chat", 200.0),), then=then)
    assert [claim.severity for claim in found] == ([severity] if severity is not None else [])


def test_the_gpu_cause_is_named() -> None:
    red = Red(verdict=verdict(RED), bad=("n1",), cause="node n1: neighbour batch-job")
    assert "GPU cause: node n1: neighbour batch-job" in told(red)[0].summary
