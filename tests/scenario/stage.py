"""What the scenarios share: a world with the real node in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuwarden.sim.node.containers import Container
from gpuwarden.sim.node.process import Habit
from gpuwarden.sim.scenario import card
from gpuwarden.sim.world import World
from tests.simulated.agent import inhabited

GIB_MIB = 1024


def node(settings: Mapping[str, Any] | None = None, *, warm: bool = True, **shape: Any) -> World:
    """A world with the real node in it, enforcing, past its warm-up unless told otherwise."""
    world = World(settings=settings, **shape)
    inhabited(world)
    if warm:
        world.run_for(3.0)
        world.began = world.clock.now()
    return world


def habit(used_mib: int = 1_024, *, on: int = 0, **rest: Any) -> Habit:
    """How a process of these scenarios behaves."""
    return Habit(**{"device": card(on), "used_mib": used_mib, **rest})


def serve(world: World, name: str = "serve", *, on: int = 0, used_mib: int = 4_096) -> Container:
    """A protected service with an objective of its own."""
    world.service(name)
    return world.container(
        name,
        cls="protected",
        quota_mib=None,
        service=name,
        habits=(habit(used_mib, on=on),),
    )


def hog(
    world: World,
    name: str = "hog",
    *,
    quota_mib: int | None = 8 * GIB_MIB,
    used_mib: int = 2 * GIB_MIB,
    grow_mib_s: float = 2 * GIB_MIB,
    goal_mib: int = 20 * GIB_MIB,
    on: int = 0,
    obeys: bool = True,
    **rest: Any,
) -> Container:
    """A low container that grows over its quota: it passes 8 GiB three seconds after its start."""
    own = {
        key: rest.pop(key)
        for key in (
            "exit_s",
            "leaks",
            "free_s",
            "is_hidden",
            "is_mps",
            "shrinks_on_term_mib",
            "reaped",
            "forks_every_s",
        )
        if key in rest
    }
    return world.container(
        name,
        quota_mib=quota_mib,
        habits=(
            habit(used_mib, on=on, grow_mib_s=grow_mib_s, goal_mib=goal_mib, obeys=obeys, **own),
        ),
        **rest,
    )
