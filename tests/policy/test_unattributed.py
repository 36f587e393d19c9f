"""Rule unattributed: bytes nobody admits to are suspected or reported, never a conviction."""

from __future__ import annotations

import pytest

from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy import unattributed
from tests.policy.builders import (
    MIB,
    NOW,
    config,
    device_id,
    device_memory,
    gpu,
    memory,
    scene,
    snap,
    tenant,
    use,
)

A, B = tenant("a"), tenant("b")


def found(*there: Tenant, since: float | None = NOW - 5, held_mib: int = 60_000) -> list[Finding]:
    state = device_memory(unattributed_floor_bytes=1_000 * MIB, unattributed_since=since)
    look = snap(
        gpus=[gpu(used_mib=70_000)],
        tenants=there,
        uses=[use(t, 100) for t in there],
        unattributed=((device_id(0), held_mib * MIB),),
    )
    return unattributed.find(config(), memory(devices={device_id(0): state}), scene(look=look))


@pytest.mark.parametrize(("held", "is_claimed"), [(4.99, False), (5.0, True)])
def test_held_for_five_seconds(held: float, is_claimed: bool) -> None:
    assert bool(found(A, since=NOW - held)) is is_claimed


def test_never_grown_never_claimed() -> None:
    assert found(A, since=None) == []


def test_a_single_candidate_is_suspected() -> None:
    (claim,) = found(A)
    assert claim.tenant == A.id
    assert claim.severity is Severity.WARNING
    assert claim.used_bytes == 59_000 * MIB


def test_several_candidates_are_reported_and_none_is_named_the_one() -> None:
    (claim,) = found(A, B)
    assert claim.tenant is None
    assert claim.severity is Severity.ERROR
    assert "too many to act on one" in claim.summary
    assert "a, b" in claim.summary


def test_nobody_there_is_reported_too() -> None:
    (claim,) = found()
    assert claim.tenant is None
    assert "nobody" in claim.summary


def test_a_device_that_is_no_more_is_not_reported() -> None:
    look = snap(gpus=[], unattributed=((device_id(0), 60_000 * MIB),))
    state = device_memory(unattributed_floor_bytes=0, unattributed_since=NOW - 9)
    assert (
        unattributed.find(config(), memory(devices={device_id(0): state}), scene(look=look)) == []
    )
