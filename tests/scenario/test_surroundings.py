"""Scenarios 15-17, 19, 22, 25, 28, 29 of the enforcement research: MPS, MIG, Docker, NVML, host memory,
clocks, limiters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.model.device import Sight
from gpuwarden.model.ids import DeviceId
from gpuwarden.sim.node.cards import Card
from gpuwarden.sim.scenario import always, at, card, elapsed, expect, kinds
from gpuwarden.sim.world import World
from tests.scenario.stage import habit, hog, node, serve

RESERVE = {"reserve": {"bytes": "8GiB"}}
MIB = 2**20


def mps_server(world: World, used_mib: int) -> object:
    return world.bare(
        "nvidia-cuda-mps-server",
        habit(used_mib),
        uid=0,
        runtime="systemd-service",
        unit="mps.service",
    )


def test_s15_mps_client_over() -> None:
    """Bytes are charged to the server, which belongs to nobody: it never goes for a client's sin."""
    world = node({**RESERVE, "default": {"memory": "8GiB"}})
    h = serve(world, used_mib=7_000)
    server = mps_server(world, 70_000)
    expect(world, by=30, findings=["quota", "reserve"], withheld="never-victim")
    always(world, until=120, alive=[h, server], untouched=[h, server])


@pytest.mark.parametrize("obeys", [True, False])
def test_s15_mps_client_over_is_let_go_by_its_server_before_any_signal(obeys: bool) -> None:
    """A client that dies by a signal can take its server along, and every other client with it."""
    world = node()
    h = serve(world)
    assert h.main is not None
    h.main.habit.is_mps = True
    low = hog(world, is_mps=True, obeys=obeys, grace_s=2.0, restart="always")
    expect(world, by=12, freed=low, untouched=h)
    done = kinds(world, low)
    assert done[0] == "detach"
    assert "freeze" not in done, "others of its server may wait for it"
    assert {"restart-off", "term"} <= set(done)
    assert ("kill" in done) is not obeys
    assert not world.runtimes.mps.is_faulty
    always(world, until=30, alive=h)


def test_s15_mps_in_the_emergency_lane() -> None:
    world = node(RESERVE)
    h = serve(world)
    low = hog(world, is_mps=True, used_mib=74_000, grow_mib_s=0, obeys=False)
    expect(world, by=6, freed=low, untouched=h)
    assert kinds(world, low)[:2] == ["detach", "term"]
    assert not world.runtimes.mps.is_faulty


@pytest.mark.parametrize("is_there", [True, False])
def test_s15_mps_that_does_not_let_go_holds_up_nothing(is_there: bool) -> None:
    """No control program, or one that is of no use: the ladder goes on as it does without MPS."""
    world = node()
    h = serve(world)
    world.runtimes.mps.is_there, world.runtimes.mps.lets_go = is_there, False
    low = hog(world, is_mps=True, grace_s=2.0)
    expect(world, by=8, freed=low, untouched=h, that=lambda: "term" in kinds(world, low))


def test_s16_mps_fault() -> None:
    """An application's Xid that all clients of a server are told of convicts nobody by itself."""
    world = node(RESERVE)
    h = serve(world)
    server = mps_server(world, 10_000)
    low = hog(world, used_mib=4_000, grow_mib_s=0)
    assert low.main is not None
    pid = low.main.pid.pid
    at(world, 5, lambda: world.probe.event("xid", card(), 31, pid))
    for second in (5.1, 5.2, 5.3):
        at(world, second, lambda: world.probe.event("xid", card(), 45, pid))
    always(world, until=60, alive=[h, server, low], untouched=[h, server, low])


def sliced(**shape: object) -> tuple[World, list[Card]]:
    world = node(RESERVE, **shape)  # type: ignore[arg-type]
    return world, world.cards.split(card(1), [40_000, 40_000])


def test_s17_mig() -> None:
    """Decided slice by slice: whoever is over on one slice goes, whoever fills another does not."""
    world, slices = sliced()
    over = world.container(
        "over", quota_mib=16_000, habits=(replace(habit(30_000), device=slices[0].id),)
    )
    full = world.container(
        "full", quota_mib=39_000, habits=(replace(habit(38_500), device=slices[1].id),)
    )
    expect(world, by=10, freed=over)
    always(world, until=60, alive=full, untouched=full)


def test_s17_mig_no_limit_is_set_on_a_slice() -> None:
    world, slices = sliced(limiter="works")
    low = world.container(
        "low", quota_mib=16_000, habits=(replace(habit(3_000), device=slices[0].id),)
    )
    always(world, until=20, untouched=low)


