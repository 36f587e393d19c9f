"""What a step of a repair needs before it begins, and whom it may send away."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.repair import NODE, FaultClass, Phase, Repair, Step
from gpuwarden.policy.repair import empty
from gpuwarden.policy.repair.permit import must_wait, permit
from tests.policy.builders import (
    HIGH,
    LOW,
    NORMAL,
    NOW,
    PROTECTED,
    WALL,
    config,
    desk,
    device_id,
    gpu,
    memory,
    snap,
    tenant,
    use,
)

ALL = ["restart-services", "reset-gpu", "reload-driver", "reboot"]


def repair(on: int | None = 0, step: Step = Step.RESET_GPU, phase: Phase = Phase.OPEN) -> Repair:
    device = None if on is None else device_id(on)
    return Repair(
        subject=NODE if device is None else device,
        device=device,
        cls=FaultClass.HANG,
        incident=IncidentId("inc-1"),
        ladder=(step, Step.HAND_OVER),
        phase=phase,
        since=NOW,
        opened_at=NOW,
    )


def budget(mode: str = "enforce", allow: Any = ALL, spent: Any = (), **look: Any) -> str | None:
    cfg = config(mode, repair={"allow": allow, "resets_per_device_day": 2})
    refusal = permit(desk(cfg, snap(gpus=[gpu()], **look), memory(spent=spent)), repair())
    return None if refusal is None else refusal.budget


def test_what_a_step_needs() -> None:
    assert budget() is None
    assert budget("observe") == "observe"
    assert budget(allow=["reboot"]) == "operator"
    assert budget(can_record=False) == "journal"
    assert budget(fleet_permit=False) == "permit"


def test_resets_are_counted_by_device_and_day() -> None:
    now = WALL + NOW
    mine = (device_id(0), "reset-gpu", now - 10.0)
    assert budget(spent=(mine,)) is None
    assert budget(spent=(mine, mine)) == "per-day"
    assert budget(spent=(mine, (device_id(1), "reset-gpu", now - 10.0))) is None
    assert budget(spent=(mine, (device_id(0), "reset-gpu", now - 86_500.0))) is None
    assert budget(spent=(mine, (device_id(0), "reboot", now - 10.0))) is None


@pytest.mark.parametrize(
    ("other", "mine", "expected"),
    [
        (repair(1, phase=Phase.ACTING), repair(0), True),
        (repair(1, phase=Phase.VERIFYING), repair(0), False),
        (repair(1, phase=Phase.EMPTYING), repair(0), False),
        (repair(0, phase=Phase.ACTING), repair(0), False),
        (repair(None, Step.REBOOT, Phase.VERIFYING), repair(0), True),
        (repair(1, phase=Phase.VERIFYING), repair(None, Step.RELOAD_DRIVER), True),
    ],
)
def test_one_at_a_time(other: Repair, mine: Repair, expected: bool) -> None:
    assert must_wait([mine, other], mine) is expected


def asked(highest: str | None, *classes: Any) -> list[str]:
    settings = {"allow": ALL} if highest is None else {"allow": ALL, "drain_evicts": highest}
    who = [tenant(f"t{n}", cls=cls) for n, cls in enumerate(classes)]
    look = snap(gpus=[gpu()], tenants=who, uses=[use(t, 1_000) for t in who])
    at = desk(config(repair=settings), look)
    left = empty.left_on(at, repair())
    assert left is not None
    assert {t.id for t in left} == {t.id for t in who}
    empty.ask_to_go(at, repair(), left)
    return [a.target.name for a in at.actions if a.kind is Kind.STOP and a.target is not None]


def test_only_whose_class_the_operator_names_is_sent_away_one_at_a_time() -> None:
    assert asked(None, LOW) == []
    assert asked("low", LOW, NORMAL) == ["t0"]
    assert asked("low", NORMAL) == []
    assert asked("normal", NORMAL, LOW) == ["t1"], "the lower class first"
    assert asked("protected", PROTECTED, HIGH) == []


def test_a_list_that_is_old_says_nothing_of_who_is_there() -> None:
    look = snap(gpus=[gpu(listed_at=NOW - 60.0)])
    assert empty.left_on(desk(config(), look), repair()) is None
    gone = snap(gpus=[gpu(1)])
    assert empty.left_on(desk(config(), gone), repair()) == [], (
        "the step itself refuses a device in use"
    )
