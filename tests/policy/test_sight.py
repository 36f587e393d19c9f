"""Rule sight: what cannot be seen is never healthy."""

from __future__ import annotations

from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.snapshot import Gap, GapKind
from gpuwarden.policy import sight
from tests.policy.builders import config, device_id, gpu, memory, scene, snap


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
