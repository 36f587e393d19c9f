"""Whether that nothing speaks against a repair proves its step."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.ids import IncidentId
from gpuwarden.model.repair import Fault, FaultClass, Phase, Repair, Step
from gpuwarden.policy.repair import verify
from tests.policy.builders import NOW, WALL, device_id, fault_sign


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
