"""The states of a repair, walked over every phase and event; every phase can come to rest."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from gpuwarden.model.repair import Fault, FaultClass, Phase, Step
from gpuwarden.policy.repair import ladders
from gpuwarden.policy.repair.table import TABLE, Event, step
from tests.policy.builders import NOW, WALL, fault_sign


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, Event)))
def test_every_phase_meets_every_event(phase: Phase, event: Event) -> None:
    after = step(phase, event)
    assert after in Phase
    assert (after is phase) == ((phase, event) not in TABLE)


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_can_come_to_rest(phase: Phase) -> None:
    reached = {phase}
    while True:
        more = {step(p, e) for p in reached for e in Event} - reached
        if not more:
            break
        reached |= more
    assert Phase.REST in reached


@pytest.mark.parametrize("event", Event)
def test_rest_is_rest(event: Event) -> None:
    assert step(Phase.REST, event) is Phase.REST


def test_nothing_is_done_without_its_precondition() -> None:
    into_acting = [(p, e) for (p, e), after in TABLE.items() if after is Phase.ACTING]
    assert into_acting == [(Phase.EMPTYING, Event.READY)]
    into_use = {(p, e) for (p, e), after in TABLE.items() if after is Phase.REST}
    never_out = {(Phase.OPEN, Event.UNTOUCHED), (Phase.HANDED_OVER, Event.UNTOUCHED)}
    assert into_use == {(Phase.PROBATION, Event.PASSED), *never_out}, "in use again after probation"


def fault(cls: FaultClass, action: str, severity: str = "fatal", **rest: int) -> Fault:
    sign = fault_sign("x", cls=cls, action=action, severity=severity)
    return Fault(root=sign, first_at=NOW, last_at=NOW, first_wall=WALL, **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cls", "action"), list(itertools.product(FaultClass, [*ladders.OF_ACTION, "something new"]))
)
def test_every_ladder_ends_with_people_or_is_none(cls: FaultClass, action: str) -> None:
    for recovery, repairs, severity in itertools.product(range(8), range(7), ("warning", "fatal")):
        found = ladders.ladder_of(
            fault(cls, action, severity, recovery=recovery, repairs=repairs), repeat_raises=2
        )
        if not found:
            continue
        assert found[-1] is Step.HAND_OVER
        assert list(found) == sorted(set(found), key=ladders.ORDER.index), "ever stronger"


@pytest.mark.parametrize(
    ("cls", "action", "rest", "expected"),
    [
        (FaultClass.HANG, "reset_gpu", {}, ["reset-gpu", "reboot", "hand-over"]),
        (FaultClass.ECC, "workflow", {}, ["reset-gpu", "hand-over"]),
        (FaultClass.LOST, "reboot_node", {}, ["reboot", "hand-over"]),
        (FaultClass.FABRIC, "restart_fabric", {}, ["restart-services", "reboot", "hand-over"]),
        (FaultClass.HARDWARE, "contact_support", {}, ["hand-over"]),
        (FaultClass.APPLICATION, "restart_app", {}, []),
        (FaultClass.ADVISORY, "monitor", {}, []),
        (FaultClass.HANG, "reset_gpu", {"recovery": 2}, ["reboot", "hand-over"]),
        (FaultClass.LOST, "reboot_node", {"recovery": 1}, ["reset-gpu", "reboot", "hand-over"]),
        (FaultClass.HANG, "reset_gpu", {"recovery": 3}, ["hand-over"]),
        (FaultClass.HANG, "reset_gpu", {"repairs": 1}, ["reset-gpu", "reboot", "hand-over"]),
        (FaultClass.HANG, "reset_gpu", {"repairs": 2}, ["reboot", "hand-over"]),
        (FaultClass.HANG, "reset_gpu", {"repairs": 4}, ["hand-over"]),
        (FaultClass.HANG, "reset_gpu", {"is_excused": True}, []),
    ],
)
def test_the_drivers_number_rules_over_the_catalogue_and_that_over_the_class(
    cls: FaultClass, action: str, rest: dict[str, Any], expected: list[str]
) -> None:
    assert [s.value for s in ladders.ladder_of(fault(cls, action, **rest), 2)] == expected


@pytest.mark.parametrize(
    ("cls", "action", "expected"),
    [
        (FaultClass.FABRIC, "reset_gpu", ["reboot", "hand-over"]),
        (FaultClass.HANG, "reset_gpu", ["reboot", "hand-over"]),
        (FaultClass.ECC, "workflow", ["hand-over"]),
    ],
)
def test_what_names_no_device_resets_none(
    cls: FaultClass, action: str, expected: list[str]
) -> None:
    sign = fault_sign("x", on=None, cls=cls, action=action)
    found = ladders.ladder_of(Fault(root=sign, first_at=NOW, last_at=NOW, first_wall=WALL), 2)
    assert [s.value for s in found] == expected
