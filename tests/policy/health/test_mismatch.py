"""Rule mismatch: module, library in use, library on disk."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.finding import Scope, Severity
from gpuwarden.model.health import DriverVersions, Surroundings
from gpuwarden.policy.health import mismatch
from gpuwarden.policy.health.rule import Claim
from tests.policy.builders import NOW
from tests.policy.health.ward import TICK_S, Ward, ask_host

SAME = "580.95.05"
USED = DriverVersions(driver=SAME, library=f"13.{SAME}")


def found(driver: DriverVersions | None = USED, **around: Any) -> list[Claim]:
    return ask_host(mismatch.JUDGES, Surroundings(at=NOW, **around), driver=driver)


@pytest.mark.parametrize(
    ("driver", "around"),
    [
        (USED, {"module_version": SAME, "library_version": SAME}),
        (USED, {}),
        (None, {"module_version": SAME}),
        (DriverVersions(), {"module_version": SAME}),
        # a version that is no version of a driver compares with nothing
        (DriverVersions(library="sim"), {"module_version": SAME}),
        (DriverVersions(library="580.95"), {"module_version": SAME}),
        (USED, {"library_version": "570.1.2"}),  # no module is loaded
    ],
)
def test_alike_or_not_known(driver: DriverVersions | None, around: dict[str, str]) -> None:
    assert found(driver, **around) == []


@pytest.mark.parametrize(
    ("driver", "around", "words"),
    [
        (USED, {"module_version": "570.1.2"}, f"module is 570.1.2, the library {SAME}"),
        (USED, {"module_version": SAME, "library_version": "590.1.1"}, "the library 590.1.1"),
        (DriverVersions(is_refused=True), {}, "the library says so"),
    ],
)
def test_they_differ(driver: DriverVersions, around: dict[str, str], words: str) -> None:
    (claim,) = found(driver, **around)
    assert words in claim.summary
    assert (claim.severity, claim.scope) == (Severity.ERROR, Scope.NODE)


def test_the_library_that_refuses_needs_no_surroundings() -> None:
    assert ask_host(mismatch.JUDGES, None, driver=DriverVersions(is_refused=True))


def test_it_enters_and_leaves_slowly() -> None:
    ward = Ward()

    def see(after_s: float, module: str) -> bool:
        at = NOW + after_s
        around = Surroundings(at=NOW + after_s // 15 * 15, module_version=module)
        return bool(ward.see(at, around=around, driver=USED))

    ill = [see(s, "570.1.2") for s in (0, 15, 30, 45, 60 - TICK_S, 60)]
    assert ill == [False] * 5 + [True]
    well = [see(s, SAME) for s in (75, 90, 105, 120, 135 - TICK_S, 135)]
    assert well == [True] * 5 + [False]
