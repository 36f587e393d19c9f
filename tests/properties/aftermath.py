"""What must not be left of a world once it has been left in peace: a frozen group, a restart policy or a
throttle that nobody gives back."""

from __future__ import annotations

from collections.abc import Iterator

from gpuwarden.model.ids import TenantId
from tests.properties.play import Play


def left_behind(play: Play, down: list[tuple[float, float]]) -> list[str]:
    """Nothing frozen past its time, nothing owed for ever. ``down``: when no agent ran."""
    wrong = list(_frozen(play, down))
    if play.world.agent is not None and play.enforces:
        wrong += _owed(play)
    return wrong


def unreturned(play: Play) -> list[TenantId]:
    """Whose restart policy is not what its owner gave it."""
    return [
        c.tenant
        for c in play.world.docker.containers.values()
        if play.restarts.get(c.id, c.restart) != c.restart
    ]


def due_in_s(play: Play) -> float | None:
    """How long until the last of what the agent knows that it owes is due; None: it owes nothing of what
    is missing."""
    decision = play.world.board.decision
    if decision is None:
        return None
    wall, missing = play.world.clock.wall(), unreturned(play)
    due = [d.due_wall - wall for d in decision.memory.debts if d.tenant in missing and d.due_wall]
    return max(due, default=None)


def _frozen(play: Play, down: list[tuple[float, float]]) -> Iterator[str]:
    world = play.world
    ttl = world.config().ladder.hold_ttl_s
    held = [
        *world.cgroups.holds,
        *((path, since, world.clock.now()) for path, since in world.cgroups.held_since.items()),
    ]
    for path, begun, ended in held:
        excused = sum(max(0.0, min(ended, b) - max(begun, a)) for a, b in down)
        excused += 3.0 if "thaw fails" in play.features else 0.0
        if ended - begun > ttl + 1.2 + excused + 3 * bool(down):
            yield f"frozen for {ended - begun:.2f} s: {path}"
    for group in world.kernel.groups.values():
        is_paused = any(c.group is group and c.is_paused for c in world.docker.containers.values())
        if group.is_frozen and group.path not in world.cgroups.held_since and not is_paused:
            yield f"frozen by nobody: {group.path}"


def _owed(play: Play) -> Iterator[str]:
    world = play.world
    decision = world.board.decision
    cases = set(decision.memory.cases) if decision is not None else set()
    for container in world.docker.containers.values():
        given = play.restarts.get(container.id)
        if given is not None and container.restart != given and container.tenant not in cases:
            name = container.name
            yield f"restart policy of {name} stays {container.restart}, was {given}"
        throttled = (
            container.group is not None
            and container.is_running
            and "cpu.max" in container.group.settings
        )
        if throttled and container.tenant not in cases:
            yield f"throttled for ever: {container.name}"
