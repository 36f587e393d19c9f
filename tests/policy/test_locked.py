"""Rule locked: a device that stopped doing work is named while it stays so."""

from __future__ import annotations

from gpuwarden.model.finding import Severity
from gpuwarden.policy import locked
from tests.policy.builders import NOW, config, device_id, device_memory, gpu, memory, scene, snap


def test_one_finding_a_locked_device() -> None:
    states = {device_id(1): device_memory(locked_since=NOW - 1, locked_why="Xid 79")}
    look = snap(gpus=[gpu(0), gpu(1), gpu(2)])
    (claim,) = locked.find(config(), memory(devices=states), scene(look=look))
    assert (claim.device, claim.severity) == (device_id(1), Severity.CRITICAL)
    assert "Xid 79" in claim.summary
    assert claim.tenant is None


def test_nothing_of_a_device_that_is_no_more() -> None:
    states = {device_id(1): device_memory(locked_since=NOW - 1)}
    assert locked.find(config(), memory(devices=states), scene(look=snap(gpus=[gpu(0)]))) == []
