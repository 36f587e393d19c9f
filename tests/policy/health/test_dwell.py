"""One sign's life: in slowly, out slowly, never on a sample that says nothing any more."""

from __future__ import annotations

import pytest

from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.health_memory import Sign
from gpuwarden.policy.health import dwell

FOUND = Finding(rule="ecc", key="k", severity=Severity.ERROR, summary="s")


def shown(old: Sign | None, at: float, *, grace_s: float = 30.0, speaks_s: float = 12.5) -> Sign:
    return dwell.shown(old, FOUND, at=at, grace_s=grace_s, probation_s=60.0, speaks_s=speaks_s)


def stood(at: float) -> Sign:
    sign = dwell.aged(shown(None, at, grace_s=0.0), at)
    assert sign is not None
    return sign


@pytest.mark.parametrize(("now", "stands"), [(29.9, False), (30.0, True)])
def test_it_stands_at_the_second_its_grace_is_over(now: float, stands: bool) -> None:
    sign = shown(shown(shown(shown(None, 0.0), 10.0), 20.0), 25.0)
    aged = dwell.aged(sign, now)
    assert aged is not None
    assert (aged.stands_since is not None) is stands


def test_a_sample_that_does_not_show_it_before_it_stands_begins_it_anew() -> None:
    assert dwell.not_shown(shown(None, 0.0), 5.0) is None
    assert shown(None, 10.0).since == 10.0


def test_a_silence_longer_than_a_sample_speaks_begins_it_anew() -> None:
    sign = shown(None, 0.0)
    assert dwell.aged(sign, 12.5) is sign
    assert dwell.aged(sign, 12.6) is None
    assert shown(sign, 12.6).since == 12.6


def test_a_sample_that_is_overdue_does_not_say_that_it_has_lasted() -> None:
    sign = shown(shown(shown(None, 0.0), 10.0), 22.4)
    assert dwell.aged(sign, 30.0) is sign
    late = dwell.aged(shown(sign, 31.0), 31.0)
    assert late is not None
    assert late.stands_since == 31.0


def test_grace_zero_stands_at_once() -> None:
    assert stood(5.0).stands_since == 5.0


@pytest.mark.parametrize(("now", "is_over"), [(159.9, False), (160.0, True)])
def test_it_is_over_at_the_second_its_probation_is(now: float, is_over: bool) -> None:
    sign: Sign | None = stood(5.0)
    for at in range(100, 161, 10):
        if at <= now:
            assert sign is not None
            sign = dwell.not_shown(sign, float(at))
    assert sign is not None
    assert (dwell.aged(sign, now) is None) is is_over


def test_it_is_not_over_while_nobody_looks() -> None:
    sign = dwell.not_shown(stood(5.0), 100.0)
    assert sign is not None
    assert dwell.aged(sign, 1000.0) is sign


def test_shown_again_in_its_probation_it_has_never_been_away() -> None:
    sign = dwell.not_shown(stood(5.0), 50.0)
    again = shown(sign, 80.0)
    assert (again.since, again.stands_since, again.clear_since) == (5.0, 5.0, None)
