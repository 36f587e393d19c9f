"""Rule probe: when a failing probe is a claim, and what is remembered of who carries the service."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.config import Config
from gpuwarden.model.memory import Memory
from gpuwarden.model.service import Care, CarePhase, ProbeKind, ProbeReading
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.policy import probe
from gpuwarden.policy.desk import target_of
from tests.policy.builders import (
    NOW,
    PROTECTED,
    config,
    device_id,
    memory,
    scene,
    snap,
    tenant,
    use,
)

CFG = config(service=[{"name": "risk", "probe": {"healthcheck": True}}])  # type: ignore[arg-type]
SERVE = tenant("serve", cls=PROTECTED, service="risk", grace_s=20.0)
READING = ProbeReading(
    service="risk",
    kind=ProbeKind.HEALTHCHECK,
    tenant=SERVE.id,
    is_well=False,
    since=NOW,
    failures=3,
    at=NOW,
    detail="connection refused",
)


def found(reading: ProbeReading, cfg: Config = CFG, mem: Memory | None = None) -> list[str]:
    look = snap(probes=(reading,))
    return [f.summary for f in probe.find(cfg, mem or memory(), scene(cfg, look))]


def test_a_claim_says_what_was_asked_and_what_came() -> None:
    look = snap(probes=(READING,))
    (claim,) = probe.find(CFG, memory(), scene(CFG, look))
    assert claim.key == "probe risk"
    assert (claim.tenant, claim.service) == (SERVE.id, "risk")
    assert claim.summary == (
        "service risk does not answer its probe (healthcheck): connection refused"
    )


@pytest.mark.parametrize(
    ("reading", "is_claimed"),
    [
        (replace(READING, failures=2), False),
        (READING, True),
        (replace(READING, failures=4), True),
        (replace(READING, limit=4), False),
        (replace(READING, is_well=True), False),
        (replace(READING, is_well=None), False),
    ],
)
def test_so_many_failures_in_a_row_and_nothing_else(
    reading: ProbeReading, *, is_claimed: bool
) -> None:
    assert bool(found(reading)) is is_claimed


def test_a_service_that_is_not_configured_any_more_is_not_claimed() -> None:
    assert found(READING, config()) == []


def carried(*, tenants: tuple[object, ...] = (SERVE,), **rest: object) -> Snapshot:
    return snap(probes=(READING,), tenants=tenants, uses=[use(SERVE, on=1), use(SERVE)], **rest)  # type: ignore[arg-type]


def test_who_carries_it_is_remembered_with_devices_and_grace() -> None:
    mem = probe.fold(CFG, memory(), scene(CFG, carried()))
    care = mem.cares["risk"]
    assert care.target == target_of(SERVE)
    assert care.devices == (device_id(0), device_id(1))
    assert care.grace_s == 20.0
    assert probe.fold(CFG, mem, scene(CFG, carried())) is mem, "nothing new: the same memory"


def test_one_that_is_not_seen_any_more_stays_known() -> None:
    mem = probe.fold(CFG, memory(), scene(CFG, carried()))
    gone = snap(probes=(replace(READING, tenant=None),))
    assert probe.fold(CFG, mem, scene(CFG, gone)).cares["risk"].target == target_of(SERVE)


def test_whom_a_restart_is_under_way_for_is_remembered_as_he_was() -> None:
    old = replace(target_of(SERVE), pids=())
    for care in (
        Care(service="risk", phase=CarePhase.RESTARTING, target=old),
        Care(service="risk", phase=CarePhase.FAILING, is_unsure=True, target=old),
    ):
        mem = probe.fold(CFG, memory(cares={"risk": care}), scene(CFG, carried()))
        assert mem.cares["risk"].target == old


def test_one_that_is_not_configured_any_more_is_forgotten_and_one_unheard_is_not() -> None:
    mem = memory(cares={"risk": Care(service="risk", phase=CarePhase.RESTARTING)})
    assert probe.fold(CFG, mem, scene(CFG, snap())) is mem
    assert probe.fold(config(), mem, scene(config(), snap())).cares == {}


def test_budgets_move_with_the_wall_clock_and_outlast_a_boot() -> None:
    cares = {"a": Care(service="a", restarts_wall=(100.0, 200.0)), "b": Care(service="b")}
    assert probe.moved(cares, 50.0)["a"].restarts_wall == (150.0, 250.0)
    assert probe.reborn(cares, 150.0) == {"a": Care(service="a", restarts_wall=(100.0, 150.0))}
