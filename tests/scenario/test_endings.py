"""Scenarios 6-9, 13, 14, 20, 21, 23, 26, 27 of the enforcement research: how somebody is ended, and who
must not be."""

from __future__ import annotations

import signal

import pytest

from gpuwarden.model.action import Action, Kind
from gpuwarden.model.memory import Memory
from gpuwarden.model.owner import CgroupOwner
from gpuwarden.sim.node.process import Process
from gpuwarden.sim.scenario import always, at, card, elapsed, expect, kinds
from gpuwarden.sim.world import World
from tests.scenario.stage import habit, hog, node, serve

RESERVE = {"reserve": {"bytes": "8GiB"}}
BOTH = pytest.mark.parametrize("version", [1, 2])


def memory_of(world: World) -> Memory:
    assert world.board.decision is not None
    return world.board.decision.memory


def outcomes(world: World, *words: str) -> list[str]:
    return [i.outcome for i in world.board.incidents if i.outcome in words]


@BOTH
def test_s06_d_state(version: int) -> None:
    world = node(RESERVE, cgroup_version=version)
    h = serve(world)
    other = hog(world, "other", quota_mib=80_000, used_mib=30_000, grow_mib_s=0)
    low = hog(world, quota_mib=8_000, used_mib=44_000, grow_mib_s=0)
    assert low.main is not None
    world.kernel.set_stuck(low.main, True)
    expect(world, by=30, cordoned=card(), findings=["quota", "reserve"])
    assert world.ledger.of("kill", tenant=low.tenant)
    always(world, until=120, untouched=[h, other])
    expect(world, by=121, pages=1)
    killed = len(world.ledger.of("kill", tenant=low.tenant))
    assert killed == 1  # not again and again
    assert outcomes(world, "tenant killed", "tenant stopped") == []
    world.kernel.set_stuck(low.main, False)
    expect(world, by=125, freed=low, calm=True)


@pytest.mark.parametrize("after_s", [0.05, 0.5])
def test_s07_zombie_holder(after_s: float) -> None:
    """Its pid is a zombie's, or nobody's, and the bytes stay: no success, no signal to whoever gets
    the pid next, and the device is for people."""
    world = node()
    h = serve(world, used_mib=1_000)
    low = hog(world, leaks=True, obeys=False, grace_s=1.0)
    assert low.main is not None
    pid = low.main.pid
    expect(world, by=6, dead=low)
    world.run_for(after_s)
    world.kernel.reuse(pid.pid)
    second = serve(world, "second", used_mib=500)
    assert second.main is not None
    assert second.main.pid.pid == pid.pid
    expect(world, by=40, cordoned=card(), pages=1)
    always(world, until=100, untouched=[h, second], alive=[h, second])
    assert outcomes(world, "tenant killed", "tenant stopped", "tenant ended on request") == []


def test_s07_zombie_holder_children_go() -> None:
    world = node()
    low = world.container(
        "hog",
        habits=(habit(20_000, obeys=False, leaks=True), habit(500, obeys=False)),
        grace_s=1.0,
    )
    expect(world, by=6, dead=low)


@BOTH
def test_s08_restart_policy_always(version: int) -> None:
    world = node(cgroup_version=version)
    low = hog(world, restart="always")
    expect(world, by=8, freed=low)
    assert kinds(world, low) == ["freeze", "restart-off", "term"]
    always(world, until=120, dead=low)
    assert low.restart == "no"
    (debt,) = [d for d in memory_of(world).debts if d.kind is Kind.RESTART_BACK]
    assert dict(debt.old)["Name"] == "always"
    expect(world, by=640, that=lambda: low.restart == "always")
    always(world, until=700, dead=low)


