"""A service on its way to another version: its states walked over every event, and what keeps it from beginning."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.model.action import Kind, Outcome, Result
from gpuwarden.model.command import Command, Verb
from gpuwarden.model.decision import Decision
from gpuwarden.model.memory import Memory, Rung
from gpuwarden.model.rollback import BackPhase, Recorded
from gpuwarden.model.snapshot import Health, ServiceState
from gpuwarden.policy.decide import decide
from gpuwarden.policy.rollback import (
    REST,
    TABLE,
    WAIT_S,
    Cannot,
    Event,
    How,
    last_good,
    parsed,
    spelled,
    step,
    wells,
)
from tests.policy.builders import (
    NOW,
    PROTECTED,
    budgets,
    case,
    config,
    device_id,
    device_memory,
    gpu,
    kinds,
    memory,
    remembering,
    snap,
    standing,
    tenant,
    use,
)

RISK = tenant("risk", cls=PROTECTED, quota_mib=None, service="risk")
TWIN = tenant("twin", cls=PROTECTED, quota_mib=None, service="risk")
HOG = tenant("hog")


def version(
    name: str, *, place: str = "risk", good: float | None = None, who: Any = None
) -> Recorded:
    tenant_id = None if who is None else who.id
    return Recorded(service="risk", place=place, version=name, good_wall=good, tenant=tenant_id)


KNOWN = (version("v0"), version("v1", good=5.0), version("v2", who=RISK))


def asked(to: str = "", how: How = How.ASKED, service: str = "risk") -> Command:
    subject = spelled(service, to, how)
    return Command(id=1, verb=Verb.ROLL_BACK, subject=subject, reason="why", uid=0, name="root")


def see(
    mem: Memory | None = None,
    *commands: Command,
    at: float = NOW,
    versions: tuple[Recorded, ...] = KNOWN,
    mode: str = "observe",
    rules: Any = None,
    **look: Any,
) -> Decision:
    given = {"gpus": (gpu(),), "tenants": [RISK], "uses": [use(RISK)], **look}
    seen = replace(snap(at=at, **given), commands=commands, versions=versions)
    return decide(config(mode, rules=rules or {}), mem or memory(), seen)


def told(decision: Decision, result: Result, detail: str = "") -> Memory:
    (order,) = [a for a in decision.actions if a.kind is Kind.ROLL_BACK]
    outcome = Outcome(
        action=order.id,
        kind=order.kind,
        incident=order.incident,
        tenant=order.target.tenant if order.target else None,
        device=order.device,
        result=result,
        at=NOW,
        wall=0.0,
        detail=detail,
    )
    return decision.memory.after((outcome,))


# --- the table ---


@pytest.mark.parametrize(("at", "event"), list(itertools.product(BackPhase, Event)))
def test_every_phase_meets_every_event(at: BackPhase, event: Event) -> None:
    assert step(at, event) in BackPhase
    assert (step(at, event) is at) == ((at, event) not in TABLE)


@pytest.mark.parametrize("at", BackPhase)
def test_every_phase_can_come_to_rest(at: BackPhase) -> None:
    reached = {at}
    while more := {step(p, e) for p in reached for e in Event} - reached:
        reached |= more
    assert reached & REST


def test_rest_is_rest() -> None:
    assert not {key for key in TABLE if key[0] in REST}


# --- its way ---


def test_an_operators_word_counts_in_observe_mode_and_goes_to_the_last_good_one() -> None:
    first = see(None, asked())
    assert first.answers[0].is_done, first.answers[0].text
    (order,) = first.actions
    assert (order.kind, order.target and order.target.tenant) == (Kind.ROLL_BACK, RISK.id)
    params = dict(order.params)
    assert (params["version"], params["from"], params["place"]) == ("v1", "v2", "risk")
    second = see(told(first, Result.DONE), at=NOW + 1)
    assert not second.memory.backs
    assert kinds(second) == []
    notes = " ".join(n.text for n in second.incidents)
    assert "gpuwarden rollback risk --to v2" in notes, "how to undo it"


def test_one_that_fails_is_over_and_somebody_is_told() -> None:
    first = see(None, asked("v0"))
    second = see(told(first, Result.FAILED, "no such program"), at=NOW + 1)
    assert kinds(second) == [Kind.PAGE]
    assert "risk stays on v2" in second.actions[0].why
    assert not second.memory.backs
    assert kinds(see(second.memory, at=NOW + 2)) == []


def test_after_an_agent_that_died_the_same_container_is_finished() -> None:
    first = see(None, asked())
    mem = told(first, Result.UNKNOWN)
    second = see(mem, at=NOW + 1, tenants=[], uses=[])  # it was stopped meanwhile
    (order,) = second.actions
    assert (order.kind, order.target) == (Kind.ROLL_BACK, first.actions[0].target)
    assert order.id != first.actions[0].id


def test_places_go_one_by_one_and_those_after_a_failure_are_left() -> None:
    versions = (
        *(version("v1", place=p, good=1.0) for p in ("a", "b", "c")),
        version("v2", place="a", who=RISK),
        version("v2", place="b", who=TWIN),
        version("v1", place="c", good=1.0, who=HOG),
    )
    look: dict[str, Any] = {
        "versions": versions,
        "tenants": [RISK, TWIN, HOG],
        "uses": [use(RISK), use(TWIN)],
    }
    first = see(None, asked("v1"), **look)
    assert [dict(a.params)["place"] for a in first.actions] == ["a"], "c runs it already"
    waiting = see(first.memory, at=NOW + 1, **look)
    assert not waiting.actions
    second = see(told(first, Result.DONE), at=NOW + 2, **look)
    assert [dict(a.params)["place"] for a in second.actions] == ["b"]
    third = see(told(second, Result.FAILED, "x"), at=NOW + 3, **look)
    assert kinds(third) == [Kind.PAGE]
    assert not third.memory.backs


def test_it_waits_for_an_eviction_on_its_device_but_not_for_ever() -> None:
    busy = remembering(case(HOG, Rung.TERMED))
    look: dict[str, Any] = {
        "tenants": [RISK, HOG],
        "uses": [use(RISK), use(HOG, 20_000)],
        "standings": [standing(HOG)],
    }
    first = see(busy, asked(how=How.ANYWAY), **look)
    assert Kind.ROLL_BACK not in kinds(first)
    assert first.memory.backs
    late = replace(
        first.memory, cases=remembering(case(HOG, Rung.TERMED, since=NOW + WAIT_S)).cases
    )
    last = see(late, at=NOW + WAIT_S + 1, **look)
    assert not last.memory.backs


# --- what keeps it from beginning ---


def refused(command: Command, **look: Any) -> str:
    decision = see(look.pop("mem", None), command, **look)
    (answer,) = decision.answers
    assert not answer.is_done
    assert not decision.memory.backs
    assert Kind.ROLL_BACK not in kinds(decision)
    return answer.text


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (asked("v9"), "v9 of risk is not on record in risk: v0, v1, v2"),
        (asked(service="other"), "nobody is on record"),
        (replace(asked(), subject="risk"), "expected SERVICE@VERSION@HOW"),
        (replace(asked(), subject="risk@v1@now"), "expected nothing, anyway or auto"),
        (asked("v" * 200), "at most 128"),
    ],
)
def test_what_cannot_be(command: Command, why: str) -> None:
    assert why in refused(command)


def test_one_that_runs_it_already_is_done() -> None:
    (answer,) = see(None, asked("v2")).answers
    assert (answer.is_done, answer.incident) == (True, None)
    assert answer.text == "risk runs v2 already"


def test_an_order_that_is_sent_twice_is_one() -> None:
    first = see(None, asked())
    again = see(first.memory, asked())
    assert again.answers[0].is_done
    assert again.answers[0].incident == first.answers[0].incident
    assert kinds(again) == []


def test_without_a_good_one_nothing_is_guessed() -> None:
    text = refused(asked(), versions=(version("v0"), version("v2", who=RISK)))
    assert "no version of risk before v2 is known to have held" in text
    assert "v0 (--to VERSION)" in text


def test_what_nobody_asked_for_needs_the_rule_to_enforce() -> None:
    assert "observe mode" in refused(asked(how=How.AUTO))
    allowed = see(None, asked(how=How.AUTO), rules={"rollback": {"mode": "enforce"}})
    assert kinds(allowed) == [Kind.ROLL_BACK]


def test_it_is_not_begun_twice() -> None:
    first = see(None, asked())
    again = see(first.memory, replace(asked(), reason="another"))
    assert "is being rolled back already" in again.answers[0].text
    assert kinds(again) == []


def test_the_gpu_is_ruled_out_first() -> None:
    locked = device_memory(locked_since=NOW - 1, locked_why="no kernel finishes")
    mem = memory(devices={device_id(0): locked})
    text = refused(asked(), mem=mem)
    assert "the GPU explains it" in text
    assert "locked up" in text
    assert kinds(see(mem, asked(how=How.ANYWAY)), RISK) == [Kind.ROLL_BACK]


def test_a_neighbour_over_its_quota_is_the_one_to_act_on() -> None:
    look: dict[str, Any] = {
        "tenants": [RISK, HOG],
        "uses": [use(RISK), use(HOG, 20_000)],
        "standings": [standing(HOG)],
    }
    text = refused(asked(), mem=remembering(case(HOG, Rung.TERMED)), **look)
    assert "its neighbour hog is being evicted" in text


def test_without_a_journal_nothing_is_done() -> None:
    seen = replace(
        snap(gpus=(gpu(),), tenants=[RISK], uses=[use(RISK)]),
        commands=(asked(),),
        versions=KNOWN,
        can_record=False,
    )
    decision = decide(config(), memory(), seen)
    assert not decision.answers[0].is_done
    assert budgets(decision) == []


# --- parts ---


@pytest.mark.parametrize("service", ["risk", "a@b", "a@@b@"])
@pytest.mark.parametrize("how", How)
def test_a_wish_is_read_as_it_was_spelled(service: str, how: How) -> None:
    wish = parsed(spelled(service, "v1", how))
    assert (wish.service, wish.version, wish.how) == (service, "v1", how)


def test_a_wish_without_a_service_is_none() -> None:
    with pytest.raises(Cannot):
        parsed("@v1@")


def test_the_last_good_one_is_the_one_praised_last_and_never_the_present() -> None:
    known = [
        version("v1", good=5.0),
        version("v2", good=9.0),
        version("v3", good=7.0),
        version("v4"),
    ]
    assert last_good(known, "v2") == known[2]
    assert last_good(known, "v4") == known[1]
    assert last_good([known[3]], "v4") is None


def test_one_red_word_is_red_and_no_word_is_none() -> None:
    def state(name: str, health: Health) -> ServiceState:
        return ServiceState(service=name, tenant=None, health=health, since=0.0)

    said = [
        *(state("a", h) for h in (Health.GREEN, Health.RED)),
        *(state("b", h) for h in (Health.GREEN, Health.UNKNOWN)),
        state("c", Health.UNKNOWN),
    ]
    assert wells(said, ()) == {"a": False, "b": True, "c": None}
