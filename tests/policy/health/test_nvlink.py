"""Rule nvlink: errors by rate, links against the device's own past and its like."""

from __future__ import annotations

import pytest

from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Scope, Severity
from gpuwarden.model.health_memory import DeviceHistory
from gpuwarden.policy.health import nvlink
from gpuwarden.policy.health.rule import Claim
from tests.policy.builders import NOW
from tests.policy.health.ward import Ward, ask, enters, grew, leaves, sampled

ALL = (1 << 18) - 1
TWELVE = (1 << 12) - 1


def linked(
    up: int | None, down: int | None, index: int = 0, at: float = NOW, **rest: object
) -> Device:
    masks = {"nvlink_up_mask": up, "nvlink_down_mask": down}
    return sampled(index, at=at, errors=masks, **rest)  # type: ignore[arg-type]


def grown(span_s: float = 60.0, **counters: float) -> dict[str, Claim]:
    return ask(
        nvlink.JUDGES,
        sampled(errors={}),
        history=DeviceHistory(errors=grew(span_s, **counters)),
    )


@pytest.mark.parametrize(
    "counter",
    [
        "nvlink_replay_errors_total",
        "nvlink_recovery_errors_total",
        "nvlink_recovery_failures_total",
    ],
)
def test_one_replay_or_recovery_error_is_a_fault_of_the_link(counter: str) -> None:
    claim = grown(**{counter: 1.0})["nvlink-errors"]
    assert (claim.severity, claim.scope) == (Severity.ERROR, Scope.LINK)


@pytest.mark.parametrize(
    "counter",
    [
        "nvlink_crc_flit_errors_total",
        "nvlink_crc_data_errors_total",
        "nvlink_receive_errors_total",
        "nvlink_integrity_errors_total",
    ],
)
@pytest.mark.parametrize(
    ("by", "severity"),
    [(1.0, Severity.WARNING), (5_999, Severity.WARNING), (6_000, Severity.ERROR)],
)
def test_crc_errors_matter_from_a_hundred_a_second(
    counter: str, by: float, severity: Severity
) -> None:
    assert grown(**{counter: by})["nvlink-crc"].severity is severity


def test_no_growth_no_fault() -> None:
    assert grown() == {}


def test_a_link_that_was_up_and_is_down() -> None:
    history = DeviceHistory(links_up_mask=ALL)
    claim = ask(nvlink.JUDGES, linked(ALL & ~0x22, 0x22), history=history)["nvlink-down"]
    assert "1, 5" in claim.summary


@pytest.mark.parametrize(
    ("up", "down"), [(None, None), (None, 1), (TWELVE, ALL & ~TWELVE), (0, ALL)]
)
def test_links_that_never_were_up_are_no_fault(up: int | None, down: int | None) -> None:
    """An H100 PCIe has 12 of 18; a GPU without bridges has none."""
    history = DeviceHistory(links_up_mask=up or 0)
    assert ask(nvlink.JUDGES, linked(up, down), history=history) == {}


def test_a_link_that_is_not_told_of_is_not_down() -> None:
    assert ask(nvlink.JUDGES, linked(0x3, 0x0), history=DeviceHistory(links_up_mask=ALL)) == {}


LIKE = [linked(ALL, 0, 1), linked(ALL, 0, 2)]


def test_fewer_links_than_all_of_its_like() -> None:
    mine = linked(TWELVE, ALL & ~TWELVE)
    assert list(ask(nvlink.JUDGES, mine, others=LIKE)) == ["nvlink-fewer"]


@pytest.mark.parametrize(
    "others",
    [
        [],
        LIKE[:1],
        [LIKE[0], linked(TWELVE, 0, 2)],
        [LIKE[0], linked(ALL, 0, 2, name="H100 PCIe")],
        [LIKE[0], linked(ALL, 0, 2, sight=Sight.BLIND)],
        [LIKE[0], linked(None, None, 2)],
    ],
    ids=["alone", "one", "they differ", "another model", "not seen", "not told"],
)
def test_its_like_must_be_several_and_of_one_mind(others: list[Device]) -> None:
    assert ask(nvlink.JUDGES, linked(TWELVE, ALL & ~TWELVE), others=others) == {}


def cut(at: float) -> Device:
    return linked(ALL & ~1, 1, at=at)


def whole(at: float) -> Device:
    return linked(ALL, 0, at=at)


def test_down_enters_and_leaves_slowly_and_only_what_was_up_counts() -> None:
    ward = Ward()
    assert not ward.see(NOW - 15, whole(NOW - 15))
    ward, at = enters("errors", cut, "nvlink-down GPU-0", 30.0, ward=ward)
    leaves("errors", whole, "nvlink-down GPU-0", 300.0, ward, at)
    fresh = Ward()
    for n in range(20):
        assert not fresh.see(NOW + 15.0 * n, cut(NOW + 15.0 * n)), "it never was up here"
