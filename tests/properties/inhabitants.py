"""Who lives in a generated world."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpuwarden.model.snapshot import Health
from gpuwarden.sim.node.allowance import Allowance
from gpuwarden.sim.node.containers import Container
from gpuwarden.sim.node.process import Habit
from gpuwarden.sim.scenario import at
from tests.properties.play import MIB, Author


class Inhabitants(Author):
    """Services, tenants of all classes, bare processes, an MPS server."""

    def write(self) -> None:
        """Put them in."""
        if self.chance(0.15):
            self._split()
        if self.chance(0.7):
            self._protected()
        for n in range(self.dice.randint(1, 4)):
            self._tenant(n)
        if self.chance(0.2):
            self._bare()
        if self.chance(0.15):
            self._mps()

    def _split(self) -> None:
        whole = self.dice.choice(self.places)
        size = self.world.cards.cards[whole].total_bytes // MIB // 2
        slices = self.world.cards.split(whole, [size, size])
        self.places = [p for p in self.places if p != whole] + [s.id for s in slices]
        self.play.features.add("mig")

    def _protected(self) -> None:
        name = "serve"
        service = self.world.service(name, needs_free_mib=self.dice.choice([0, 0, 1_024]))
        self.world.container(
            name,
            cls="protected",
            quota_mib=self.dice.choice([None, 2_048, 8_192]),
            service=name,
            habits=(
                Habit(device=self.dice.choice(self.places), used_mib=self.dice.randint(500, 4_000)),
            ),
            restart=self.dice.choice(["no", "always"]),
        )
        if self.chance(0.15):
            begin = self.moment()
            at(
                self.world,
                begin,
                lambda: setattr(service, "forced", self.dice.choice([Health.RED, Health.UNKNOWN])),
            )
            at(self.world, begin + 2, lambda: setattr(service, "forced", None))
            self.play.quiet.append(lambda: setattr(service, "forced", None))

    def _tenant(self, n: int) -> None:
        dice = self.dice
        cls = dice.choices(["high", "normal", "low", "best-effort"], [1, 2, 5, 2])[0]
        quota = dice.choice([2_048, 4_096, 8_192, 16_384, None])
        start = dice.choice([0.0, 0.0, dice.uniform(0, 4)])
        habits = [self._habit(quota)]
        if self.chance(0.2):
            habits.append(self._habit(quota))
        grace = dice.choice([None, None, 0.0, 0.3, 2.5])
        rest: dict[str, Any] = {
            "restart": dice.choice(["no", "no", "always", "on-failure"]),
            "owner_key": dice.choice([None, f"compose:shop/{n % 2}"]),
        }
        if self.chance(0.12):
            rest["recreate_s"] = dice.uniform(0.2, 1.0)
            rest["restart"] = "no"
        if quota is not None and self.chance(0.2):
            rest["soft_mib"] = quota // 2

        def begin() -> None:
            made = self.world.container(
                f"{cls}{n}", cls=cls, quota_mib=quota, grace_s=grace, habits=tuple(habits), **rest
            )
            self.play.restarts[made.id] = made.restart
            self._troubles(made)

        if start:
            at(self.world, start, begin)
        else:
            begin()

    def _habit(self, quota: int | None) -> Habit:
        dice = self.dice
        allowed = quota or 8_192
        size = dice.choice([0.3, 0.6, 0.97, 1.01, 1.5])
        used = int(allowed * size)
        grows = self.chance(0.5)
        return Habit(
            device=dice.choice(self.places),
            used_mib=min(used, 20_000),
            grow_mib_s=dice.choice([200, 1_500, 8_000, 60_000]) if grows else 0,
            goal_mib=min(36_000, int(allowed * dice.choice([0.9, 1.005, 1.3, 3.0])))
            if grows
            else 0,
            obeys=self.chance(0.6),
            exit_s=dice.choice([0.02, 0.3, 1.0]),
            shrinks_on_term_mib=int(allowed * 0.4) if self.chance(0.1) else None,
            forks_every_s=0.1 if self.chance(0.06) else None,
            free_s=dice.choice([0.0, 0.05, 0.4]),
            leaks=self.chance(0.03),
            reaped=self.chance(0.95),
        )

    def _troubles(self, made: Container) -> None:
        """What a container does or suffers later."""
        world = self.world
        if self.chance(0.1):
            at(world, self.moment(), lambda: world.docker.pause(made))
            self.play.paused.add(made.tenant)
            self.play.quiet.append(lambda: world.docker.unpause(made) if made.is_paused else None)
        if self.chance(0.12):
            at(world, self.moment(), lambda: self._stick(made))
            self.play.quiet.append(self._unstick)
        if self.chance(0.15):
            at(world, self.moment(), lambda: self._leave(made))
        if self.chance(0.1):
            at(world, self.moment(), lambda: world.docker.remove(made))
        if self.chance(0.2):
            begin = self.moment()
            at(world, begin, lambda: self._spike(made, 1.3))
            at(world, begin + self.dice.choice([0.05, 0.15, 1.0]), lambda: self._spike(made, 0.5))

    def _stick(self, made: Container) -> None:
        if made.main is not None and made.main.is_alive:
            self.world.kernel.set_stuck(made.main, True)

    def _unstick(self) -> None:
        for process in self.world.kernel.alive():
            if process.is_stuck:
                self.world.kernel.set_stuck(process, False)

    def _leave(self, made: Container) -> None:
        if made.main is not None and made.main.is_alive:
            self.world.kernel.end(made.main, "by itself")

    def _spike(self, made: Container, times: float) -> None:
        allowance = self.world.allowances[made.tenant]
        process = made.main
        if process is None or not process.is_alive or process.habit.device is None:
            return
        place = process.habit.device
        room = self.world.cards.room(process, place) + process.holds.get(place, 0)
        process.holds[place] = min(room, int((allowance.quota_mib or 4_096) * times) * MIB)

    def _bare(self) -> None:
        dice = self.dice
        runtime, unit, job = dice.choice(
            [
                ("user-session", None, None),
                ("systemd-service", "job.service", None),
                ("slurm", None, "77"),
            ]
        )
        self.world.configure(default={"memory": "6GiB", "memory_max": "80GiB"})
        self.world.bare(
            "python",
            Habit(
                device=dice.choice(self.places),
                used_mib=dice.choice([1_000, 7_000]),
                grow_mib_s=dice.choice([0, 2_000]),
                goal_mib=9_000,
                obeys=self.chance(0.5),
            ),
            runtime=runtime,
            unit=unit,
            job=job,
            allowance=Allowance(
                cls="low",
                quota_mib=6 * 1024,
                owner_key=f"unit:{unit}" if unit else "",
                runtime="pgrp" if runtime == "user-session" else runtime,
            ),
        )
        self.world.default_quota_mib = 6 * 1024
        for tenant, old in list(self.world.allowances.items()):
            if old.quota_mib is None:
                self.world.allowances[tenant] = replace(old, quota_mib=6 * 1024)

    def _mps(self) -> None:
        process = self.world.bare(
            "nvidia-cuda-mps-server",
            Habit(device=self.dice.choice(self.places), used_mib=self.dice.choice([500, 9_000])),
            uid=0,
            runtime="systemd-service",
            unit="mps.service",
        )
        self.world.allowances[process.tenant] = Allowance(
            cls="low", quota_mib=None, is_never_victim=True, runtime="systemd-service"
        )
        self.play.features.add("mps")
