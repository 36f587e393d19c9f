"""Rule retired: too many pages, or too many double-bit ones in a week of wall time."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.device import Device
from gpuwarden.model.health_memory import DeviceHistory
from gpuwarden.policy.health import retired
from gpuwarden.policy.health.rule import Claim
from tests.policy.builders import NOW, WALL
from tests.policy.health.ward import Ward, ask, enters, leaves, sampled

DAY_S = 86_400.0


def found(
    single: int | None, double: int | None, *pages: tuple[float, int], **setup: Any
) -> dict[str, Claim]:
    told = {
        "retired_pages_single_bit": single,
        "retired_pages_double_bit": double,
        **setup,
    }
    return ask(retired.JUDGES, sampled(setup=told), history=DeviceHistory(pages=pages))


@pytest.mark.parametrize(
    ("single", "double", "is_fault"),
    [(None, None, False), (62, 0, False), (60, 2, False), (61, 2, True), (63, 0, True)],
)
def test_sixty_three_pages_are_the_limit(
    single: int | None, double: int | None, is_fault: bool
) -> None:
    assert bool(found(single, double)) is is_fault


@pytest.mark.parametrize(
    ("pages", "is_fault"),
    [
        (((WALL - 6 * DAY_S, 0), (WALL - DAY_S, 1)), False),
        (((WALL - 6 * DAY_S, 0), (WALL - DAY_S, 2)), True),
        (((WALL - 9 * DAY_S, 0), (WALL - 8 * DAY_S, 2)), False),
        (((WALL - 8 * DAY_S, 2), (WALL - DAY_S, 3)), False),
        (((WALL - DAY_S, 7),), False),  # as many as the board came with
    ],
)
def test_more_than_fifteen_count_with_two_double_bit_ones_in_a_week(
    pages: tuple[tuple[float, int], ...], is_fault: bool
) -> None:
    assert bool(found(14, 2, *pages)) is is_fault
    assert not found(13, 2, *pages), "fifteen are few"


def test_a_page_that_waits_for_a_reset() -> None:
    assert list(found(1, 0, retired_pages_pending=True)) == ["page-retirement-pending"]


def test_the_history_keeps_rises_and_forgets_another_boards() -> None:
    pages: tuple[tuple[float, int], ...] = ()
    for wall, total in ((1.0, 0), (2.0, 0), (3.0, 2), (4.0, None), (5.0, 2), (6.0, 3)):
        pages = retired.noted(pages, total, wall)
    assert pages == ((1.0, 0), (3.0, 2), (6.0, 3))
    assert retired.noted(pages, 1, 7.0) == ((7.0, 1),)
    for n in range(100):
        pages = retired.noted(pages, 10 + n, 10.0 + n)
    assert len(pages) == retired.PAGES_KEPT


def worn(at: float) -> Device:
    return sampled(
        at=at,
        setup={"retired_pages_single_bit": 63, "retired_pages_double_bit": 0},
    )


def fresh(at: float) -> Device:
    return sampled(
        at=at,
        setup={"retired_pages_single_bit": 0, "retired_pages_double_bit": 0},
    )


def test_it_enters_at_once_and_leaves_slowly() -> None:
    ward, at = enters("setup", worn, "retired-pages GPU-0", 0.0)
    leaves("setup", fresh, "retired-pages GPU-0", 300.0, ward, at)


def counted(double: int, at: float) -> Device:
    return sampled(
        at=at,
        setup={"retired_pages_single_bit": 14, "retired_pages_double_bit": double},
    )


def test_the_week_goes_on_over_a_reboot_and_over_a_clock_that_is_set() -> None:
    ward = Ward()
    assert not ward.see(NOW, counted(0, NOW))
    assert not ward.see(NOW + 60, counted(1, NOW + 60))
    later = 50.0  # another boot, four days on, the wall clock an hour wrong and set right
    wall = WALL + NOW + 4 * DAY_S
    assert not ward.see(later, counted(1, later), boot="boot-2", wall=wall - 3600)
    assert ward.see(later + 60, counted(2, later + 60), boot="boot-2", wall=wall)
