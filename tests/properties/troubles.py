"""What befalls a generated world."""

from __future__ import annotations

from functools import partial

from gpuwarden.model.action import Action, Kind
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.owner import CgroupOwner
from gpuwarden.node.steps import PHASES
from gpuwarden.sim.node.allowance import Allowance
from gpuwarden.sim.node.process import Habit, Process
from gpuwarden.sim.scenario import at
from tests.properties.play import MIB, SETTINGS, Author


class Troubles(Author):
    """Crashes, stale samples, driver faults, a Docker that hangs, clocks that are set, stolen pids."""

    def write(self) -> None:
        """Decide what will happen, and when."""
        for befall, probability in (
            (self._crash, 0.2),
            (self._crash_at_a_step, 0.2),
            (self._stop_agent, 0.08),
            (self._lag, 0.1),
            (self._silence, 0.06),
            (self._hang, 0.12),
            (self._lose, 0.04),
            (self._renumber, 0.12),
            (self._lock, 0.12),
            (self._xids, 0.1),
            (self._docker, 0.15),
            (self._set_wall, 0.12),
            (self._journal, 0.06),
            (self._leave_out, 0.15),
            (self._steal_pids, 0.3),
            (self._hidden, 0.15),
            (self._leak, 0.08),
            (self._cgroup_fails, 0.1),
            (self._slow_description, 0.15),
            (self._reload, 0.08),
            (self._pager, 0.05),
        ):
            if self.chance(probability):
                befall()

    def _crash(self) -> None:
        for _ in range(self.dice.choice([1, 1, 2])):
            at(self.world, self.moment(), self._crash_now)

    def _crash_now(self) -> None:
        if self.world.agent is not None:
            self.world.crash()

    def _crash_at_a_step(self) -> None:
        kind = self.dice.choice(
            [
                None,
                Kind.FREEZE,
                Kind.TERM,
                Kind.KILL,
                Kind.THAW,
                Kind.STOP,
                Kind.RESTART_OFF,
                Kind.THROTTLE,
            ]
        )
        steps = self.world.steps
        steps.dies_at = (kind, self.dice.choice(PHASES))
        skip = self.dice.randint(0, 3)

        def now(action: Action, phase: str) -> bool:
            nonlocal skip
            skip -= 1
            return skip < 0

        steps.dies_if = now

    def _stop_agent(self) -> None:
        seconds = self.dice.choice([1.5, 4.0, 12.0])

        def stop() -> None:
            now = self.world.clock.now()
            self.world.stop_agent(seconds)
            self.play.stopped.append((now, now + seconds))

        at(self.world, self.moment(), stop)

    def _lag(self) -> None:
        probe = self.world.probe
        begin = self.moment()
        at(self.world, begin, lambda: setattr(probe, "lag_s", self.dice.choice([0.3, 1.2, 2.5])))
        at(self.world, begin + 3, lambda: setattr(probe, "lag_s", 0.0))
        self.play.quiet.append(lambda: setattr(probe, "lag_s", 0.0))
        self.play.features.add("stale")

    def _silence(self) -> None:
        probe = self.world.probe
        begin = self.moment()
        at(self.world, begin, lambda: setattr(probe, "is_silent", True))
        at(
            self.world,
            begin + self.dice.choice([0.7, 3.0]),
            lambda: setattr(probe, "is_silent", False),
        )
        self.play.quiet.append(lambda: setattr(probe, "is_silent", False))
        self.play.features.add("stale")

    def _hang(self) -> None:
        sick = self.world.cards.cards[self.dice.choice(list(self.world.cards.cards))]
        begin = self.moment()
        at(self.world, begin, lambda: setattr(sick, "hangs_since", self.world.clock.now()))
        if self.chance(0.6):
            at(self.world, begin + 3, lambda: setattr(sick, "hangs_since", None))
        self.play.quiet.append(lambda: setattr(sick, "hangs_since", None))
        self.play.features.add("stale")

    def _lose(self) -> None:
        sick = self.world.cards.cards[self.dice.choice(list(self.world.cards.cards))]
        at(self.world, self.moment(), lambda: setattr(sick, "is_lost", True))

    def _renumber(self) -> None:
        def shift() -> None:
            cards = [c for c in self.world.cards.cards.values() if c.parent is None and c.is_there]
            if len(cards) < 2:
                return
            if self.chance(0.3) and not cards[0].is_mig_parent:
                cards[0].is_there = False
                cards = cards[1:]
            order = [c.id for c in cards]
            self.dice.shuffle(order)
            self.world.probe.renumber(order)
            self.play.features.add("shift")

        at(self.world, self.moment(), shift)

    def _lock(self) -> None:
        place = self.dice.choice(self.places)

        def lock() -> None:
            holders = [p.tenant for p in self.world.cards.holders(place)]
            by = self.dice.choice(holders) if holders else None
            self.world.cards.lock(place, by, heals=self.chance(0.6))
            self.world.probe.event("xid", place, 109)
            if self.chance(0.5):
                self.world.cards.cards[place].recovery_action = 1

        at(self.world, self.moment(), lock)

    def _xids(self) -> None:
        for _ in range(self.dice.randint(1, 4)):
            place, code = (
                self.dice.choice(self.places),
                self.dice.choice([13, 31, 43, 45, 48, 79, 94, 119]),
            )
            at(self.world, self.moment(), partial(self._xid, place, code, self.chance(0.5)))

    def _xid(self, place: DeviceId, code: int, is_named: bool) -> None:
        """Sometimes with the pid of whoever set it off."""
        holders = self.world.cards.holders(place)
        by = self.dice.choice(holders) if holders and is_named else None
        if by is not None:
            self.play.named[self.world.clock.now(), by.pid.pid] = by.tenant
        self.world.probe.event("xid", place, code, by.pid.pid if by is not None else None)

    def _docker(self) -> None:
        docker = self.world.docker
        begin = self.moment()
        what = self.dice.choice(["is_hung", "is_absent"])
        at(self.world, begin, lambda: setattr(docker, what, True))
        at(self.world, begin + self.dice.choice([0.5, 4.0]), self._docker_back)
        self.play.quiet.append(self._docker_back)

    def _docker_back(self) -> None:
        self.world.docker.is_hung = False
        if self.world.docker.is_absent:
            self.world.docker.daemon_returns()

    def _set_wall(self) -> None:
        by = self.dice.choice([3600.0, -3600.0, 1e8, -1e8, 0.5])
        at(self.world, self.moment(), lambda: self.world.clock.set_wall(by))

    def _journal(self) -> None:
        begin = self.moment()
        at(self.world, begin, lambda: setattr(self.play.journal, "is_broken", True))
        at(
            self.world,
            begin + self.dice.choice([0.4, 2.5]),
            lambda: setattr(self.play.journal, "is_broken", False),
        )
        self.play.quiet.append(lambda: setattr(self.play.journal, "is_broken", False))

    def _leave_out(self) -> None:
        def leave_out() -> None:
            for process in self.world.kernel.alive():
                if process.holds and self.chance(0.5):
                    self.world.probe.left_out[process.pid.pid] = 1

        for _ in range(3):
            at(self.world, self.moment(), leave_out)

    def _steal_pids(self) -> None:
        """Whoever dies leaves his pid to somebody innocent, sooner or later. Not with bytes that stay
        for ever and were never listed under it before: nothing tells those from the heir's own."""
        world = self.world

        def inherit(dead: Process) -> None:
            is_known = dead.pid in world.probe.ever_listed or not dead.habit.leaks
            if not dead.holds or not is_known or self.chance(0.4):
                return
            world.clock.later(
                self.dice.choice([0.001, 0.06, 0.5, 1.5]), lambda: self._heir(dead.pid.pid)
            )

        world.kernel.on_exit.append(inherit)

    def _heir(self, pid: int) -> None:
        world = self.world
        if pid in world.kernel.table:
            return
        world.kernel.reuse(pid)
        path = f"/user.slice/heir-{pid}-{world.kernel.reused}"
        owner = CgroupOwner(runtime="user-session", cgroup_path=path, leaf_path=path)
        group = world.kernel.make_group(path)
        place = self.dice.choice([None, None, *self.places])
        habit = Habit(device=place, used_mib=200 if place else 0)
        heir = world.kernel.spawn("heir", group, owner, None, habit)
        self.play.heirs.add(heir.tenant)
        world.allowances[heir.tenant] = Allowance(
            cls="low", quota_mib=world.default_quota_mib, runtime="pgrp"
        )

    def _hidden(self) -> None:
        place = self.dice.choice(self.places)
        world = self.world

        def grow() -> None:
            for process in world.kernel.alive():
                if process.habit.device == place and not process.habit.is_hidden:
                    habit = Habit(device=place, grow_mib_s=4_000, goal_mib=6_000, is_hidden=True)
                    owner = process.owner
                    tenant = None if owner.runtime == "user-session" else process.tenant
                    world.kernel.spawn(
                        process.comm, process.group, owner, tenant, habit, parent=process
                    )
                    self.play.features.add("unattributed")
                    return

        at(world, self.dice.uniform(0.5, 3.0), grow)

    def _leak(self) -> None:
        place = self.dice.choice(self.places)

        def leak() -> None:
            self.world.cards.cards[place].leaked_bytes = 2_000 * MIB
            self.play.features.add("unattributed")

        at(self.world, self.dice.uniform(0.5, 3.0), leak)

    def _cgroup_fails(self) -> None:
        what = self.dice.choice(["freeze", "thaw", "kill", "throttle", "restore"])
        self.play.features.add(f"{what} fails")
        at(
            self.world,
            0.0,
            lambda: self.world.cgroups.failing.__setitem__(what, self.dice.choice([1, 2, 5])),
        )
        self.play.quiet.append(self.world.cgroups.failing.clear)

    def _slow_description(self) -> None:
        self.world.docker.describe_s = self.dice.choice([0.5, 3.0])

    def _reload(self) -> None:
        def reload() -> None:
            agent = self.world.agent
            self.world.configure(quota={**SETTINGS["quota"], "soft_hold_s": 2.0})
            if agent is not None:
                agent.adopt(self.world.config())  # type: ignore[attr-defined]

        at(self.world, self.moment(), reload)

    def _pager(self) -> None:
        at(self.world, self.moment(), lambda: setattr(self.world.pager, "is_down", True))
        self.play.quiet.append(lambda: setattr(self.world.pager, "is_down", False))
