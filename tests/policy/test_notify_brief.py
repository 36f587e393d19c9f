"""What people are told: one sentence, evidence, what was done and withheld; bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.decision import Incident, IncidentStep
from gpuwarden.model.ids import IncidentId
from gpuwarden.policy.decide import RULES
from gpuwarden.policy.incidents import QUIET_RULES
from gpuwarden.policy.notify import brief
from gpuwarden.policy.notify.first_steps import BY_RULE, OTHERWISE, first_steps
from tests.policy.builders import WALL, device_id, tenant_id


def step(kind: str, result: str = "", text: str = "because", after_s: float = 1.0) -> IncidentStep:
    return IncidentStep(at=after_s, wall=WALL + after_s, kind=kind, text=text, result=result)


INCIDENT = Incident(
    id=IncidentId("inc-1"),
    rule="quota",
    summary="hog is over",
    opened_at=0.0,
    opened_wall=WALL,
    tenant=tenant_id("hog"),
    tenant_name="hog",
    tenant_class="low",
    runtime="docker",
    device=device_id(0),
    quota_bytes=8 * 2**30,
    peak_bytes=20 * 2**30,
    harmed=("risk",),
    evidence=(("free_bytes", str(2**30)), ("sample_age", "0.1 s")),
    steps=(
        step("opened"),
        step("warn", "done"),
        step("term", "done", "over its quota"),
        step("kill", "ordered", "it goes on"),
        step("withheld", "", "stop withheld: only observes"),
        step("page", "done"),
        step("closed"),
    ),
)


def test_of_an_incident() -> None:
    said = brief.of_incident(INCIDENT, subject="tenant/docker:hog", summary="hog cannot be ended")
    assert said.summary == "hog cannot be ended"
    assert said.done == ("+1.0 s term done: over its quota",)
    assert said.withheld == ("+1.0 s stop withheld: only observes",)
    assert said.evidence == (
        ("quota", "8.0 GiB"),
        ("peak", "20.0 GiB"),
        ("harmed", "risk"),
        ("free", "1.0 GiB"),
        ("sample age", "0.1 s"),
    )
    assert said.subject == ""


def test_what_is_neither_of_a_tenant_nor_of_a_device_says_what_it_is_of() -> None:
    assert brief.of_incident(INCIDENT, subject="service/risk").subject == "service/risk"


def test_is_bounded_however_long_the_incident_is() -> None:
    long = replace(
        INCIDENT,
        summary="x" * 5000,
        tenant_name="n" * 5000,
        outcome="o" * 5000,
        evidence=tuple((f"k{n}" * 99, "v" * 5000) for n in range(64)),
        steps=tuple(step(Kind.TERM, "done", "t" * 5000) for _ in range(200))
        + tuple(step("withheld", "", "w" * 5000) for _ in range(200)),
    )
    assert len(repr(brief.of_incident(long))) < 10_000


@pytest.mark.parametrize("rule", [name for name, _ in RULES if name not in QUIET_RULES])
def test_every_rule_has_its_first_steps(rule: str) -> None:
    steps = first_steps("", rule, "inc-7")
    assert len(set(steps)) == 3
    assert rule in BY_RULE
    assert not any("INCIDENT" in line or len(line) > 120 for line in steps)


def test_the_class_of_a_fault_comes_before_the_rule() -> None:
    assert first_steps("locked", "quota", "x") == first_steps("", "locked", "x")


def test_what_nobody_knows_has_steps_too() -> None:
    assert first_steps("no-such", "no-rule", "inc-7")[0] == OTHERWISE[0]
    assert "inc-7" in first_steps("", "", "inc-7")[1]
