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


def found(*devices: Device, expected: int | None = None, **rest: object) -> list[Finding]:
    cfg = config(agent={"expected_devices": expected})
    return sight.find(cfg, memory(), scene(cfg, snap(gpus=devices, **rest)))  # type: ignore[arg-type]


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


def test_fewer_devices_than_expected() -> None:
    (claim,) = found(gpu(0), expected=2)
    assert claim.key == "sight count"
    assert "1 GPUs are here, 2 are expected" in claim.summary


def test_a_lost_device_is_not_counted_and_a_slice_is_not_a_device() -> None:
    piece = gpu(2, parent=device_id(0))
    claims = found(gpu(0), gpu(1, sight=Sight.LOST), piece, expected=2)
    assert [c.key for c in claims] == ["sight GPU-1", "sight count"]


def test_a_blind_device_is_still_here() -> None:
    assert [c.key for c in found(gpu(0, sight=Sight.BLIND), expected=1)] == ["sight GPU-0"]


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
