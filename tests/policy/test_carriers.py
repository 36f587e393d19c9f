"""Which tenant a service's latency is held to be of."""

from __future__ import annotations

import itertools

from gpuwarden.policy.carriers import carriers
from tests.policy.builders import HIGH, LOW, NORMAL, PROTECTED, config, tenant

CFG = config(default={"class_max": "normal"})
REAL = tenant("real", cls=PROTECTED, service="risk", first_seen=5.0)


def test_who_only_claims_the_name_takes_nothing_away() -> None:
    """In whatever order they are seen, and however long the thief has been there."""
    thief = tenant("thief", cls=LOW, service="risk", first_seen=1.0)
    for order in itertools.permutations((REAL, thief)):
        assert carriers(CFG, order) == {REAL.id: "risk"}


def test_who_only_claims_the_name_carries_nothing() -> None:
    for cls in (LOW, NORMAL):
        assert carriers(CFG, [tenant("thief", cls=cls, service="risk")]) == {}


def test_whom_the_operator_raised_carries_his_own() -> None:
    high = tenant("web", cls=HIGH, service="web")
    assert carriers(CFG, [REAL, high]) == {REAL.id: "risk", high.id: "web"}


def test_of_two_of_one_class_the_first_seen_carries_it() -> None:
    later = tenant("later", cls=PROTECTED, service="risk", first_seen=9.0)
    for order in itertools.permutations((REAL, later)):
        assert carriers(CFG, order) == {REAL.id: "risk"}


def test_who_has_no_service_is_left_out() -> None:
    assert carriers(CFG, [tenant(cls=PROTECTED)]) == {}
