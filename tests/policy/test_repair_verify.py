"""Whether that nothing speaks against a repair proves its step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.model.device import Sight
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.repair import Fault, FaultClass, Phase, Repair, Step
from gpuwarden.policy.repair import verify
from tests.policy.builders import NOW, WALL, config, desk, device_id, fault_sign, gpu, snap


def repair(cls: FaultClass = FaultClass.HANG, **rest: Any) -> Repair:
    return Repair(
        subject=device_id(0),
        device=device_id(0),
        cls=cls,
        incident=IncidentId("inc-1"),
        ladder=(Step.RESET_GPU, Step.HAND_OVER),
        phase=Phase.VERIFYING,
        since=NOW,
        opened_at=NOW,
        **rest,
    )


def fault(recovery: int = 0, **rest: Any) -> Fault:
    sign = fault_sign(**rest)
    return Fault(root=sign, first_at=NOW, last_at=NOW, first_wall=WALL, recovery=recovery)


@pytest.mark.parametrize(
    ("case", "faults", "expected"),
    [
        (repair(), [fault()], False),
        (repair(), [fault(), fault(recovery=1)], True),
        (repair(), [fault(is_condition=True)], True),
        (repair(is_polled=True), [], True),
        (repair(FaultClass.LOST), [], True),
        (repair(FaultClass.DRIVER), [], False),
    ],
)
def test_only_what_is_read_again_and_again_proves_anything(
    case: Repair, faults: list[Fault], expected: bool
) -> None:
    assert verify.is_measured(case, faults) is expected


def failing(case: Repair, faults: list[Fault], **board: Any) -> str:
    look = snap(NOW + 5.0, gpus=[gpu(**{"at": NOW + 4.0, "used_mib": 600, **board})])
    return verify.failing(desk(config(), look), case, faults)


def test_what_speaks_against_a_repair() -> None:
    assert failing(repair(), []) == ""
    assert failing(repair(), [fault()]) == "", "that was before the step"
    assert "said again" in failing(repair(), [replace(fault(), last_at=NOW + 1.0)])
    assert "still stands" in failing(repair(), [fault(is_condition=True)])
    assert "no value" in failing(repair(), [], at=NOW), (
        "a value from before the step proves nothing"
    )
    assert "does not answer" in failing(repair(), [], sight=Sight.BLIND)
    assert "recovery action 1" in failing(repair(), [], recovery_action=1)
    assert "memory" in failing(repair(), [], used_mib=20_000)