def test_s09_orchestrator_recreates() -> None:
    world = node()
    first = hog(world, recreate_s=2.0, owner_key="compose:shop/train", grow_mib_s=8_000)
    expect(world, by=60, that=lambda: len(world.ledger.of("recreated")) >= 3)
    expect(world, by=90, that=lambda: bool(world.ledger.of("stop")))
    assert len(world.ledger.of("term")) == 3
    always(world, until=300, that=lambda: len(world.ledger.of("page")) <= 1)
    assert first.owner_key in memory_of(world).tombstones
    assert len(world.ledger.of("term")) == 3  # held: stopped at once, never let grow again


def test_s13_no_container() -> None:
    """Bare python of a user's session: its own process group, never the session or sshd."""
    world = node({"default": {"memory": "8GiB"}})
    session = "/user.slice/user-1000.slice/session-3.scope"
    sshd = world.bare("sshd", habit(0), path=session)
    shell = world.bare("bash", habit(0), path=session)
    train = world.bare(
        "python", habit(2_000, grow_mib_s=2_000, goal_mib=20_000, obeys=False), path=session
    )
    child = world.kernel.spawn(
        "python", train.group, train.owner, train.tenant, habit(100, obeys=False), parent=train
    )
    expect(world, by=20, dead=[train, child])
    assert {e.kind for e in world.ledger.of("term", "kill", tenant=train.tenant)} == {
        "term",
        "kill",
    }
    always(world, until=60, alive=[sshd, shell], untouched=[sshd, shell])
    assert not world.ledger.of("freeze", "throttle")


def test_s14_protected_infrastructure() -> None:
    world = node({**RESERVE, "default": {"memory": "1GiB"}})
    h = serve(world)
    infra = [
        world.bare(
            "nvidia-cuda-mps", habit(30_000), uid=0, runtime="systemd-service", unit="mps.service"
        ),
        world.bare("Xorg", habit(20_000), uid=0, runtime="systemd-service", unit="display.service"),
        world.bare("conmon", habit(20_000), uid=0, runtime="docker-monitor", is_never_victim=True),
    ]
    expect(
        world,
        by=30,
        findings="reserve",
        that=lambda: any("reserved" in e.text for e in world.ledger.of("page")),
    )
    always(world, until=120, untouched=[h, *infra], alive=[h, *infra])
    assert len(world.ledger.of("page")) == 5  # the reserve, and each of the four over the default


@BOTH
@pytest.mark.parametrize("phase", ["intended", "checked", "acted"])
@pytest.mark.parametrize("kind", [Kind.FREEZE, Kind.TERM, Kind.KILL])
def test_s20_agent_killed_in_mid_eviction(version: int, phase: str, kind: Kind) -> None:
    world = node(RESERVE, cgroup_version=version)
    h = serve(world)
    low = hog(
        world, used_mib=60_000, goal_mib=78_000, quota_mib=8_000, obeys=False, restart="always"
    )
    world.steps.dies_at = (kind, phase)
    world.restart_after_s = 1.0
    expect(world, by=15, freed=low, calm=True)
    assert world.crashes == 1
    done = kinds(world, low)
    assert done.count("term") <= 1
    assert done.count("kill") <= 1
    always(world, until=60, untouched=h, dead=low)
    expect(world, by=700, that=lambda: low.restart == "always")


def test_s20_grace_is_not_doubled() -> None:
    world = node()
    low = hog(world, obeys=False, grace_s=10.0)
    expect(world, by=8, done=(low, ["term"]))
    asked = elapsed(world)
    world.restart_after_s = 4.0
    at(world, asked + 3, world.crash)
    always(world, until=asked + 9.9, alive=low)
    expect(world, by=asked + 10.4, freed=low)
    assert kinds(world, low) == ["term", "kill"]


class Swap:
    """At the last moment the victim exits, and somebody protected gets its pid."""

    def __init__(self, world: World, victim: Process, kind: Kind, phase: str) -> None:
        self.world, self.victim, self.kind, self.phase = world, victim, kind, phase
        self.heir: Process | None = None
        world.steps.dies_at = (kind, phase)
        world.steps.dies_if = self

    def __call__(self, action: Action, phase: str) -> bool:
        if self.heir is None and action.kind is self.kind:
            self.world.kernel.end(self.victim, "by itself")
            self.world.kernel.reuse(self.victim.pid.pid)
            owner = CgroupOwner(
                runtime="user-session", cgroup_path="/user.slice/h", leaf_path="/user.slice/h"
            )
            group = self.world.kernel.make_group("/user.slice/h")
            self.heir = self.world.kernel.spawn("heir", group, owner, None, habit(0))
        return False


