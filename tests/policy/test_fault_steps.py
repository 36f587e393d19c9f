"""Every fault has a class, and every class three steps that a person can carry out."""

from __future__ import annotations

import re

import pytest

from gpuwarden.model.fault import FaultClass
from gpuwarden.model.kernel_line import DriverLine, Kind, SxidForm, SxidLine, XidLine
from gpuwarden.policy.fault import catalogue, steps
from gpuwarden.policy.fault.steps import class_of, class_of_xid, first_steps


@pytest.mark.parametrize("each", FaultClass)
@pytest.mark.parametrize("pci", [None, "0000:65:00", "0000:65:00.0", "0009:00"])
def test_three_different_steps_with_the_devices_address(each: FaultClass, pci: str | None) -> None:
    told = first_steps(each, pci)
    assert len(set(told)) == 3
    for step in told:
        assert not re.search(r"[{}]", step), step
        assert 10 < len(step) < 240
        assert step == step.strip()
    whole = " ".join(told)
    assert ("-i 00" in whole or "-s 00" in whole) == (pci is not None and "{" in raw(each))
    if pci is not None and "{" in raw(each):
        assert f" {pci.removesuffix('.0')}.0" in whole


def raw(each: FaultClass) -> str:
    return " ".join(steps._STEPS[each])


def test_calls_into_the_driver_have_a_deadline() -> None:
    for each in FaultClass:
        for step in first_steps(each):
            for match in re.finditer(r"(\S+ \S+ )?(?<![-\w/])nvidia-smi (?!of)", step):
                assert (match[1] or "").startswith("timeout") or "timeout" in step[
                    : match.start() + 16
                ], step


@pytest.mark.parametrize(
    ("code", "each"),
    [
        (13, FaultClass.APPLICATION),
        (31, FaultClass.APPLICATION),
        (45, FaultClass.APPLICATION),
        (48, FaultClass.MEMORY_UNCORRECTABLE),
        (63, FaultClass.REMAP_PENDING),
        (64, FaultClass.REMAP_FAILED),
        (74, FaultClass.NVLINK),
        (79, FaultClass.LOST),
        (94, FaultClass.MEMORY_CONTAINED),
        (95, FaultClass.MEMORY_UNCORRECTABLE),
        (109, FaultClass.ENGINE_STOPPED),
        (119, FaultClass.ENGINE_STOPPED),
        (143, FaultClass.INIT_FAILED),
        (149, FaultClass.NVLINK),
        (154, FaultClass.RECOVERY_ADVISED),
        (106, FaultClass.NONE),
        (1, FaultClass.UNCLASSIFIED),
        (999, FaultClass.UNCLASSIFIED),
    ],
)
def test_the_class_of_an_xid(code: int, each: FaultClass) -> None:
    assert class_of_xid(code) is each
    assert class_of(XidLine(xid=code, pci="0000:65:00")) is each


def test_no_xid_stands_in_two_classes_and_all_are_published() -> None:
    listed = [code for codes in steps._BY_XID.values() for code in codes]
    assert len(listed) == len(set(listed))
    assert all(catalogue.xid(code) is not None for code in listed)


def test_what_locks_a_device_is_no_application_matter() -> None:
    for code in catalogue.LOCKING:
        assert class_of_xid(code) not in (FaultClass.APPLICATION, FaultClass.NONE)


def test_a_consequence_has_the_class_of_its_cause() -> None:
    told = XidLine(xid=45, pci="0000:65:00", caused_by_xid=79)
    assert class_of(told) is FaultClass.LOST
    assert class_of(DriverLine(kind=Kind.CHANNELS_TORN_DOWN, caused_by_xid=79)) is FaultClass.LOST


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.XID, Kind.SXID)])
def test_every_kind_has_a_class(kind: Kind) -> None:
    assert class_of(DriverLine(kind=kind)) in FaultClass
    is_told = kind not in (Kind.GPU_UUID, Kind.GPU_SERIAL, Kind.DRIVER_NOISE)
    if is_told and kind not in (Kind.DRIVER_ASSERT, Kind.DRIVER_CHECK, Kind.CHANNELS_TORN_DOWN):
        assert class_of(DriverLine(kind=kind)) is not FaultClass.NONE


def test_an_assertion_is_classed_by_its_error() -> None:
    lost = DriverLine(kind=Kind.DRIVER_ASSERT, status="NV_ERR_GPU_IS_LOST", reset_required=False)
    asks = DriverLine(kind=Kind.DRIVER_CHECK, status="NV_ERR_RESET_REQUIRED", reset_required=True)
    assert class_of(lost) is FaultClass.LOST
    assert class_of(asks) is FaultClass.RECOVERY_ADVISED
    assert (
        class_of(SxidLine(sxid=20034, pci="a", switch=0, form=SxidForm.DATA)) is FaultClass.FABRIC
    )
