"""Services that turn red beside tenants that grow, start, both, or neither: what tempts to accuse a neighbour.

By dice of its own, so that the worlds are otherwise what they were.
"""

from __future__ import annotations

from random import Random

from gpuwarden.model.ids import DeviceId
from gpuwarden.model.snapshot import Health
from gpuwarden.sim.node.process import Habit, Process
from gpuwarden.sim.scenario import at
from tests.properties.play import LIFE_S, MIB, Author, Play

WINDOW_S = 2.5
"""``quota.growth_window_s`` of these worlds: a service has to be watched for so long before anybody is accused."""


class Calm(Author):
    """A service among tenants that keep within their quotas: where nothing but growth can accuse anybody."""

    def write(self) -> None:
        """Put them in, most of them on the service's device."""
        home = self.dice.choice(self.places)
        self.world.service("serve")
        self.world.container(
            "serve",
            cls="protected",
            quota_mib=None,
            service="serve",
            habits=(Habit(device=home, used_mib=self.dice.randint(500, 4_000)),),
        )
        for n in range(self.dice.randint(2, 4)):
            place = home if self.chance(0.8) else self.dice.choice(self.places)
            made = self.world.container(
                f"calm{n}",
                cls=self.dice.choice(["low", "low", "normal", "best-effort", "high"]),
                quota_mib=16_384,
                habits=(Habit(device=place, used_mib=self.dice.randint(200, 2_500)),),
            )
            self.play.restarts[made.id] = made.restart


class Reddening:
    """Writes one temptation into a play."""

    def __init__(self, play: Play) -> None:
        self.dice = Random(play.seed * 104_729 + 31)
        self.play, self.world = play, play.world

    def write(self) -> None:
        """At some moment late enough to have been watched, or not."""
        begin = self.dice.uniform(2.0, LIFE_S - 2.0)
        red_after_s = self.dice.choice([-0.4, 0.05, 0.4, 1.0, 2.0])
        at(self.world, begin, self._stir)
        if self.dice.random() < 0.35:
            at(self.world, begin + self.dice.uniform(-2.0, 1.5), self._stir)
        at(self.world, begin + red_after_s, lambda: self._redden(Health.RED))
        at(self.world, begin + red_after_s + 2.0, lambda: self._redden(None))
        self.play.quiet.append(lambda: self._redden(None))

    def _redden(self, health: Health | None) -> None:
        for service in self.world.services.services.values():
            service.forced = health

    def _stir(self) -> None:
        """Somebody beside a service grows, at once or steadily, or starts another process, or hides what it takes."""
        beside = self._beside()
        if not beside:
            return
        process, place = self.dice.choice(beside)
        how = self.dice.choice(["jump", "jump", "steady", "start", "hidden", "little"])
        by = self.dice.choice([300, 700, 2_000]) if how != "little" else 100
        if how in ("jump", "little"):
            room = self.world.cards.room(process, place)
            process.holds[place] = process.holds.get(place, 0) + min(room, by * MIB)
        elif how == "steady":
            held = process.holds.get(place, 0) // MIB
            process.habit.device, process.habit.grow_mib_s = place, 500.0
            process.habit.goal_mib = held + by
        else:
            habit = Habit(device=place, used_mib=by, is_hidden=how == "hidden")
            tenant = None if process.owner.runtime == "user-session" else process.tenant
            self.world.kernel.spawn(
                process.comm,
                process.group,
                process.owner,
                tenant,
                habit,
                uid=process.uid,
                parent=process,
            )

    def _beside(self) -> list[tuple[Process, DeviceId]]:
        """Live processes on the devices of the services, and the service itself; an MPS server starts nobody."""
        carried = {s.tenant for s in self.world.services.services.values()}
        alive = self.world.kernel.alive()
        places = {d for p in alive if p.tenant in carried for d in p.holds}
        return [(p, d) for p in alive for d in p.holds if d in places and p.uid]
