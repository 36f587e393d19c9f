"""Rule remap: pending waits for a reset, failed ends the board."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.device import Device, DriverEvent
from gpuwarden.model.finding import Severity
from gpuwarden.policy.health import remap
from tests.policy.builders import NOW, device_id
from tests.policy.health.ward import Ward, ask, enters, leaves, sampled


@pytest.mark.parametrize(
    ("errors", "faults"),
    [
        ({}, []),  # before Ampere, or in MIG mode
        ({"row_remap_pending": False, "row_remap_failed": False}, []),
        ({"row_remap_pending": True}, ["row-remap-pending"]),
        ({"pending_bank_remapping": True}, ["row-remap-pending"]),
        ({"row_remap_failed": True}, ["row-remap-failed"]),
        ({"row_remaps_uncorrectable_total": 511}, []),
        ({"row_remaps_uncorrectable_total": 512}, ["row-remap-exhausted"]),
        ({"row_remaps_correctable_total": 2_000}, []),
    ],
)
def test_each_sign(errors: dict[str, Any], faults: list[str]) -> None:
    assert list(ask(remap.JUDGES, sampled(errors=errors))) == faults


def test_pending_wakes_nobody_and_failed_does() -> None:
    claims = ask(
        remap.JUDGES, sampled(errors={"row_remap_pending": True, "row_remap_failed": True})
    )
    assert claims["row-remap-pending"].severity is Severity.WARNING
    assert claims["row-remap-failed"].severity is Severity.CRITICAL


@pytest.mark.parametrize(("banks", "told"), [(None, False), (0, False), (1, True)])
def test_a_bank_without_spare_rows(banks: int | None, told: bool) -> None:
    claims = ask(remap.JUDGES, sampled(setup={"row_remap_banks_none": banks}))
    assert bool(claims) is told


def pending(at: float) -> Device:
    return sampled(at=at, errors={"row_remap_pending": True})


def done(at: float) -> Device:
    return sampled(at=at, errors={"row_remap_pending": False, "row_remap_failed": False})


def test_pending_enters_and_leaves_slowly() -> None:
    ward, at = enters("errors", pending, "row-remap-pending GPU-0", 30.0)
    leaves("errors", done, "row-remap-pending GPU-0", 300.0, ward, at)


def test_a_failed_remap_is_told_by_its_event_before_the_next_sample() -> None:
    ward = Ward()
    event = DriverEvent(kind="retirement-failed", at=NOW, device=device_id(0))
    assert list(ward.see(NOW, done(NOW), events=(event,))) == ["row-remap-failed GPU-0"]
