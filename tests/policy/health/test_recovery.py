"""Rule recovery: the driver's number, in words."""

from __future__ import annotations

import pytest

from gpuwarden.model.device import Device
from gpuwarden.model.finding import Scope
from gpuwarden.policy.health import recovery
from tests.policy.builders import NOW, Story, config
from tests.policy.health.ward import ask, enters, leaves, sampled


@pytest.mark.parametrize(
    ("action", "fault", "scope"),
    [
        (1, "recovery-reset", Scope.GPU),
        (2, "recovery-reboot", Scope.NODE),
        (3, "recovery-drain-p2p", Scope.LINK),
        (4, "recovery-drain-reset", Scope.GPU),
        (5, "recovery-imex", Scope.NODE),
        (6, "recovery-reset", Scope.GPU),
        (7, "recovery-reboot", Scope.NODE),
        (8, "recovery-other", Scope.GPU),
    ],
)
def test_each_number(action: int, fault: str, scope: Scope) -> None:
    claims = ask(recovery.JUDGES, sampled(vitals={"recovery_action": action}))
    assert {f: c.scope for f, c in claims.items()} == {fault: scope}


@pytest.mark.parametrize("action", [None, 0])
def test_nothing_asked_for_or_nothing_told(action: int | None) -> None:
    assert ask(recovery.JUDGES, sampled(vitals={"recovery_action": action})) == {}


def ill(at: float) -> Device:
    return sampled(at=at, vitals={"recovery_action": 4}, recovery_action=4)


def well(at: float) -> Device:
    return sampled(at=at, vitals={"recovery_action": 0}, recovery_action=0)


def test_it_enters_at_once_and_leaves_slowly() -> None:
    ward, at = enters("vitals", ill, "recovery-drain-reset GPU-0", 0.0)
    leaves("vitals", well, "recovery-drain-reset GPU-0", 30.0, ward, at)


def test_an_action_that_steps_down_is_another_fault() -> None:
    ward, at = enters("vitals", ill, "recovery-drain-reset GPU-0", 0.0)
    stepped = sampled(at=at + 5, vitals={"recovery_action": 1})
    assert list(ward.see(at + 5, stepped)) == [
        "recovery-drain-reset GPU-0",
        "recovery-reset GPU-0",
    ]


@pytest.mark.parametrize(("mode", "pages"), [("observe", 1), ("off", 1)])
def test_one_page_and_by_whom(mode: str, pages: int) -> None:
    """``locked`` pages for it; where that rule is off, this one does."""
    story = Story(config(rules={"locked": {"mode": mode}}))
    for n in range(30):
        story.see(NOW + n, gpus=[ill(NOW + n // 5 * 5)])
    assert [kind.value for _, kind, _ in story.ordered] == ["page"] * pages
