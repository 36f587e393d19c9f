"""Certificates that run out, before and after."""

from __future__ import annotations

from gpuwarden.model.finding import Severity
from gpuwarden.policy.fleet.certificates import AUTHORITY_S, claims

WALL, DAY = 1.7e9, 86_400.0
FAR = WALL + 400 * DAY


def test_none_while_they_are_renewed_in_time() -> None:
    assert claims({"n1": WALL + DAY / 4, "n2": WALL + DAY}, DAY, FAR, WALL) == ()


def test_one_that_was_not_renewed_is_a_warning_and_one_that_ran_out_an_error() -> None:
    (late,) = claims({"n1": WALL + DAY / 4 - 1, "n2": FAR}, DAY, FAR, WALL)
    assert (late.key, late.severity, late.count) == ("certificates", Severity.WARNING, 1)
    (over,) = claims({f"n{n}": WALL - n for n in range(7)}, DAY, FAR, WALL)
    assert (over.severity, over.count) == (Severity.ERROR, 7)
    assert over.summary.startswith("7 nodes have not renewed their certificate (7 run out): n0, n1")


def test_the_authority_itself() -> None:
    assert claims({}, DAY, WALL + AUTHORITY_S, WALL) == ()
    (ends,) = claims({}, DAY, WALL + AUTHORITY_S - 1, WALL)
    assert (ends.key, ends.severity) == ("authority ends", Severity.ERROR)
    assert "runs out in 30.0 days" in ends.summary
