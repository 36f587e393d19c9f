"""Rule services: needed by the hardware, and not running."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.finding import Severity
from gpuwarden.model.health import Surroundings, SystemService
from gpuwarden.policy.health import services
from gpuwarden.policy.health.rule import Claim
from tests.policy.builders import NOW
from tests.policy.health.ward import TICK_S, Ward, ask_host, sampled


def service(
    name: str, running: bool | None = False, *, installed: bool = True, enabled: bool = True
) -> SystemService:
    return SystemService(
        name=f"nvidia-{name}", is_installed=installed, is_enabled=enabled, is_running=running
    )


def found(
    *them: SystemService, setup: dict[str, Any] | None = None, **around: Any
) -> dict[str, Claim]:
    surroundings = Surroundings(at=NOW, services=them, **around)
    claims = ask_host(services.JUDGES, surroundings, devices=[sampled(setup=setup or {})])
    return {claim.fault: claim for claim in claims}


FM = service("fabricmanager")
ABSENT = service("fabricmanager", installed=False, enabled=False)


@pytest.mark.parametrize(
    ("fm", "setup", "switches"),
    [
        (FM, {}, 4),
        (ABSENT, {}, 6),  # not even installed where there are switches
        (ABSENT, {"fabric_state": 1}, 0),
        (FM, {"fabric_state": 2}, None),
        (FM, {"fabric_state": 3}, None),
    ],
)
def test_the_fabric_manager_is_needed(
    fm: SystemService, setup: dict[str, int], switches: int | None
) -> None:
    claim = found(fm, setup=setup, nvswitches=switches)["nvidia-fabricmanager-down"]
    assert claim.severity is Severity.ERROR


@pytest.mark.parametrize(
    ("fm", "setup", "switches"),
    [
        (FM, {}, 0),  # a host of PCIe boards
        (FM, {"fabric_state": 0}, None),
        (ABSENT, {"fabric_state": 3}, 0),  # a guest whose host runs it
        (service("fabricmanager", True), {"fabric_state": 1}, 6),
        (service("fabricmanager", None), {"fabric_state": 1}, 6),  # processes cannot be seen
    ],
)
def test_the_fabric_manager_is_not_needed_or_runs_or_is_not_known(
    fm: SystemService, setup: dict[str, int], switches: int | None
) -> None:
    assert found(fm, setup=setup, nvswitches=switches) == {}


IMEX = service("imex")


@pytest.mark.parametrize(
    ("imex", "setup", "channels", "told"),
    [
        (IMEX, {}, 0, False),
        (IMEX, {}, 1, True),
        (service("imex", installed=False, enabled=False), {}, 2048, True),
        (IMEX, {"fabric_has_cluster": True}, 0, True),
        (service("imex", enabled=False), {"fabric_has_cluster": True}, 0, False),
        (service("imex", True), {"fabric_has_cluster": True}, 8, False),
    ],
)
def test_imex_is_needed_where_there_are_channels_or_a_domain(
    imex: SystemService, setup: dict[str, bool], channels: int, told: bool
) -> None:
    assert bool(found(imex, setup=setup, imex_channels=channels)) is told


@pytest.mark.parametrize(("enabled", "told"), [(True, True), (False, False)])
def test_the_persistence_daemon_is_needed_where_it_is_to_start(enabled: bool, told: bool) -> None:
    claims = found(service("persistenced", enabled=enabled))
    assert bool(claims) is told
    assert all(claim.severity is Severity.WARNING for claim in claims.values())


def test_a_service_nobody_has_heard_of_and_nothing_known() -> None:
    assert found(service("something")) == {}
    assert ask_host(services.JUDGES, None) == []


def test_it_enters_and_leaves_slowly() -> None:
    ward = Ward()

    def see(after_s: float, running: bool) -> bool:
        fm = service("fabricmanager", running)
        around = Surroundings(at=NOW + after_s // 15 * 15, services=(fm,), nvswitches=4)
        return bool(ward.see(NOW + after_s, around=around))

    assert [see(s, False) for s in (0, 15, 30, 45, 60 - TICK_S, 60)] == [False] * 5 + [True]
    assert [see(s, True) for s in (75, 90, 105, 120, 135 - TICK_S, 135)] == [True] * 5 + [False]
