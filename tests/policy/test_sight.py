"""Rule sight: what cannot be seen is never healthy."""

from __future__ import annotations

import pytest

from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.snapshot import Gap, GapKind
from gpuwarden.policy import sight
from tests.policy.builders import (
    NOW,
    config,
    device_id,
    device_memory,
    gpu,
    memory,
    scene,
    snap,
)


def found(*devices: Device, **rest: object) -> list[Finding]:
    look = snap(gpus=devices, **rest)  # type: ignore[arg-type]
    return sight.find(config(), memory(), scene(None, look))


def test_a_seen_device_is_no_finding() -> None:
    assert found(gpu()) == []


def test_a_blind_device_with_the_reason_its_gap_gives() -> None:
    gap = Gap(source="probe", subject=device_id(0), kind=GapKind.HUNG, detail="memory info: 0.6 s")
    (claim,) = found(gpu(sight=Sight.BLIND), gaps=(gap,))
    assert claim.severity is Severity.ERROR
    assert claim.evidence == (("reason", "memory info: 0.6 s"),)


def test_a_lost_device_is_worse() -> None:
    (claim,) = found(gpu(sight=Sight.LOST))
    assert claim.severity is Severity.CRITICAL


@pytest.mark.parametrize(("age_s", "told"), [(10.0, False), (10.1, True)])
def test_a_device_whose_processes_are_not_listed_is_not_guarded(age_s: float, told: bool) -> None:
    gap = Gap(source="nvml", subject=device_id(0), kind=GapKind.DENIED, detail="NO_PERMISSION")
    mem = memory(devices={device_id(0): device_memory(sight_since=0.0)})
    for device in (gpu(listed_at=NOW - age_s), gpu(listed_at=None)):
        claims = sight.find(config(), mem, scene(None, snap(gpus=[device], gaps=(gap,))))
        assert bool(claims) is (told or device.listed_at is None)
        if claims:
            assert claims[0].summary == (
                "GPU 0 is not guarded: who uses it is not known: NO_PERMISSION"
            )


def test_one_that_has_just_come_back_has_time_and_a_gpu_in_mig_mode_has_no_list() -> None:
    mem = memory(devices={device_id(0): device_memory(sight_since=NOW - 5)})
    for device in (gpu(listed_at=NOW - 99), gpu(listed_at=None)):
        assert sight.find(config(), mem, scene(None, snap(gpus=[device]))) == []
    late = gpu(listed_at=NOW - 99, is_mig_parent=True)
    mem = memory(devices={device_id(0): device_memory(sight_since=0.0)})
    assert sight.find(config(), mem, scene(None, snap(gpus=[late]))) == []