@pytest.mark.parametrize("phase", ["deciding", "intended", "checked"])
@pytest.mark.parametrize("kind", [Kind.TERM, Kind.KILL])
def test_s21_pid_reuse(kind: Kind, phase: str) -> None:
    world = node({"default": {"memory": "8GiB"}})
    train = world.bare("python", habit(20_000, obeys=False))
    swap = Swap(world, train, kind, phase)
    expect(world, by=30, dead=train)
    assert swap.heir is not None
    assert swap.heir.pid.pid == train.pid.pid
    always(world, until=elapsed(world) + 30, alive=swap.heir, untouched=swap.heir)
    expect(world, by=90, calm=True)


@pytest.mark.parametrize("kind", [Kind.TERM, Kind.KILL])
def test_s21_pid_reuse_inside_a_container_that_is_gone(kind: Kind) -> None:
    world = node()
    low = hog(world, obeys=False)
    assert low.main is not None
    swap = Swap(world, low.main, kind, "checked")
    expect(world, by=30, dead=low)
    assert swap.heir is not None
    always(world, until=elapsed(world) + 30, alive=swap.heir, untouched=swap.heir)


@BOTH
@pytest.mark.parametrize("restart", ["no", "always"])
def test_s23_paused_victim(version: int, restart: str) -> None:
    world = node(RESERVE, cgroup_version=version)
    serve(world)
    low = hog(world, quota_mib=8_000, used_mib=70_000, grow_mib_s=0, restart=restart)
    world.docker.pause(low)
    expect(world, by=10, freed=low)
    assert "term" not in kinds(world, low)
    assert "freeze" not in kinds(world, low)
    thawed = world.ledger.of("thaw", tenant=low.tenant)
    assert thawed == []


@BOTH
def test_s26_fork_swarm(version: int) -> None:
    world = node(cgroup_version=version)
    low = hog(world, obeys=False, forks_every_s=0.005, grace_s=1.0)
    expect(world, by=12, freed=low)
    hit = {pid for e in world.ledger.of("kill", tenant=low.tenant) for pid in e.pids}
    assert len(hit) > 100
    always(world, until=20, dead=low)


def test_s27_nested_the_inner_one_alone_goes() -> None:
    world = node()
    outer = world.container("kind", quota_mib=80_000, habits=(habit(500),))
    inner = hog(
        world, "pod", parent_path=f"/docker/{outer.id}/kubelet/kubepods", nested_in=outer.id[:12]
    )
    expect(world, by=30, freed=inner)
    always(world, until=60, alive=outer, untouched=outer)


def test_s27_nested_the_outer_one_never_with_another_inside() -> None:
    world = node()
    outer = hog(world, "kind")
    inner = world.container(
        "pod",
        quota_mib=8_000,
        habits=(habit(500),),
        parent_path=f"/docker/{outer.id}/kubelet",
        nested_in=outer.id[:12],
    )
    expect(world, by=10, withheld="nested")
    always(world, until=60, alive=[outer, inner], untouched=[outer, inner])


def test_a_signal_a_simulated_process_ignores_is_really_ignored() -> None:
    """The worlds' own semantics: v1 holds a KILL of what is frozen back, v2 does not."""
    for version, dies in ((1, False), (2, True)):
        world = World(cgroup_version=version)
        low = hog(world, obeys=False)
        assert low.main is not None
        assert low.group is not None
        world.kernel.deliver(low.main, signal.SIGTERM)
        assert low.main.is_alive
        world.docker.pause(low)
        world.kernel.deliver(low.main, signal.SIGKILL)
        assert low.main.is_alive is not dies
