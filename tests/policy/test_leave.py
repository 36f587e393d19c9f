"""What a node asks the fleet for, what it may do with the answer, and what alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.config_fleet import FleetConfig
from gpuwarden.model.action import Kind, Withheld
from gpuwarden.model.decision import Incident
from gpuwarden.model.fleet import Ask, Permit
from gpuwarden.model.ids import DeviceId, IncidentId
from gpuwarden.policy import leave
from tests.policy.builders import NOW, snap

GPU = DeviceId("GPU-0")
INCIDENT = Incident(
    id=IncidentId("inc-1"), rule="fault", summary="", opened_at=NOW - 9, opened_wall=0.0
)
CFG = FleetConfig(aggregator=("127.0.0.1:1",), local_actions=2)


def held(
    kind: Kind = Kind.CORDON, device: DeviceId | None = GPU, budget: str = "permit"
) -> Withheld:
    return Withheld(
        kind=kind, incident=INCIDENT.id, tenant=None, device=device, budget=budget, detail=""
    )


def ask(name: str, kind: str = "cordon", age_s: float = 1.0) -> Ask:
    return Ask(id=name, kind=kind, subject="GPU-0", age_s=age_s)


def permit(**more: object) -> Permit:
    values: dict[str, object] = {
        "id": "p",
        "node": "n",
        "boot_id": "b",
        "ask": "a",
        "kind": "cordon",
        "subject": "GPU-0",
        "group": "",
        "granted_wall": 0.0,
        "expires_at": NOW + 60,
        **more,
    }
    return Permit(**values)  # type: ignore[arg-type]


def test_only_what_a_permit_would_free_is_asked_for() -> None:
    found = leave.asks(
        [held(), held(budget="observe"), held(), held(Kind.REBOOT, None)], [INCIDENT], NOW
    )
    assert [(a.kind, a.subject, a.age_s) for a in found] == [
        ("cordon", "GPU-0", 9.0),
        ("reboot", "node", 9.0),
    ]
    assert len({a.id for a in found}) == 2


def test_a_wish_keeps_its_name() -> None:
    first = leave.asks([held()], [INCIDENT], NOW)
    assert leave.asks([held()], [INCIDENT], NOW + 50)[0].id == first[0].id


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (permit(), (("cordon", "GPU-0"),)),
        (permit(expires_at=NOW), ()),
        (permit(boot_id="other"), ()),
    ],
)
def test_a_permit_is_for_its_time_and_boot(given: Permit, expected: tuple[object, ...]) -> None:
    assert leave.held([given], "b", NOW).permits == expected


def test_leave_for_one_thing_is_not_leave_for_another() -> None:
    look = replace(snap(), fleet_permit=False, permits=(("cordon", "GPU-0"),))
    assert look.has_leave("cordon", "GPU-0")
    assert not look.has_leave("cordon", "GPU-1")
    assert not look.has_leave("reboot", "GPU-0")
    assert replace(look, fleet_permit=True).has_leave("reboot", "node")


def test_alone_a_node_may_do_a_little_and_only_after_a_while() -> None:
    wanted = [ask("1"), ask("2"), ask("3"), ask("4", "reboot")]
    assert leave.local(CFG, wanted, [], "b", CFG.local_after_s - 0.1, NOW) == []
    given = leave.local(CFG, wanted, [], "b", CFG.local_after_s, NOW)
    assert [p.ask for p in given] == ["1", "2"]
    assert leave.local(CFG, wanted, given, "b", 999.0, NOW + CFG.local_window_s) == []
    later = leave.local(CFG, wanted, given, "b", 9999.0, NOW + CFG.local_window_s + 1)
    assert len(later) == 2


def test_the_oldest_fault_goes_first() -> None:
    cfg = FleetConfig(aggregator=("127.0.0.1:1",), local_actions=1)
    given = leave.local(cfg, [ask("new", age_s=1), ask("old", age_s=50)], [], "b", 999.0, NOW)
    assert [p.ask for p in given] == ["old"]
