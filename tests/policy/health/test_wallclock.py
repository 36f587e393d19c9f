"""Rule wallclock: kept by nothing for long, or set at once."""

from __future__ import annotations

import pytest

from gpuwarden.model.finding import Severity
from gpuwarden.model.health import Surroundings
from gpuwarden.policy.health import wallclock
from tests.policy.builders import NOW, WALL
from tests.policy.health.ward import TICK_S, Ward, ask_host


@pytest.mark.parametrize(("synchronised", "told"), [(None, False), (True, False), (False, True)])
def test_unsynchronised(synchronised: bool | None, told: bool) -> None:
    around = Surroundings(at=NOW, is_clock_synchronised=synchronised, clock_error_s=16.0)
    claims = ask_host(wallclock.JUDGES, around)
    assert bool(claims) is told
    assert all(claim.severity is Severity.WARNING for claim in claims)
    assert ask_host(wallclock.JUDGES, None) == []


def test_it_enters_and_leaves_slowly() -> None:
    ward = Ward()

    def see(after_s: float, synchronised: bool) -> bool:
        around = Surroundings(at=NOW + after_s // 15 * 15, is_clock_synchronised=synchronised)
        return bool(ward.see(NOW + after_s, around=around))

    seconds = [*range(0, 900, 15), 900 - TICK_S, 900]
    assert [see(s, False) for s in seconds] == [False] * (len(seconds) - 1) + [True]
    later = [*range(915, 1215, 15), 1215 - TICK_S, 1215]
    assert [see(s, True) for s in later] == [True] * (len(later) - 1) + [False]


@pytest.mark.parametrize(
    ("step_s", "told"), [(0.0, False), (2.0, False), (-2.0, False), (2.1, True), (-3600.0, True)]
)
def test_a_clock_that_is_set(step_s: float, told: bool) -> None:
    ward = Ward()
    ward.see(NOW, wall=WALL)
    found = ward.see(NOW + 1, wall=WALL + 1 + step_s)
    assert list(found) == (["clock-set"] if told else [])


def test_it_is_told_once_and_over_after_its_probation() -> None:
    ward = Ward()
    ward.see(NOW, wall=WALL)
    stands = [bool(ward.see(NOW + s, wall=WALL + 60 + s)) for s in [*range(1, 312, 5), 400]]
    first_clear = 6  # the host is judged every five seconds
    assert stands == [s < first_clear + 300 for s in [*range(1, 312, 5), 400]]


def test_another_boot_and_a_first_tick_set_no_clock() -> None:
    ward = Ward()
    assert not ward.see(NOW, wall=WALL)
    assert not ward.see(5.0, wall=WALL + 9_000, boot="boot-2")
