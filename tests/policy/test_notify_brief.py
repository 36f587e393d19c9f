"""What people are told: one sentence, evidence, what was done and withheld; bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.decision import Incident, IncidentStep
from gpuwarden.model.fault import Topic
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Page
from gpuwarden.model.repair import FaultClass, Sign
from gpuwarden.policy.decide import RULES
from gpuwarden.policy.health import rules as health
from gpuwarden.policy.incidents import QUIET_RULES
from gpuwarden.policy.notify import brief
from gpuwarden.policy.notify.first_steps import BY_RULE, OTHERWISE, TOPIC_OF_RULE, first_steps
from gpuwarden.policy.notify.topics import topic_of
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
    page = Page(
        id="p",
        incident=INCIDENT.id,
        severity="error",
        summary="hog cannot be ended",
        wall=WALL,
        fault="hang",
        pci="0000:3b:00",
    )
    said = brief.of_incident(INCIDENT, subject="tenant/docker:hog", page=page)
    assert (said.fault, said.pci) == ("hang", "0000:3b:00")
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


PAGED = [*(name for name, _ in RULES if name != "health"), *health.NAMES, "fault"]


@pytest.mark.parametrize("rule", [name for name in PAGED if name not in QUIET_RULES])
def test_every_rule_has_its_first_steps(rule: str) -> None:
    steps = first_steps("", rule, "inc-7")
    assert len(set(steps)) == 3
    assert rule in {**BY_RULE, **TOPIC_OF_RULE}
    assert not any("INCIDENT" in line or len(line) > 240 for line in steps)


@pytest.mark.parametrize("topic", [t for t in Topic if t is not Topic.NONE])
def test_the_class_of_a_fault_comes_before_the_rule(topic: Topic) -> None:
    said = first_steps(topic.value, "quota", "inc-7", "0000:3b:00")
    assert said != first_steps("", "quota", "inc-7")
    assert len(set(said)) == 3
    assert not any("{" in line or "explain:" in line for line in said)


def test_the_devices_address_stands_in_the_commands() -> None:
    assert "lspci -vv -s 0000:3b:00.0" in first_steps("lost", "fault", "x", "0000:3b:00")[0]
    assert "lspci -vv:" in first_steps("lost", "fault", "x")[0]


def sign(code: str, cls: FaultClass = FaultClass.HARDWARE) -> Sign:
    return Sign(code=code, at=1.0, scope="gpu", severity="error", action="reset", cls=cls)


@pytest.mark.parametrize(
    ("found", "topic"),
    [
        (sign("xid 79"), Topic.LOST),
        (sign("xid 119"), Topic.ENGINE_STOPPED),
        (sign("xid 31"), Topic.APPLICATION),
        (sign("sxid 20034"), Topic.FABRIC),
        (sign("fallen-off"), Topic.LOST),
        (sign("recovery 2"), Topic.RECOVERY_ADVISED),
        (sign("row-remap-pending", FaultClass.REMAP), Topic.REMAP_PENDING),
        (sign("nonsense", FaultClass.LINK), Topic.NVLINK),
        (sign("xid", FaultClass.HOST), Topic.UNCLASSIFIED),
    ],
)
def test_the_class_by_its_code_else_by_what_heals_it(found: Sign, topic: Topic) -> None:
    assert topic_of(found) is topic


@pytest.mark.parametrize("cls", FaultClass)
def test_every_class_has_steps(cls: FaultClass) -> None:
    assert topic_of(sign("something", cls)) is not Topic.NONE


def test_what_nobody_knows_has_steps_too() -> None:
    assert first_steps("no-such", "no-rule", "inc-7")[0] == OTHERWISE[0]
    assert "inc-7" in first_steps("", "", "inc-7")[1]
