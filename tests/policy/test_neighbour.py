"""Rule neighbour: who alone grew before a protected service turned red, and all who are not accused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.growth import Growth
from gpuwarden.model.memory import Rung
from gpuwarden.model.snapshot import Health
from tests.policy.builders import (
    HIGH,
    LOW,
    MIB,
    NOW,
    PROTECTED,
    Story,
    config,
    device_id,
    gpu,
    kinds,
    rung_of,
    service,
    tenant,
    use,
    xid,
)

SERVE = tenant("serve", cls=PROTECTED, quota_mib=None)
HOG = tenant("hog", cls=LOW, quota_mib=30_000)
OTHER = tenant("other", cls=LOW, quota_mib=30_000)
RED_AT = NOW - 0.1
WINDOW_S = 10.0
"""``quota.growth_window_s``."""


def acting() -> Story:
    """Where the operator lets the rule act."""
    return Story(config(rules={"neighbour": {"mode": "enforce"}}))


def grown(who: Any = HOG, by_mib: int = 4_000, *, on: int = 0, **more: Any) -> Growth:
    """Who rose by himself on a device that had long been watched, half a second before the service was late."""
    said: dict[str, Any] = {
        "watched_since": 1.0,
        "stirred_at": NOW - 0.3,
        "own_bytes": by_mib * MIB,
        "rose_at": NOW - 1.0,
    }
    name = None if who is None else who.id
    return Growth(**{"device": device_id(on), "tenant": name, **said, **more})


def look(story: Story, *growths: Growth, red_at: float = RED_AT, **more: Any) -> Any:
    state = replace(service("risk", who=SERVE), since=red_at, late_since=red_at - 0.4)
    return story.see(
        NOW,
        gpus=[gpu(used_mib=40_000)],
        tenants=more.pop("tenants", [SERVE, HOG, OTHER]),
        uses=more.pop("uses", [use(SERVE, 1_000), use(HOG, 20_000), use(OTHER, 15_000)]),
        services=more.pop("services", (state,)),
        growths=growths,
        **more,
    )


def test_who_alone_grew_is_held_at_once() -> None:
    story = acting()
    decision = look(story, grown())
    assert kinds(decision, HOG)[-1] is Kind.FREEZE
    assert rung_of(story.mem) is Rung.HELD
    (case,) = story.mem.cases.values()
    assert (case.tenant, case.reason, case.is_emergency) == (HOG.id, "neighbour", True)
    (claim,) = [f for f in decision.findings if f.rule == "neighbour"]
    assert "hog alone grew on GPU 0 (by 3.9 GiB) before service risk turned red" in claim.summary
    assert dict(claim.evidence)["suspect 1 of risk"].startswith("hog on GPU 0: ")


@pytest.mark.parametrize(
    "growths",
    [
        pytest.param((), id="nobody grew"),
        pytest.param((grown(), grown(OTHER, 100, rose_at=None)), id="another grew, or started"),
        pytest.param((grown(), grown(None, 0, rose_at=None)), id="bytes that are nobody's"),
        pytest.param((grown(), grown(SERVE, 500)), id="itself grew"),
        pytest.param((grown(rose_at=None, own_bytes=0),), id="it only started"),
        pytest.param((grown(on=1),), id="elsewhere"),
        pytest.param((grown(rose_at=NOW - 0.4),), id="it grew once the service was late"),
        pytest.param((grown(watched_since=NOW - WINDOW_S),), id="not watched for a whole window"),
        pytest.param((grown(), grown(tenant("gone"), 0, rose_at=None)), id="another, who has left"),
    ],
)
def test_otherwise_nobody_is_accused(growths: Sequence[Growth]) -> None:
    assert kinds(look(acting(), *growths)) == []


def test_who_grew_long_before_is_no_rival() -> None:
    edge = RED_AT - WINDOW_S
    quiet = grown(OTHER, 0, rose_at=None, stirred_at=edge - 0.001)
    assert kinds(look(acting(), grown(), quiet), HOG) != []
    assert kinds(look(acting(), grown(), replace(quiet, stirred_at=edge))) == []


def test_the_edge_of_what_is_proven() -> None:
    """A list that shows the growth before the first late reading; a whole window watched."""
    late_since = RED_AT - 0.4
    assert kinds(look(acting(), grown(rose_at=late_since - 0.001)), HOG) != []
    assert kinds(look(acting(), grown(rose_at=late_since))) == []
    assert kinds(look(acting(), grown(watched_since=RED_AT - WINDOW_S)), HOG) != []


def test_a_service_that_was_never_seen_well_accuses_nobody() -> None:
    state = replace(service("risk", who=SERVE), since=RED_AT, late_since=None)
    assert kinds(look(acting(), grown(), services=(state,))) == []


@pytest.mark.parametrize("health", [Health.GREEN, Health.UNKNOWN])
def test_without_a_red_service_nobody_is_accused(health: Health) -> None:
    state = replace(service("risk", who=SERVE, health=health), since=RED_AT, late_since=RED_AT)
    assert kinds(look(acting(), grown(), services=(state,))) == []


def test_what_has_been_red_for_a_window_accuses_nobody() -> None:
    early = grown(rose_at=1.0, watched_since=0.0)
    assert kinds(look(acting(), early, red_at=NOW - 10.5)) == []
    assert kinds(look(acting(), early, red_at=NOW - 9.5), HOG) != []


def test_a_device_that_is_ill_explains_more() -> None:
    decision = look(acting(), grown(), events=(xid(79),))
    assert not [f for f in decision.findings if f.rule == "neighbour"]


def test_who_is_over_his_quota_is_accused_and_not_the_one_that_grew() -> None:
    small = tenant("other", cls=LOW, quota_mib=5_000)
    story = acting()
    look(
        story,
        grown(),
        tenants=[SERVE, HOG, small],
        uses=[use(SERVE, 1_000), use(HOG, 20_000), use(small, 15_000)],
    )
    assert {case.tenant for case in story.mem.cases.values()} == {small.id}


@pytest.mark.parametrize("cls", [HIGH, PROTECTED])
def test_higher_classes_are_not_accused(cls: Any) -> None:
    who = tenant("hog", cls=cls, quota_mib=30_000)
    decision = look(acting(), grown(who), tenants=[SERVE, who, OTHER])
    assert kinds(decision) == []


def test_until_the_operator_says_so_it_is_said_and_withheld() -> None:
    decision = look(Story(), grown())
    assert kinds(decision) == [Kind.WARN]
    assert {w.budget for w in decision.withheld} == {"observe"}