def test_s17_mig_a_reserve_is_the_slices_own() -> None:
    world, slices = sliced()
    world.service("risk")
    h = world.container(
        "risk",
        cls="protected",
        quota_mib=None,
        service="risk",
        habits=(replace(habit(4_000), device=slices[0].id),),
    )
    near = world.container(
        "near", quota_mib=39_000, habits=(replace(habit(33_000), device=slices[0].id),)
    )
    far = world.container(
        "far", quota_mib=39_000, habits=(replace(habit(39_000), device=slices[1].id),)
    )
    expect(world, by=20, freed=near)
    always(world, until=60, untouched=[h, far])


@pytest.mark.parametrize("fault", ["is_hung", "is_absent"])
@pytest.mark.parametrize("version", [1, 2])
def test_s19_docker_down_or_hung(fault: str, version: int) -> None:
    world = node(RESERVE, cgroup_version=version)
    h = serve(world)
    low = hog(world, obeys=False, restart="always", grow_mib_s=8_000)
    at(world, 0.5, lambda: setattr(world.docker, fault, True))
    expect(world, by=3.0, that=lambda: bool(kinds(world, low)))
    expect(world, by=14.0, that=lambda: bool(world.ledger.of("exit", tenant=low.tenant)))
    assert "restart-off" not in kinds(world, low)
    world.run_for(8)
    setattr(world.docker, fault, False)
    if fault == "is_absent":  # a daemon that comes back starts what its policies say
        world.docker.daemon_returns()
    expect(world, by=elapsed(world) + 60, freed=low, that=lambda: low.restart == "no")
    always(world, until=elapsed(world) + 60, dead=low, untouched=h)


def test_s22_nvml_hangs_on_one_gpu() -> None:
    world = node({"agent": {"expected_devices": 8}}, devices=8)
    low = hog(world, on=3, used_mib=7_000, grow_mib_s=0)
    other = hog(world, "other", on=4, used_mib=7_000, grow_mib_s=0)
    world.run_for(3)
    for who in (low, other):
        assert who.main is not None
        who.main.holds = {who.main.habit.device or card(): 20_000 * MIB}
    world.cards.cards[card(3)].hangs_since = world.clock.now()
    begun = elapsed(world)
    expect(world, by=begun + 2.0, findings="sight", freed=other)
    pets = len(world.watchdog.pets)
    always(world, until=begun + 30, untouched=low)
    assert len(world.watchdog.pets) - pets >= 25  # fed by finished ticks all the while
    snapshot = world.board.snapshot
    assert snapshot is not None
    sights = {d.id: d.sight for d in snapshot.devices}
    assert sights.pop(card(3)) is Sight.BLIND
    assert set(sights.values()) == {Sight.OK}
    ages = [snapshot.at - d.at for d in snapshot.devices if d.at is not None and d.id != card(3)]
    assert max(ages) <= 1.2
    assert len(world.ledger.of("page")) == 1
    world.cards.cards[card(3)].hangs_since = None
    expect(world, by=begun + 40, freed=low)


def test_s25_host_memory_spiral() -> None:
    world = node()
    h = serve(world)
    low = hog(world, used_mib=2_000, grow_mib_s=0, labels={"gpuwarden.host-memory": "8GiB"})
    assert low.group is not None
    low.group.pressure["memory_full_avg10"] = 45.0
    expect(world, by=40, that=lambda: "throttle" in kinds(world, low))
    assert int(low.group.settings["memory.high"]) < 8 * 2**30
    world.services.services["serve"].forced = world.services.services["serve"].health.RED
    expect(world, by=90, freed=low, untouched=h)


