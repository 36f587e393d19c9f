"""Every fault has a class, and every class three steps that a person can carry out."""

from __future__ import annotations

import re

import pytest

from gpuwarden.model.fault import Topic
from gpuwarden.model.kernel_line import DriverLine, Kind, SxidForm, SxidLine, XidLine
from gpuwarden.policy.fault import catalogue, steps
from gpuwarden.policy.fault.steps import first_steps, topic_of, topic_of_xid


@pytest.mark.parametrize("each", Topic)
@pytest.mark.parametrize("pci", [None, "0000:65:00", "0000:65:00.0", "0009:00"])
def test_three_different_steps_with_the_devices_address(each: Topic, pci: str | None) -> None:
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


def raw(each: Topic) -> str:
    return " ".join(steps._STEPS[each])


def test_calls_into_the_driver_have_a_deadline() -> None:
    for each in Topic:
        for step in first_steps(each):
            for match in re.finditer(r"(\S+ \S+ )?(?<![-\w/])nvidia-smi (?!of)", step):
                assert (match[1] or "").startswith("timeout") or "timeout" in step[
                    : match.start() + 16
                ], step


@pytest.mark.parametrize(
    ("code", "each"),
    [
        (13, Topic.APPLICATION),
        (31, Topic.APPLICATION),
        (45, Topic.APPLICATION),
        (48, Topic.MEMORY_UNCORRECTABLE),
        (63, Topic.REMAP_PENDING),
        (64, Topic.REMAP_FAILED),
        (74, Topic.NVLINK),
        (79, Topic.LOST),
        (94, Topic.MEMORY_CONTAINED),
        (95, Topic.MEMORY_UNCORRECTABLE),
        (109, Topic.ENGINE_STOPPED),
        (119, Topic.ENGINE_STOPPED),
        (143, Topic.INIT_FAILED),
        (149, Topic.NVLINK),
        (154, Topic.RECOVERY_ADVISED),
        (106, Topic.NONE),
        (1, Topic.UNCLASSIFIED),
        (999, Topic.UNCLASSIFIED),
    ],
)
def test_the_class_of_an_xid(code: int, each: Topic) -> None:
    assert topic_of_xid(code) is each
    assert topic_of(XidLine(xid=code, pci="0000:65:00")) is each


def test_no_xid_stands_in_two_classes_and_all_are_published() -> None:
    listed = [code for codes in steps._BY_XID.values() for code in codes]
    assert len(listed) == len(set(listed))
    assert all(catalogue.xid(code) is not None for code in listed)


def test_what_locks_a_device_is_no_application_matter() -> None:
    for code in catalogue.LOCKING:
        assert topic_of_xid(code) not in (Topic.APPLICATION, Topic.NONE)


def test_a_consequence_has_the_class_of_its_cause() -> None:
    told = XidLine(xid=45, pci="0000:65:00", caused_by_xid=79)
    assert topic_of(told) is Topic.LOST
    assert topic_of(DriverLine(kind=Kind.CHANNELS_TORN_DOWN, caused_by_xid=79)) is Topic.LOST


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.XID, Kind.SXID)])
def test_every_kind_has_a_class(kind: Kind) -> None:
    assert topic_of(DriverLine(kind=kind)) in Topic
    is_told = kind not in (Kind.GPU_UUID, Kind.GPU_SERIAL, Kind.DRIVER_NOISE)
    if is_told and kind not in (Kind.DRIVER_ASSERT, Kind.DRIVER_CHECK, Kind.CHANNELS_TORN_DOWN):
        assert topic_of(DriverLine(kind=kind)) is not Topic.NONE


def test_an_assertion_is_classed_by_its_error() -> None:
    lost = DriverLine(kind=Kind.DRIVER_ASSERT, status="NV_ERR_GPU_IS_LOST", reset_required=False)
    asks = DriverLine(kind=Kind.DRIVER_CHECK, status="NV_ERR_RESET_REQUIRED", reset_required=True)
    assert topic_of(lost) is Topic.LOST
    assert topic_of(asks) is Topic.RECOVERY_ADVISED
    assert topic_of(SxidLine(sxid=20034, pci="a", switch=0, form=SxidForm.DATA)) is Topic.FABRIC
