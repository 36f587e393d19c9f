"""Whether an instance may be sent work: each thing that speaks against it, alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.device import Sight
from gpuwarden.model.ids import IncidentId, TenantId
from gpuwarden.model.memory import Debt, Memory, Rung
from gpuwarden.model.repair import Fault, FaultClass, Phase, Repair, Step
from gpuwarden.model.service import Care, CarePhase, Fitness, ProbeKind, ProbeReading
from gpuwarden.model.snapshot import Health, Snapshot
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy.cordon import NODE_ITSELF
from gpuwarden.policy.ready import judge
from tests.policy.builders import (
    NOW,
    PROTECTED,
    WALL,
    case,
    device_id,
    device_memory,
    fault_sign,
    gpu,
    memory,
    service,
    snap,
    tenant,
    use,
)

ID = TenantId("docker:" + "ab" * 32)
SERVE = tenant("serve", id=ID, cls=PROTECTED, quota_mib=None, service="risk")
READING = ProbeReading(
    service="risk",
    kind=ProbeKind.HTTP,
    tenant=ID,
    is_well=True,
    since=NOW - 60,
    at=NOW - 1,
)


def look(**rest: Any) -> Snapshot:
    shape = {"gpus": [gpu()], "tenants": [SERVE], "uses": [use(SERVE)], "probes": (READING,)}
    return snap(**{**shape, **rest})


def told(
    snapshot: Snapshot | None = None, mem: Memory | None = None, name: str = "risk", at: float = NOW
) -> Fitness:
    found = judge(snapshot or look(), mem or memory(), name, at)
    assert found is not None
    assert found.is_fit is not bool(found.reasons)
    return found


def test_who_has_nothing_against_it_is_fit() -> None:
    assert told() == Fitness(name="risk", is_fit=True, service="risk", tenant=ID)


@pytest.mark.parametrize("name", ["risk", "serve", ID, ID.partition(":")[2], "ab" * 6])
def test_it_is_found_by_service_name_and_id(name: str) -> None:
    assert told(name=name).tenant == ID
    assert told(name=name).service == "risk"


@pytest.mark.parametrize("name", ["", "nobody", "ab", "docker", "ab" * 5])
def test_nobody_is_called_so(name: str) -> None:
    assert judge(look(), memory(), name, NOW) is None


def test_two_of_one_name_are_neither_of_them() -> None:
    other = tenant("serve", id="docker:" + "cd" * 32)
    found = told(look(tenants=[SERVE, other], probes=()), name="serve")
    assert "2 tenants are called so" in found.reasons[0]


def test_a_tenant_without_a_service_is_judged_by_the_rest() -> None:
    plain = tenant("batch")
    found = told(look(tenants=[plain], uses=[use(plain)], probes=()), name="batch")
    assert (found.is_fit, found.service) == (True, "")


def test_a_service_with_an_objective_alone_needs_somebody_who_carries_it() -> None:
    state = service("risk", Health.GREEN, who=SERVE)
    assert told(look(probes=(), services=(state,))).is_fit
    found = told(look(probes=(), services=(replace(state, tenant=None),), tenants=[]))
    assert found.reasons == ("nobody is seen to carry it",)


def with_device(**rest: Any) -> Callable[[], Fitness]:
    return lambda: told(mem=memory(devices={device_id(0): device_memory(**rest)}))


def with_case(rung: Rung, **rest: Any) -> Callable[[], Fitness]:
    return lambda: told(mem=memory(cases={ID: case(SERVE, rung, **rest)}))


def with_debt(kind: Kind) -> Fitness:
    target = case(SERVE).target
    debt = Debt(tenant=ID, kind=kind, target=target, incident=IncidentId("i"))
    return told(mem=memory(debts=(debt,)))


def with_fault() -> Fitness:
    sign = fault_sign(cls=FaultClass.HANG, action="reset_gpu")
    fault = Fault(root=sign, first_at=NOW, last_at=NOW, first_wall=WALL)
    return told(mem=memory(faults={fault.key: fault}))


def with_repair() -> Fitness:
    repair = Repair(
        subject=device_id(0),
        device=device_id(0),
        cls=FaultClass.HANG,
        incident=IncidentId("i"),
        ladder=(Step.RESET_GPU,),
        phase=Phase.EMPTYING,
        since=NOW,
        opened_at=NOW,
    )
    return told(mem=memory(repairs={device_id(0): repair}))


def with_care(phase: CarePhase) -> Fitness:
    return told(mem=memory(cares={"risk": Care(service="risk", phase=phase)}))


def with_reading(**rest: Any) -> Callable[[], Fitness]:
    return lambda: told(look(probes=(replace(READING, **rest),)))


AGAINST: dict[str, Callable[[], Fitness]] = {
    "its probe fails: HTTP 503": with_reading(is_well=False, failures=3, detail="HTTP 503"),
    "its probe says nothing yet": with_reading(is_well=None, at=None),
    "its probe has said nothing for 41 s": with_reading(at=NOW - 41),
    "it is being restarted": lambda: with_care(CarePhase.VERIFYING),
    "GPU 0 does not answer (blind)": lambda: told(look(gpus=[gpu(sight=Sight.BLIND)])),
    "GPU-0 is not there": lambda: told(look(gpus=[gpu(1)])),
    "GPU 0 has not been read lately": lambda: told(look(gpus=[gpu(at=NOW - 11)])),
    "GPU 0 is locked up (xid 119)": with_device(locked_since=NOW, locked_why="xid 119"),
    "GPU 0 is cordoned (inc-1)": with_device(cordoned_by=IncidentId("inc-1")),
    "the node is cordoned (inc-2)": lambda: told(
        mem=memory(devices={NODE_ITSELF: device_memory(cordoned_by=IncidentId("inc-2"))})
    ),
    "GPU 0 has a fault (xid 119)": with_fault,
    "GPU 0 is being repaired (reset-gpu, emptying)": with_repair,
    "it is being evicted (termed)": with_case(Rung.TERMED),
    "it is frozen": lambda: with_debt(Kind.THAW),
    "it is throttled": lambda: with_debt(Kind.UNTHROTTLE),
    "it is paused": lambda: told(look(tenants=[replace(SERVE, is_paused=True)])),
    "nobody has looked for 11 s": lambda: told(
        look(gpus=[gpu(at=NOW + 11)], probes=(replace(READING, at=NOW + 11),)), at=NOW + 11
    ),
}


@pytest.mark.parametrize("reason", AGAINST)
def test_each_of_these_alone_makes_it_unfit(reason: str) -> None:
    assert AGAINST[reason]().reasons == (reason,)


def test_one_failure_is_not_yet_unfit_as_it_is_not_for_the_kubelet() -> None:
    assert with_reading(is_well=False, failures=2)().is_fit


def test_a_restart_policy_that_is_owed_is_nothing_against_it() -> None:
    assert with_debt(Kind.RESTART_BACK).is_fit


def test_a_service_that_holds_nothing_now_is_judged_by_the_devices_it_was_last_on() -> None:
    empty = look(tenants=[], uses=[], probes=(replace(READING, tenant=None),))
    cares = {"risk": Care(service="risk", devices=(device_id(0),))}
    assert told(empty, memory(cares=cares)).is_fit
    sick = {device_id(0): device_memory(cordoned_by=IncidentId("inc-1"))}
    assert not told(empty, memory(cares=cares, devices=sick)).is_fit


def test_other_peoples_trouble_is_not_its_own() -> None:
    other: Tenant = tenant("hog")
    mem = memory(
        cases={other.id: case(other, Rung.TERMED)},
        devices={device_id(1): device_memory(cordoned_by=IncidentId("inc-1"))},
    )
    shown = look(gpus=[gpu(), gpu(1, sight=Sight.LOST)], tenants=[SERVE, other])
    assert told(shown, mem).is_fit
