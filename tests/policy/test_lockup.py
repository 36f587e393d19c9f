"""What locks a device, what proves that it works again, and what is done while it does not."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.decision import NoteKind
from gpuwarden.model.device import DriverEvent
from gpuwarden.model.memory import DeviceMemory
from gpuwarden.model.snapshot import Health
from tests.policy.builders import (
    NOW,
    PROTECTED,
    Story,
    config,
    device_id,
    gpu,
    service,
    standing,
    tenant,
    use,
    xid,
)

SERVE = tenant("serve", cls=PROTECTED, quota_mib=None)
HOG = tenant("hog", quota_mib=4_096)
SERVICES: Any = [{"name": "risk", "url": "http://127.0.0.1:1/metrics", "p99_max_s": 0.3}]
CFG = config(service=SERVICES)
GREEN: dict[str, Any] = {"health": Health.GREEN, "p99_s": 0.1, "limit_s": 0.3}
SLOW: dict[str, Any] = {"health": Health.RED, "p99_s": 2.0, "limit_s": 0.3}
IN_TIME_AGAIN: dict[str, Any] = {"health": Health.RED, "p99_s": 0.1, "limit_s": 0.3}
STALLED: dict[str, Any] = {"health": Health.RED, "p99_s": None, "limit_s": 0.3}
STALLED_A_MOMENT_AGO: dict[str, Any] = {"health": Health.GREEN, "p99_s": None, "limit_s": 0.3}


class Night(Story):
    """The service alone on a device that an Xid has locked."""

    def at(self, second: float, state: dict[str, Any], **rest: Any) -> None:
        self.see(
            NOW + second,
            tenants=[SERVE],
            uses=[use(SERVE, 1_000)],
            services=(service(**state),),
            **rest,
        )

    @property
    def device(self) -> DeviceMemory:
        return self.mem.devices[device_id(0)]

    def did(self, kind: Kind) -> list[float]:
        return [at - NOW for at, what, _ in self.ordered if what is kind]


def recovery(action: int, at: float) -> DriverEvent:
    return DriverEvent(kind="recovery-action", at=at, device=device_id(0), code=action)


@pytest.mark.parametrize("state", [STALLED, STALLED_A_MOMENT_AGO, SLOW, IN_TIME_AGAIN])
def test_a_service_that_is_not_seen_to_work_keeps_it_locked(state: dict[str, Any]) -> None:
    night = Night(CFG)
    night.at(0, GREEN, events=(xid(119),))
    night.at(2.9, state)
    assert night.device.locked_since == NOW


def test_green_counts_only_once_a_stall_would_have_shown() -> None:
    """The page is read every quarter of a second, and a stall shows after a second."""
    night = Night(CFG)
    night.at(0, GREEN, events=(xid(119),))
    night.at(1.5, GREEN)
    assert night.device.locked_since == NOW
    night.at(1.51, GREEN)
    assert night.device.locked_since is None


def test_the_drivers_event_counts_until_the_driver_was_asked_again() -> None:
    night = Night(CFG)
    night.at(0, GREEN, events=(recovery(1, NOW),))
    night.at(5.9, GREEN, gpus=[gpu(recovery_action=0)])
    assert night.device.locked_since is not None
    night.at(6.1, GREEN, gpus=[gpu(recovery_action=0)])
    assert night.device.locked_since is None


def test_the_driver_takes_its_word_back() -> None:
    night = Night(CFG)
    night.at(0, GREEN, events=(recovery(1, NOW),))
    night.at(2, GREEN, events=(recovery(0, NOW + 2),))
    assert night.device.locked_since is None


@pytest.mark.parametrize(
    ("state", "due"),
    [
        (STALLED, 10.0),
        (STALLED_A_MOMENT_AGO, 10.0),
        ({"health": Health.UNKNOWN}, 10.0),
        (SLOW, 10.0),
        (IN_TIME_AGAIN, None),
    ],
)
def test_last_resort_is_for_a_device_that_does_not_work(
    state: dict[str, Any], due: float | None
) -> None:
    night = Night(CFG)
    night.at(0, GREEN, events=(xid(119),))
    for tenth in range(1, 130):
        night.at(tenth / 10, state)
    assert night.did(Kind.CORDON) == ([pytest.approx(due)] if due else [])


def test_the_driver_asking_is_enough_whatever_services_say() -> None:
    night = Night(CFG)
    night.at(0, GREEN, events=(xid(119),))
    for tenth in range(1, 40):
        night.at(tenth / 10, GREEN, gpus=[gpu(recovery_action=1)])
    assert night.did(Kind.CORDON) == [pytest.approx(3.0)]


def test_a_device_nothing_speaks_for_is_left_alone() -> None:
    story = Story(config(rules={"repair": {"mode": "off"}}))
    for tenth in range(60):
        story.see(NOW + tenth / 10, events=(xid(109, at=NOW),) if tenth == 0 else ())
    assert not story.ordered


def test_one_incident_from_the_first_byte_to_the_cordon() -> None:
    """The lock-up is seen first, then who is behind it; it lasts when that one is gone."""
    story = Story(CFG)
    stalled = (service(**STALLED),)
    both: dict[str, Any] = {"tenants": [SERVE, HOG]}
    calm: dict[str, Any] = {"uses": [use(SERVE, 1_000), use(HOG, 4_000)]}
    held: dict[str, Any] = {"uses": [use(SERVE, 1_000), use(HOG, 6_000)]}
    story.see(NOW, **both, **calm, services=(service(**GREEN),), events=(xid(119),))
    story.see(NOW + 0.1, **both, **held, services=stalled)
    story.see(NOW + 0.2, **both, **held, services=stalled)
    mine = story.mem.cases[HOG.id].incident
    assert set(story.mem.open_incidents.values()) == {mine}
    joined = [n for look in story.looks for n in look.incidents if n.kind is NoteKind.JOINED]
    assert [n.text for n in joined] == [f"goes on in {mine}"]
    alone: dict[str, Any] = {"tenants": [SERVE], "uses": [use(SERVE, 1_000)]}
    gone: dict[str, Any] = {"standings": (standing(HOG, is_populated=False),)}
    for tenth in range(3, 110):
        story.see(NOW + tenth / 10, **alone, **gone, services=stalled)
    assert HOG.id not in story.mem.cases
    assert set(story.mem.open_incidents.values()) == {mine}
    cordons = [a for look in story.looks for a in look.actions if a.kind is Kind.CORDON]
    assert [a.incident for a in cordons] == [mine]
