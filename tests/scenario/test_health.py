"""Faults of devices and host on simulated time: in after their dwell, once, with their scope, out after
their probation, and nobody is touched for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gpuwarden.model.finding import Finding, Scope, Severity
from gpuwarden.model.health import EVERY_S, DriverVersions
from gpuwarden.sim.scenario import card, elapsed
from gpuwarden.sim.world import World
from tests.scenario.stage import habit, hog, node, serve

LATE_S = 2.5
"""From a sample to the tick that judges it, and from there to the tick that sees its dwell over."""
WELL: dict[str, dict[str, Any]] = {
    "vitals": {
        "temperature_c": 55.0,
        "utilization_ratio": 0.9,
        "clock_event_hw_thermal_s_total": 0.0,
        "recovery_action": 0,
    },
    "errors": {
        "ecc_corrected_volatile_total": 0,
        "ecc_uncorrected_volatile_total": 0,
        "row_remap_pending": False,
        "row_remap_failed": False,
        "nvlink_up_mask": 0xFFF,
        "nvlink_down_mask": 0,
    },
    "setup": {
        "temperature_slowdown_c": 89.0,
        "pcie_link_width": 16,
        "pcie_link_width_max": 16,
        "fabric_state": 3,
        "persistence_enabled": True,
    },
}


def ward(**settings: Any) -> World:
    """Two devices that are well, a protected service on one and a tenant within quota on the other."""
    world = node({"rules": {"repair": {"mode": "off"}}, **settings})
    for index in (0, 1):
        for part, values in WELL.items():
            world.cards.cards[card(index)].tell(part, **values)
    serve(world, on=0)
    hog(world, on=1, used_mib=4_000, grow_mib_s=0)
    world.run_for(70.0)  # every class has been sampled twice
    world.began = world.clock.now()
    return world


def standing(world: World) -> dict[str, Finding]:
    decision = world.board.decision
    assert decision is not None
    return {f.key: f for f in decision.findings if f.fault}


def since_then(
    world: World, key: str, after_s: float, by_s: float, *, is_there: bool
) -> Finding | None:
    """Asserts that the finding comes (or goes) within that time from now, and not before."""
    begun = elapsed(world)
    while elapsed(world) < begun + after_s - 1e-6:
        assert (key in standing(world)) is not is_there, f"{elapsed(world) - begun:.2f} s: too soon"
        world.run_for(0.25)
    while (key in standing(world)) is not is_there:
        assert elapsed(world) < begun + by_s, f"not within {by_s} s: {sorted(standing(world))}"
        world.run_for(0.25)
    return standing(world).get(key)


def plays(
    world: World,
    key: str,
    fall_ill: Callable[[], None],
    get_well: Callable[[], None],
    *,
    every_s: float,
    grace_s: float,
    probation_s: float,
    lasts_s: float = 0.0,
) -> Finding:
    """The whole life of a fault; ``lasts_s``: what it takes to show beside the sample and its grace."""
    incidents = len(world.board.incidents)
    fall_ill()
    latest = every_s + lasts_s + grace_s + LATE_S
    found = since_then(world, key, grace_s, latest, is_there=True)
    assert found is not None
    world.run_for(60.0)
    assert list(standing(world)) == [key]
    get_well()
    latest = every_s + lasts_s + probation_s + LATE_S
    since_then(world, key, probation_s - 0.5, latest, is_there=False)
    world.run_for(5.0)
    mine = world.board.incidents[: len(world.board.incidents) - incidents]
    assert len(mine) == 1, "one incident"
    assert mine[0].closed_at is not None
    pages = len(world.ledger.of("page"))
    assert pages == (found.severity >= Severity.ERROR)
    assert list(world.ledger.harm()) == []
    return found


def told(world: World, part: str, index: int = 0, **values: Any) -> Callable[[], None]:
    return lambda: world.cards.cards[card(index)].tell(part, **values)


def test_row_remap_pending() -> None:
    world = ward()
    found = plays(
        world,
        "row-remap-pending GPU-0",
        told(world, "errors", row_remap_pending=True),
        told(world, "errors", row_remap_pending=False),
        every_s=EVERY_S["errors"],
        grace_s=30.0,
        probation_s=300.0,
    )
    assert (found.scope, found.severity, found.device) == (Scope.GPU, Severity.WARNING, card(0))


def test_row_remap_failed_pages_once_and_stays() -> None:
    world = ward()
    world.cards.cards[card(0)].tell("errors", row_remap_failed=True)
    world.run_for(700.0)
    found = standing(world)["row-remap-failed GPU-0"]
    assert (found.scope, found.severity) == (Scope.GPU, Severity.CRITICAL)
    assert len(world.ledger.of("page")) == 1
    assert list(world.ledger.harm()) == []


def heating(world: World, share: float) -> Iterator[None]:
    """The counter of time held down moves on, second by second."""
    held = 0.0
    while True:
        held += share
        world.cards.cards[card(1)].tell("vitals", clock_event_hw_thermal_s_total=held)
        yield


def test_throttle() -> None:
    world = ward()
    heat = heating(world, 0.5)
    is_hot = True

    def beat() -> None:
        if is_hot:
            next(heat)
        world.clock.later(1.0, beat)

    def fall_ill() -> None:
        world.clock.later(0.0, beat)

    def get_well() -> None:
        nonlocal is_hot
        is_hot = False

    found = plays(
        world,
        "throttle-heat GPU-1",
        fall_ill,
        get_well,
        every_s=EVERY_S["vitals"],
        grace_s=60.0,
        probation_s=300.0,
        lasts_s=2 * 60.0,  # a whole window in which it grew, and the rest of the one before
    )
    assert (found.scope, found.severity) == (Scope.GPU, Severity.ERROR)


def test_link_narrowed() -> None:
    world = ward()
    found = plays(
        world,
        "pcie-width GPU-0",
        told(world, "setup", pcie_link_width=8),
        told(world, "setup", pcie_link_width=16),
        every_s=EVERY_S["setup"],
        grace_s=60.0,
        probation_s=300.0,
    )
    assert (found.scope, found.severity) == (Scope.LINK, Severity.ERROR)


def test_nvlink_down() -> None:
    world = ward()
    found = plays(
        world,
        "nvlink-down GPU-1",
        told(world, "errors", 1, nvlink_up_mask=0xFFE, nvlink_down_mask=1),
        told(world, "errors", 1, nvlink_up_mask=0xFFF, nvlink_down_mask=0),
        every_s=EVERY_S["errors"],
        grace_s=30.0,
        probation_s=300.0,
    )
    assert (found.scope, found.device) == (Scope.LINK, card(1))


def test_ecc_storm() -> None:
    world = ward()
    errors, is_storming = 0, True

    def beat() -> None:
        nonlocal errors
        if is_storming:
            errors += 5
            world.cards.cards[card(0)].tell("errors", ecc_corrected_volatile_total=errors)
        world.clock.later(1.0, beat)

    def get_well() -> None:
        nonlocal is_storming
        is_storming = False

    found = plays(
        world,
        "ecc-storm GPU-0",
        lambda: world.clock.later(0.0, beat),
        get_well,
        every_s=EVERY_S["errors"],
        grace_s=120.0,
        probation_s=300.0,
        lasts_s=2 * 60.0 + 15.0,
    )
    assert (found.scope, found.severity) == (Scope.GPU, Severity.WARNING)


def test_an_uncorrected_error_is_over_with_the_reset_and_a_driver_reload_is_no_storm() -> None:
    world = ward()
    found = plays(
        world,
        "ecc-uncorrected GPU-0",
        told(world, "errors", ecc_uncorrected_volatile_total=2, ecc_corrected_volatile_total=9_000),
        told(world, "errors", ecc_uncorrected_volatile_total=0, ecc_corrected_volatile_total=0),
        every_s=EVERY_S["errors"],
        grace_s=0.0,
        probation_s=300.0,
    )
    assert found.severity is Severity.ERROR


def test_fabric_manager_down() -> None:
    world = ward()
    world.senses.services["nvidia-fabricmanager"] = True
    world.senses.nvswitches = 4
    world.run_for(20.0)
    found = plays(
        world,
        "nvidia-fabricmanager-down",
        lambda: world.senses.services.update({"nvidia-fabricmanager": False}),
        lambda: world.senses.services.update({"nvidia-fabricmanager": True}),
        every_s=world.senses.every_s,
        grace_s=60.0,
        probation_s=60.0,
    )
    assert (found.scope, found.severity, found.device) == (Scope.NODE, Severity.ERROR, None)


def test_driver_library_mismatch() -> None:
    world = ward()
    world.probe.driver = DriverVersions(driver="580.95.05", library="13.580.95.05")
    world.senses.module_version = world.senses.library_version = "580.95.05"
    world.run_for(20.0)
    found = plays(
        world,
        "driver-mismatch",
        lambda: setattr(world.senses, "library_version", "590.44.01"),
        lambda: setattr(world.senses, "library_version", "580.95.05"),
        every_s=world.senses.every_s,
        grace_s=60.0,
        probation_s=60.0,
    )
    assert (found.scope, found.severity) == (Scope.NODE, Severity.ERROR)


def test_device_count_short() -> None:
    world = ward(agent={"mode": "enforce", "expected_devices": 2})

    def lose(is_there: bool) -> Callable[[], None]:
        def act() -> None:
            world.cards.cards[card(1)].is_there = is_there
            world.probe.renumber([card(0), card(1)] if is_there else [card(0)])

        return act

    found = plays(
        world,
        "device-count",
        lose(False),
        lose(True),
        every_s=5.0,
        grace_s=30.0,
        probation_s=60.0,
    )
    assert (found.scope, found.severity) == (Scope.NODE, Severity.ERROR)


def test_zombie_memory() -> None:
    world = ward()
    ended = world.container("ended", habits=(habit(2_000, on=1, leaks=True, reaped=False),))
    world.run_for(20.0)
    main = ended.main
    assert main is not None

    def reap() -> None:
        main.holds.clear()

    found = plays(
        world,
        f"memory-of-the-dead GPU-1 {main.pid.pid}",
        lambda: world.kernel.end(main, "killed"),
        reap,
        every_s=world.senses.every_s,
        grace_s=30.0,
        probation_s=15.0,
    )
    assert (found.scope, found.device, found.tenant) == (Scope.GPU, card(1), ended.tenant)
    assert "which is a zombie" in found.summary


def test_d_state() -> None:
    world = ward()
    held = world.container("held", habits=(habit(2_000, on=1),))
    world.run_for(20.0)
    main = held.main
    assert main is not None
    found = plays(
        world,
        f"task-stuck {main.pid.pid}@{main.pid.start}",
        lambda: world.kernel.set_stuck(main, True),
        lambda: world.kernel.set_stuck(main, False),
        every_s=2 * world.senses.every_s,  # the second look tells
        grace_s=60.0,
        probation_s=30.0,
    )
    assert (found.scope, found.tenant) == (Scope.NODE, held.tenant)
    assert "of held is stuck" in found.summary


def test_a_wall_clock_that_is_set_is_told_once() -> None:
    world = ward()
    found = plays(
        world,
        "clock-set",
        lambda: world.clock.set_wall(3600.0),
        lambda: None,
        every_s=5.0,
        grace_s=0.0,
        probation_s=235.0,  # of 300 s, of which a minute has gone by
    )
    assert (found.scope, found.severity) == (Scope.NODE, Severity.WARNING)


@pytest.mark.parametrize("fault", ["hang", "silent"])
def test_what_is_not_seen_any_more_is_not_healed(fault: str) -> None:
    """A device hangs, or the senses do: what stood goes on standing, and nothing new is claimed."""
    world = ward()
    world.cards.cards[card(0)].tell("errors", ecc_uncorrected_volatile_total=1)
    world.senses.services["nvidia-fabricmanager"] = False
    world.senses.nvswitches = 4
    world.run_for(120.0)
    before = set(standing(world))
    assert before == {"ecc-uncorrected GPU-0", "nvidia-fabricmanager-down"}
    if fault == "hang":
        world.cards.cards[card(0)].hangs_since = world.clock.now()
    else:
        world.senses.is_hung = True
    world.cards.cards[card(0)].tell("errors", ecc_uncorrected_volatile_total=0)
    world.senses.services["nvidia-fabricmanager"] = True
    world.run_for(600.0)
    kept = "ecc-uncorrected GPU-0" if fault == "hang" else "nvidia-fabricmanager-down"
    assert set(standing(world)) == {kept}


def test_a_fault_that_stood_when_the_agent_died_is_the_same_one_after_it() -> None:
    world = ward()
    world.cards.cards[card(0)].tell("errors", ecc_uncorrected_volatile_total=1)
    world.run_for(60.0)
    opened = [i.id for i in world.board.incidents]
    world.crash()
    world.boot_agent()
    world.run_for(30.0)
    assert [i.id for i in world.board.incidents] == opened
    assert list(standing(world)) == ["ecc-uncorrected GPU-0"]
    assert len(world.ledger.of("page")) == 1
