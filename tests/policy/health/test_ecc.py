"""Rule ecc: uncorrected errors at once, storms once they last, worn boards, ECC that is off."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.device import Device, DriverEvent
from gpuwarden.model.finding import Finding, Scope, Severity
from gpuwarden.model.health_memory import DeviceHistory
from gpuwarden.policy.health import ecc
from gpuwarden.policy.health.rule import Claim
from tests.policy.builders import NOW, config, device_id
from tests.policy.health.ward import Ward, ask, enters, grew, leaves, sampled


def found(history: DeviceHistory | None = None, **errors: Any) -> dict[str, Claim]:
    return ask(ecc.JUDGES, sampled(errors=errors), history=history)


def test_one_uncorrected_error_is_a_fault_of_the_device() -> None:
    claim = found(ecc_uncorrected_volatile_total=1, ecc_uncorrected_aggregate_total=7)[
        "ecc-uncorrected"
    ]
    assert (claim.severity, claim.scope) == (Severity.ERROR, Scope.GPU)
    assert ("ecc uncorrected, aggregate", "7") in claim.evidence


@pytest.mark.parametrize(
    "errors",
    [
        {},  # a board without ECC tells nothing
        {"ecc_uncorrected_volatile_total": 0, "ecc_corrected_volatile_total": 4_000},
        {"ecc_uncorrected_aggregate_total": 19_999_999},
    ],
)
def test_no_ecc_or_no_error_is_no_fault(errors: dict[str, Any]) -> None:
    assert found(**errors) == {}


@pytest.mark.parametrize(("count", "is_storm"), [(10.0, False), (11.0, True)])
def test_more_corrected_errors_a_minute_than_ten_are_a_storm(count: float, is_storm: bool) -> None:
    history = DeviceHistory(errors=grew(60.0, ecc_corrected_volatile_total=count))
    assert bool(found(history, ecc_corrected_volatile_total=99)) is is_storm


def test_a_board_that_has_counted_twenty_million_is_worn() -> None:
    assert list(found(ecc_corrected_aggregate_total=20_000_000)) == ["ecc-worn"]


def test_the_sram_threshold_is_the_drivers_word() -> None:
    assert ask(ecc.JUDGES, sampled(setup={"sram_ecc_threshold_exceeded": False})) == {}
    claims = ask(ecc.JUDGES, sampled(setup={"sram_ecc_threshold_exceeded": True}))
    assert claims["sram-threshold"].severity is Severity.ERROR


@pytest.mark.parametrize(
    ("setup", "faults"),
    [
        ({"ecc_enabled": False, "ecc_default": True}, ["ecc-off"]),
        ({"ecc_enabled": False, "ecc_default": False}, []),
        ({"ecc_enabled": False}, []),  # what the default is, is not known
        ({"ecc_enabled": True, "ecc_default": True}, []),
    ],
)
def test_ecc_off_is_compared_with_the_boards_own_default(
    setup: dict[str, bool], faults: list[str]
) -> None:
    assert list(ask(ecc.JUDGES, sampled(setup=setup))) == faults


def ill(at: float) -> Device:
    return sampled(at=at, errors={"ecc_uncorrected_volatile_total": 2})


def well(at: float) -> Device:
    return sampled(at=at, errors={"ecc_uncorrected_volatile_total": 0})


def test_it_enters_at_once_and_leaves_after_its_probation() -> None:
    ward, at = enters("errors", ill, "ecc-uncorrected GPU-0", 0.0)
    leaves("errors", well, "ecc-uncorrected GPU-0", 300.0, ward, at)


def test_a_board_that_stops_telling_is_not_healed() -> None:
    ward, at = enters("errors", ill, "ecc-uncorrected GPU-0", 0.0)
    for n in range(1, 60):
        later = at + 15.0 * n
        assert ward.see(later, sampled(at=later, errors={}))


def storming(at: float) -> Device:
    return sampled(at=at, errors={"ecc_corrected_volatile_total": int((at - NOW) * 5)})


def test_a_storm_has_to_last() -> None:
    """5 a second: the first whole window ends after 60 s, two minutes after that it stands."""
    ward = Ward()
    for n in range(13):
        at = NOW + 15.0 * n
        assert bool(ward.see(at, storming(at))) is (at >= NOW + 180.0)


def stormy(ward: Ward, at: float) -> dict[str, Finding]:
    event = DriverEvent(kind="ecc-storm", at=at + 0.05, device=device_id(0))
    return ward.see(at, well(at), events=(event,))


def test_the_drivers_own_word_of_a_storm_counts_at_once_and_has_its_probation() -> None:
    ward = Ward()
    assert list(stormy(ward, NOW)) == ["ecc-storm GPU-0"]
    quiet = [
        bool(ward.see(at, sampled(at=at, errors={"ecc_corrected_volatile_total": 0})))
        for at in (NOW + 15.0 * n for n in range(1, 23))
    ]
    assert quiet == [True] * 20 + [False] * 2


def test_a_rule_that_is_off_says_nothing() -> None:
    ward = Ward(cfg=config(rules={"ecc": {"mode": "off"}}))
    assert ward.see(NOW, ill(NOW)) == {}
    assert stormy(ward, NOW + 1) == {}
