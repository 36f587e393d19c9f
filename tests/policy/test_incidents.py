"""Claims join the incident they belong to, and an incident ends when nothing of it stands."""

from __future__ import annotations

from typing import Any

from gpuwarden.model.decision import NoteKind
from gpuwarden.model.device import Sight
from gpuwarden.model.snapshot import Health
from tests.policy.builders import (
    NOW,
    PROTECTED,
    Story,
    config,
    gpu,
    service,
    tenant,
    use,
    xid,
)

HOG = tenant("hog", quota_mib=10_000)
SERVE = tenant("serve", cls=PROTECTED, quota_mib=None)
BOTH: dict[str, Any] = {"tenants": [HOG, SERVE], "uses": [use(HOG, 20_000), use(SERVE, 100)]}


def notes(story: Story, at: int = -1) -> list[NoteKind]:
    return [n.kind for n in story.looks[at].incidents]


def test_opened_then_confirmed_under_one_id() -> None:
    story = Story(config("observe"))
    story.see(NOW, tenants=[HOG], uses=[use(HOG, 20_000)])
    assert NoteKind.OPENED in notes(story)
    story.see(NOW + 0.1, tenants=[HOG], uses=[use(HOG, 20_000)])
    assert NoteKind.DECIDED in notes(story)
    assert len({n.incident for d in story.looks for n in d.incidents}) == 1


def test_what_stands_is_not_said_again() -> None:
    story = Story(config("observe"))
    for tenth in range(50):
        story.see(NOW + tenth / 10, tenants=[HOG], uses=[use(HOG, 20_000)])
    assert all(d.incidents == () for d in story.looks[2:])


def test_the_harm_joins_the_offenders_incident() -> None:
    story = Story(config("observe"))
    story.see(NOW, **BOTH)
    story.see(NOW + 0.1, **BOTH, services=(service(who=SERVE),), events=(xid(109),))
    (incident,) = {n.incident for d in story.looks for n in d.incidents}
    texts = [n.text for d in story.looks for n in d.incidents]
    assert any("is red" in t for t in texts)
    assert any("locked up" in t for t in texts)
    assert list(story.mem.open_incidents.values()) == [incident]


def test_what_joins_is_said_once_and_decides_nothing_of_the_offender() -> None:
    """A lock-up is sure when it is first seen: one line in the offender's story, not two."""
    story = Story(config("observe"))
    story.see(NOW, **BOTH)
    story.see(NOW + 0.1, **BOTH, events=(xid(109),))
    said = [n for d in story.looks for n in d.incidents if "locked up" in n.text]
    assert [n.kind for n in said] == [NoteKind.EVIDENCE]
    decided = [n.rule for d in story.looks for n in d.incidents if n.kind is NoteKind.DECIDED]
    assert decided == ["quota"]


def test_a_red_service_with_nobody_accused_has_its_own() -> None:
    story = Story(config("observe"))
    story.see(NOW, tenants=[SERVE], uses=[use(SERVE, 5)], services=(service(who=SERVE),))
    assert list(story.mem.open_incidents) == ["service/risk"]
    green = service(who=SERVE, health=Health.GREEN)
    story.see(NOW + 1, tenants=[SERVE], uses=[use(SERVE, 5)], services=(green,))
    assert notes(story) == [NoteKind.CLOSED]


def test_each_blind_device_has_its_own() -> None:
    story = Story(config("observe"))
    story.see(NOW, gpus=[gpu(0, sight=Sight.BLIND), gpu(1, sight=Sight.LOST), gpu(2)])
    assert set(story.mem.open_incidents) == {"device/GPU-0", "device/GPU-1"}
    story.see(NOW + 1, gpus=[gpu(0), gpu(1, sight=Sight.LOST), gpu(2)])
    assert set(story.mem.open_incidents) == {"device/GPU-1"}


def test_a_new_stay_is_a_new_incident() -> None:
    story = Story(config("observe"))
    ids = []
    for at in (NOW, NOW + 1, NOW + 2):
        sight = Sight.OK if at == NOW + 1 else Sight.BLIND
        story.see(at, gpus=[gpu(sight=sight)])
        ids += [n.incident for n in story.looks[-1].incidents if n.kind is NoteKind.OPENED]
    assert len(set(ids)) == 2


def test_an_old_lockup_is_not_blamed_on_who_overruns_later() -> None:
    """The device had been locked up for a minute when somebody else on it went over his quota."""
    story = Story(config("observe"))
    quiet: dict[str, Any] = {"tenants": [SERVE, HOG], "uses": [use(SERVE, 100), use(HOG, 100)]}
    story.see(NOW, **quiet, events=(xid(109),), gpus=[gpu(recovery_action=1)])
    first = story.mem.open_incidents["device/GPU-0"]
    later = NOW + 60
    story.see(later, **BOTH, gpus=[gpu(recovery_action=1)])
    story.see(later + 0.1, **BOTH, gpus=[gpu(recovery_action=1)])
    assert story.mem.open_incidents["device/GPU-0"] == first
    own = story.mem.open_incidents[f"tenant/{HOG.id}"]
    texts = [n.text for d in story.looks for n in d.incidents if n.incident == own]
    assert texts
    assert not any("locked up" in t for t in texts)


def test_a_service_that_suffers_on_an_ill_device_is_told_there() -> None:
    story = Story(config("observe"))
    alone: dict[str, Any] = {"tenants": [SERVE], "uses": [use(SERVE, 5)]}
    ill = {**alone, "gpus": [gpu(recovery_action=1)]}
    story.see(NOW, **ill, events=(xid(109),))
    story.see(NOW + 1, **ill, services=(service(who=SERVE),))
    assert list(story.mem.open_incidents) == ["device/GPU-0"]
    assert any("is red" in n.text for n in story.looks[-1].incidents)
