"""Rule count: against what the operator says, else against the bus."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Scope, Severity
from gpuwarden.model.health import Surroundings
from gpuwarden.policy.health import count
from gpuwarden.policy.health.rule import Claim
from tests.policy.builders import NOW, config, device_id, gpu
from tests.policy.health.ward import TICK_S, Ward, ask_host


def found(*devices: Device, expected: int | None = None, **around: Any) -> list[Claim]:
    return ask_host(
        count.JUDGES,
        Surroundings(at=NOW, **around),
        devices=devices,
        cfg=config(agent={"expected_devices": expected}),
    )


def test_fewer_than_the_operator_expects() -> None:
    (claim,) = found(gpu(0), expected=2)
    assert (claim.severity, claim.scope) == (Severity.ERROR, Scope.NODE)
    assert claim.summary == "1 GPUs are here, 2 are expected"


def test_fewer_than_the_bus_holds() -> None:
    (claim,) = found(gpu(0), pci_gpus=2)
    assert claim.summary == "1 GPUs are here, 2 are on the PCI bus"


@pytest.mark.parametrize(
    ("expected", "around"),
    [
        (None, {}),
        (None, {"pci_gpus": None}),
        (None, {"pci_gpus": 1}),
        (1, {"pci_gpus": 8}),
        (0, {}),
    ],
)
def test_as_many_as_expected_or_nothing_is_expected(
    expected: int | None, around: dict[str, int | None]
) -> None:
    """What the operator says counts for more: a board may be left to a guest."""
    assert found(gpu(0), expected=expected, **around) == []


def test_a_lost_device_is_not_here_a_blind_one_is_and_a_slice_is_none() -> None:
    piece = gpu(2, parent=device_id(0))
    assert len(found(gpu(0), gpu(1, sight=Sight.LOST), piece, expected=2)) == 1
    assert found(gpu(0), gpu(1, sight=Sight.BLIND), piece, expected=2) == []


def test_one_that_was_seen_and_is_lost_wakes_nobody_a_second_time() -> None:
    lost = gpu(1, sight=Sight.LOST)
    assert [c.severity for c in found(gpu(0), lost, expected=2)] == [Severity.WARNING]
    assert [c.severity for c in found(gpu(0), lost, expected=3)] == [Severity.ERROR]


def test_it_enters_and_leaves_slowly_and_is_told_once() -> None:
    ward = Ward(cfg=config(agent={"expected_devices": 2}))

    def see(after_s: float, devices: int) -> bool:
        at = NOW + after_s
        return bool(ward.see(at, *(gpu(n, at=at) for n in range(devices))))

    short = [see(s, 1) for s in (0, 5, 10, 15, 20, 25, 30 - TICK_S, 30, 35)]
    assert short == [False] * 7 + [True] * 2
    assert list(ward.health.signs) == ["device-count"]
    whole = [see(s, 2) for s in (*range(40, 100, 5), 100 - TICK_S, 100)]
    assert whole == [True] * 13 + [False]


def test_a_bus_that_cannot_be_seen_any_more_heals_nothing() -> None:
    ward = Ward()
    for n in range(100):
        at = NOW + 5.0 * n
        around = Surroundings(at=NOW + min(n, 10) * 5.0, pci_gpus=2)
        stands = bool(ward.see(at, gpu(0, at=at), around=around))
        assert stands is (n >= 6)
