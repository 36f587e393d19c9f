"""Healing a service: its states walked over every event, and what keeps a restart from being ordered."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.model.action import Kind, Outcome, Result
from gpuwarden.model.decision import Decision
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.ids import CgroupId, IncidentId
from gpuwarden.model.memory import Rung
from gpuwarden.model.repair import Fault, FaultClass, Phase, Repair, Step
from gpuwarden.model.service import Care, CarePhase, ProbeKind, ProbeReading
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy.cordon import NODE_ITSELF
from gpuwarden.policy.desk import target_of
from gpuwarden.policy.probe import settings_of
from gpuwarden.policy.restart import HOUR_S, TABLE, Event, permit, step
from tests.policy.builders import (
    NOW,
    PROTECTED,
    WALL,
    Story,
    budgets,
    case,
    config,
    desk,
    device_id,
    device_memory,
    fault_sign,
    gpu,
    kinds,
    memory,
    snap,
    tenant,
    use,
)

SERVE = tenant("serve", cls=PROTECTED, quota_mib=None, service="risk")
PROBE = {"http": "http://127.0.0.1:1/", "restart": True, "verify_s": 30, "probation_s": 20}


def settings(mode: str = "enforce", **probe: Any) -> Any:
    service = [{"name": "risk", "probe": {**PROBE, **probe}}]
    return config(mode, service=service)  # type: ignore[arg-type]


def told(failures: int = 3, *, at: float = NOW, who: Tenant | None = SERVE) -> ProbeReading:
    return ProbeReading(
        service="risk",
        kind=ProbeKind.HTTP,
        tenant=None if who is None else who.id,
        is_well=failures == 0,
        since=at,
        failures=failures,
        at=at,
        detail="HTTP 503" if failures else "",
    )


def story(mode: str = "enforce", *, settle: bool = True, **probe: Any) -> Story:
    return Story(cfg=settings(mode, **probe), settle=settle)


def see(
    play: Story, at: float, failures: int = 3, *, who: Tenant = SERVE, gpus: tuple[Device, ...] = ()
) -> Decision:
    return play.see(
        at,
        gpus=gpus or (gpu(),),
        tenants=[who],
        uses=[use(who)],
        probes=(told(failures, at=at, who=who),),
    )


def phase(play: Story) -> CarePhase:
    return play.mem.cares["risk"].phase


# --- the table ---


@pytest.mark.parametrize(("at", "event"), list(itertools.product(CarePhase, Event)))
def test_every_phase_meets_every_event(at: CarePhase, event: Event) -> None:
    assert step(at, event) in CarePhase
    assert (step(at, event) is at) == ((at, event) not in TABLE)


@pytest.mark.parametrize("at", CarePhase)
def test_every_phase_can_come_to_rest(at: CarePhase) -> None:
    reached = {at}
    while more := {step(p, e) for p in reached for e in Event} - reached:
        reached |= more
    assert CarePhase.WELL in reached


def test_nothing_is_restarted_but_what_fails_and_may_be() -> None:
    into = {key for key, after in TABLE.items() if after is CarePhase.RESTARTING}
    assert into == {(CarePhase.FAILING, Event.MAY)}
    assert {key for key, after in TABLE.items() if after is CarePhase.WELL} == {
        (CarePhase.PROBATION, Event.PASSED)
    }


# --- its way ---


def test_three_failures_restart_it_once_and_it_is_proved_well() -> None:
    play = story()
    assert kinds(see(play, NOW, 2)) == []
    decision = see(play, NOW + 1, 3)
    assert kinds(decision) == [Kind.RESTART_TENANT]
    (order,) = decision.actions
    assert order.target is not None
    assert (order.target.tenant, order.target.cgroup) == (SERVE.id, SERVE.cgroup)
    assert dict(order.params)["grace_s"] == "10.000"
    see(play, NOW + 2, 4)
    assert phase(play) is CarePhase.VERIFYING
    assert kinds(see(play, NOW + 3, 5)) == []
    see(play, NOW + 4, 0)
    assert phase(play) is CarePhase.PROBATION
    see(play, NOW + 24.9, 0)
    assert phase(play) is CarePhase.WELL
    assert play.times(Kind.RESTART_TENANT) == [NOW + 1]
    assert not play.times(Kind.PAGE)
    assert not play.mem.open_incidents


def test_one_that_stays_sick_is_paged_once_and_restarted_no_more() -> None:
    play = story()
    for second in range(200):
        see(play, NOW + second, 3 + second)
    assert play.times(Kind.RESTART_TENANT) == [NOW]
    assert len(play.times(Kind.PAGE)) == 1
    assert play.times(Kind.PAGE)[0] == pytest.approx(NOW + 31, abs=1.1)
    assert phase(play) is CarePhase.HANDED_OVER
    see(play, NOW + 200, 0)
    assert phase(play) is CarePhase.PROBATION


def test_flapping_is_restarted_within_its_budget_and_then_handed_over() -> None:
    play = story(restarts_per_hour=2, probation_s=3)
    for second in range(120):
        # Ill for ten seconds of each thirty, once a restart has had time to help.
        see(play, NOW + second, 0 if second % 30 >= 4 else 3)
    assert len(play.times(Kind.RESTART_TENANT)) == 2
    assert len(play.times(Kind.PAGE)) == 2, "one each time it is ill and the budget is spent"
    assert "per-hour" in [b for look in play.looks for b in budgets(look)]


def test_an_hour_later_it_may_be_restarted_again() -> None:
    play = story(restarts_per_hour=1, probation_s=0)
    see(play, NOW)
    for second in range(1, 4):
        see(play, NOW + second, 0)
    see(play, NOW + HOUR_S - 10, 3)
    assert len(play.times(Kind.RESTART_TENANT)) == 1
    see(play, NOW + HOUR_S - 9, 0)
    see(play, NOW + HOUR_S + 5, 0)
    see(play, NOW + HOUR_S + 6, 3)
    assert len(play.times(Kind.RESTART_TENANT)) == 2


# --- what keeps it from being ordered ---


def test_observe_touches_nothing_says_so_and_tells_people_once() -> None:
    play = story("observe")
    for second in range(60):
        see(play, NOW + second, 3 + second)
    assert not play.times(Kind.RESTART_TENANT)
    assert len(play.times(Kind.PAGE)) == 1
    assert [b for look in play.looks for b in budgets(look)] == ["observe"]


def test_without_the_operators_leave_it_is_handed_to_people() -> None:
    play = story(restart=False)
    decision = see(play, NOW)
    assert kinds(decision) == [Kind.PAGE]
    assert budgets(decision) == ["not-allowed"]
    assert phase(play) is CarePhase.HANDED_OVER


def locked(play: Story) -> None:
    state = device_memory(locked_since=NOW - 5, locked_why="xid 119", recovery_asked_at=NOW)
    play.mem = replace(play.mem, devices={device_id(0): state})


def cordoned(play: Story) -> None:
    state = device_memory(cordoned_by=IncidentId("inc-c"), held_by="root", cordoned_wall=WALL)
    play.mem = replace(play.mem, devices={device_id(0): state})


def drained(play: Story) -> None:
    state = device_memory(cordoned_by=IncidentId("inc-c"), held_by="root", cordoned_wall=WALL)
    play.mem = replace(play.mem, devices={NODE_ITSELF: state})


def faulty(play: Story) -> None:
    sign = fault_sign(cls=FaultClass.HANG, action="reset_gpu", at=NOW)
    fault = Fault(root=sign, first_at=NOW, last_at=NOW, first_wall=WALL)
    play.mem = replace(play.mem, faults={fault.key: fault})


def in_repair(play: Story) -> None:
    repair = Repair(
        subject=device_id(0),
        device=device_id(0),
        cls=FaultClass.HANG,
        incident=IncidentId("inc-r"),
        ladder=(Step.HAND_OVER,),
        phase=Phase.HANDED_OVER,
        since=NOW,
        opened_at=NOW,
    )
    faulty(play)
    play.mem = replace(play.mem, repairs={device_id(0): repair})


@pytest.mark.parametrize("ill", [locked, cordoned, drained, faulty, in_repair])
def test_while_its_device_is_ill_it_is_not_restarted(ill: Any) -> None:
    play = story()
    see(play, NOW - 1, 0)
    ill(play)
    decision = see(play, NOW, gpus=(gpu(recovery_action=1),) if ill is locked else ())
    assert Kind.RESTART_TENANT not in kinds(decision)
    assert "device" in budgets(decision)
    assert play.mem.cares["risk"].phase is CarePhase.FAILING


def test_nor_while_its_device_does_not_answer() -> None:
    play = story()
    see(play, NOW - 1, 0)
    decision = see(play, NOW, gpus=(gpu(sight=Sight.BLIND),))
    assert Kind.RESTART_TENANT not in kinds(decision)
    assert "device" in budgets(decision)
    assert Kind.RESTART_TENANT in kinds(see(play, NOW + 1))


def test_what_an_application_did_is_no_illness_of_the_device() -> None:
    play = story()
    sign = fault_sign("xid 31", cls=FaultClass.APPLICATION, action="restart_app", scope="app")
    fault = Fault(root=sign, first_at=NOW, last_at=NOW, first_wall=WALL)
    play.mem = memory(faults={fault.key: fault})
    assert Kind.RESTART_TENANT in kinds(see(play, NOW))


@pytest.mark.parametrize(
    ("change", "budget"),
    [
        ({"is_never_victim": True}, "never-victim"),
        ({"cannot_act": "the kubelet restarts it"}, "cannot-act"),
        ({"is_described": False}, "undescribed"),
        ({"is_paused": True}, "paused"),
    ],
)
def test_whoever_may_not_be_touched_is_not(change: dict[str, Any], budget: str) -> None:
    play = story()
    decision = see(play, NOW, who=replace(SERVE, **change))
    assert Kind.RESTART_TENANT not in kinds(decision)
    assert budget in budgets(decision)


def test_nobody_has_been_seen_to_carry_it() -> None:
    play = story()
    decision = play.see(NOW, probes=(told(who=None),))
    assert kinds(decision) == [Kind.PAGE]
    assert budgets(decision) == ["absent"]


def test_one_whose_processes_are_gone_is_restarted_by_what_was_last_seen_of_it() -> None:
    play = story()
    see(play, NOW, 0)
    decision = play.see(NOW + 1, probes=(told(who=None, at=NOW + 1),))
    (order,) = decision.actions
    assert order.target is not None
    assert order.target.tenant == SERVE.id


@pytest.mark.parametrize(("who", "budget"), [(SERVE, "evicted"), (tenant(), "one-per-device")])
def test_while_somebody_is_being_evicted_it_is_not_restarted_beside(
    who: Tenant, budget: str
) -> None:
    cfg = settings()
    mem = memory(cases={who.id: case(who, Rung.TERMED)})
    over = desk(cfg, snap(gpus=[gpu()], tenants=[SERVE, who]), mem)
    care = Care(service="risk", target=target_of(SERVE), devices=(device_id(0),))
    probe = settings_of(cfg, "risk")
    assert probe is not None
    refusal = permit(over, care, probe)
    assert refusal is not None
    assert refusal.budget == budget


def test_without_a_journal_nothing_is_restarted() -> None:
    play = story()
    decision = play.see(NOW, tenants=[SERVE], uses=[use(SERVE)], probes=(told(),), can_record=False)
    assert budgets(decision) == ["journal"]


# --- when the answer is not known ---


def answer(play: Story, result: Result, *, at: float) -> None:
    care = play.mem.cares["risk"]
    play.mem = play.mem.after(
        (
            Outcome(
                action=care.ordered,
                kind=Kind.RESTART_TENANT,
                incident=care.incident or IncidentId(""),
                tenant=SERVE.id,
                device=device_id(0),
                result=result,
                at=at,
                wall=WALL + at,
            ),
        )
    )


def test_one_that_may_not_have_happened_is_ordered_again_for_the_same_identity() -> None:
    play = story(settle=False, restarts_per_hour=1)
    see(play, NOW)
    answer(play, Result.UNKNOWN, at=NOW + 0.5)
    another = replace(SERVE, cgroup=CgroupId(path="/docker/serve", inode=99))
    see(play, NOW + 1, who=another)
    decision = see(play, NOW + 2, who=another)
    orders = [a for look in (*play.looks[1:], decision) for a in look.actions]
    first = next(a for a in orders if a.kind is Kind.RESTART_TENANT)
    assert first.target is not None
    assert first.target.cgroup == SERVE.cgroup, "who was started since must not be hit"
    answer(play, Result.REFUSED, at=NOW + 3)
    see(play, NOW + 4, who=another)
    assert phase(play) is CarePhase.VERIFYING
    assert len(play.mem.cares["risk"].restarts_wall) == 1


def test_an_answer_from_before_the_restart_proves_nothing() -> None:
    play = story()
    see(play, NOW)
    see(play, NOW + 1)
    assert phase(play) is CarePhase.VERIFYING
    old = replace(told(0), at=NOW + 0.5)
    play.see(NOW + 2, tenants=[SERVE], uses=[use(SERVE)], probes=(old,))
    assert phase(play) is CarePhase.VERIFYING


def test_a_restart_that_fails_is_handed_over_and_one_that_never_answers_looked_at() -> None:
    play = story(settle=False)
    see(play, NOW)
    answer(play, Result.FAILED, at=NOW + 1)
    assert Kind.PAGE in kinds(see(play, NOW + 2))
    late = story(settle=False)
    see(late, NOW)
    see(late, NOW + 129.9)
    assert phase(late) is CarePhase.RESTARTING
    see(late, NOW + 131)
    assert phase(late) is CarePhase.VERIFYING


def test_an_outcome_of_somebody_elses_action_says_nothing() -> None:
    play = story(settle=False)
    see(play, NOW)
    before = play.mem.cares["risk"]
    care = replace(before, ordered="another/1")
    play.mem = replace(play.mem, cares={"risk": care})
    play.mem = play.mem.after(
        (
            Outcome(
                action="x",
                kind=Kind.RESTART_TENANT,
                incident=IncidentId("i"),
                tenant=SERVE.id,
                device=None,
                result=Result.DONE,
                at=NOW,
                wall=WALL,
            ),
        )
    )
    assert play.mem.cares["risk"] == care


def test_a_reboot_keeps_the_budget_alone() -> None:
    play = story()
    see(play, NOW)
    again = play.see(5.0, boot_id="boot-2", wall=WALL + 400, probes=(told(0, at=5.0),))
    care = again.memory.cares["risk"]
    assert (care.phase, care.restarts_wall) == (CarePhase.WELL, (WALL + NOW,))
    assert care.target is None, "who carried it before is gone"