class TestClocks:
    """Scenario 28, and reliability 9 and 10."""

    @pytest.mark.parametrize("jump", [3600.0, -3600.0, -1.7e9, 2.5e9])
    def test_s28_wall_clock_set_in_the_grace(self, jump: float) -> None:
        world = node()
        low = hog(world, obeys=False, grace_s=10.0, restart="always")
        expect(world, by=8, that=lambda: "term" in kinds(world, low))
        asked = elapsed(world)
        at(world, asked + 4, lambda: world.clock.set_wall(jump))
        always(world, until=asked + 9.9, alive=low)
        expect(world, by=asked + 10.5, freed=low)
        over = elapsed(world)
        always(world, until=over + 590, that=lambda: low.restart == "no")
        expect(world, by=over + 620, that=lambda: low.restart == "always")

    def test_s28_suspended_host_the_first_sample_after_the_gap_is_stale(self) -> None:
        world = node()
        low = hog(world, obeys=False, grace_s=10.0)
        expect(world, by=8, done=(low, ["term"]))
        asked = elapsed(world)
        assert low.main is not None
        world.run_for(2)
        world.stop_agent(90)
        world.probe.is_silent = True
        low.main.habit.grow_mib_s = 0
        at(world, asked + 50, low.main.holds.clear)  # it obeyed meanwhile
        at(world, asked + 92.05, lambda: setattr(world.probe, "is_silent", False))
        always(world, until=asked + 150, alive=low, done=(low, ["term"]))

    def test_s28_nobody_is_evicted_for_what_was_true_before_the_gap(self) -> None:
        world = node({"quota": {"warmup_s": 0}})
        low = hog(world, used_mib=20_000, grow_mib_s=0)
        world.run_for(0.05)
        assert low.main is not None
        world.stop_agent(90)
        low.main.holds[card()] = 4_000 * MIB
        always(world, until=120, untouched=low)


class TestLimiter:
    """Scenario 29 and the modes of the preventive limiter."""

    def test_works_the_overrun_never_happens(self) -> None:
        world = node(limiter="works")
        low = hog(world, quota_mib=8_000)
        always(
            world,
            until=60,
            alive=low,
            that=lambda: world.bytes_of(low.tenant)[card()] <= 8_000 * MIB,
        )
        assert world.cards.denied > 0
        assert kinds(world, low) == ["set-limit"]
        world.docker.remove(low)
        expect(world, by=70, calm=True, that=lambda: not world.cards.limits)

    def test_s29_limit_bypass(self) -> None:
        world = node(limiter="no-effect")
        low = hog(world, used_mib=4_000, grow_mib_s=0)
        expect(world, by=5, done=(low, ["set-limit", "set-limit"]), findings="limits")
        expect(world, by=40, pages=1)
        always(world, until=120, done=(low, ["set-limit", "set-limit"]), pages=1)

    def test_s29_the_reactive_engine_goes_on(self) -> None:
        world = node(limiter="no-effect")
        low = hog(world)
        expect(world, by=8, freed=low)

    @pytest.mark.parametrize(("mode", "tries"), [("not-supported", 1), ("no-permission", 4)])
    def test_a_limiter_that_says_no(self, mode: str, tries: int) -> None:
        world = node(limiter=mode)
        low = hog(world, used_mib=4_000, grow_mib_s=0)
        always(world, until=100, untouched=low, alive=low)
        asked = [e for e in world.ledger.of("intent", tenant=low.tenant) if e.text == "set-limit"]
        assert len(asked) == tries


def test_a_renumbered_device_is_the_same_device() -> None:
    """Reliability 14: a device disappears, indexes shift, nobody on another UUID is hit."""
    world = node(devices=3)
    low = hog(world, on=1, used_mib=20_000, grow_mib_s=0, obeys=False, grace_s=5.0)
    beside = hog(world, "beside", on=2, used_mib=20_000, grow_mib_s=0, quota_mib=40_000)
    expect(world, by=5, done=(low, ["term"]))
    world.cards.cards[card(0)].is_there = False
    world.probe.renumber([card(1), card(2)])
    expect(world, by=15, freed=low)
    always(world, until=60, untouched=beside, alive=beside)
    assert world.board.snapshot is not None
    assert {d.id for d in world.board.snapshot.devices} == {card(1), card(2)}


def test_a_device_that_vanishes_under_an_eviction() -> None:
    world = node(devices=2)
    low = hog(world, on=1, used_mib=20_000, grow_mib_s=0, obeys=False, grace_s=5.0)
    beside = hog(world, "beside", on=0, used_mib=20_000, grow_mib_s=0, quota_mib=40_000)
    expect(world, by=5, done=(low, ["term"]))
    world.cards.cards[card(1)].is_there = False
    world.probe.renumber([card(0)])
    always(world, until=60, alive=[low, beside], untouched=beside, done=(low, ["term"]))


def test_a_lost_device_is_called_so_and_hits_nobody() -> None:
    world = node(devices=2)
    low = hog(world, on=1, used_mib=4_000, grow_mib_s=0)
    world.run_for(3)
    world.cards.cards[card(1)].is_lost = True
    expect(world, by=20, findings="sight", pages=1)
    assert world.board.decision is not None
    assert {f.device for f in world.board.decision.findings} == {DeviceId("GPU-1")}
    always(world, until=60, untouched=low)
