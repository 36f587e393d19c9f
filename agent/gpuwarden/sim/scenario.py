"""Scenarios on simulated time: at this second that happens, by that second this is true.

``at`` writes down what will happen; ``expect`` lets time go by until its claims hold and fails, with
the timeline, when they do not hold in time; ``always`` fails as soon as one does not hold.
"""

from collections.abc import Callable, Iterable
from functools import partial

from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.sim.node.containers import Container
from gpuwarden.sim.node.ledger import HARM
from gpuwarden.sim.node.process import Process
from gpuwarden.sim.world import World

STEP_S = 0.05
Who = Container | Process


class Unmet(AssertionError):
    """A claim that did not hold in time."""


def elapsed(world: World) -> float:
    """Seconds since the world began."""
    return world.clock.now() - world.began


def at(world: World, second: float, *calls: Callable[[], object]) -> None:
    """These calls happen at ``second`` of the world."""
    for call in calls:
        world.clock.later(second - elapsed(world), partial(_happen, call))


def _happen(call: Callable[[], object]) -> None:
    call()


def expect(world: World, *, by: float, **claims: object) -> None:
    """Every claim holds at some moment until ``by``, all at the same one."""
    while True:
        wrong = unmet(world, claims)
        if not wrong:
            return
        if elapsed(world) >= by - 1e-9:
            raise Unmet(_report(world, by, wrong))
        world.run_for(min(STEP_S, by - elapsed(world)))


def always(world: World, *, until: float, **claims: object) -> None:
    """Every claim holds at every moment until ``until``."""
    while True:
        wrong = unmet(world, claims)
        if wrong:
            raise Unmet(_report(world, until, wrong))
        if elapsed(world) >= until - 1e-9:
            return
        world.run_for(min(STEP_S, until - elapsed(world)))


def unmet(world: World, claims: dict[str, object]) -> list[str]:
    """What does not hold now, in words."""
    wrong = []
    for name, wanted in claims.items():
        found = _CLAIMS[name](world, wanted)
        if found is not None:
            wrong.append(f"{name}: wanted {_shown(wanted)}, {found}")
    return wrong


def kinds(world: World, who: Who) -> list[str]:
    """What was done to somebody, in order, as the world saw it."""
    return [e.kind for e in world.ledger.harm() if e.tenant == who.tenant]


def _shown(wanted: object) -> str:
    if isinstance(wanted, Container):
        return wanted.name
    if isinstance(wanted, list | tuple):
        return ", ".join(map(_shown, wanted))
    return wanted.comm if isinstance(wanted, Process) else str(wanted)


def _people(wanted: object) -> Iterable[Who]:
    if isinstance(wanted, Container | Process):
        return [wanted]
    return (
        [w for w in wanted if isinstance(w, Container | Process)]
        if isinstance(wanted, Iterable)
        else []
    )


def _alive(world: World, wanted: object) -> str | None:
    dead = [_shown(w) for w in _people(wanted) if not world.is_alive(w.tenant)]
    return f"{dead} are dead" if dead else None


def _dead(world: World, wanted: object) -> str | None:
    alive = [_shown(w) for w in _people(wanted) if world.is_alive(w.tenant)]
    return f"{alive} live" if alive else None


def _freed(world: World, wanted: object) -> str | None:
    """Dead, and no byte of it is left on any device."""
    held = {_shown(w): world.bytes_of(w.tenant) for w in _people(wanted)}
    still = {name: devices for name, devices in held.items() if devices}
    return _dead(world, wanted) or (f"still held: {still}" if still else None)


def _untouched(world: World, wanted: object) -> str | None:
    hit = {_shown(w): kinds(world, w) for w in _people(wanted) if kinds(world, w)}
    return f"{hit}" if hit else None


def _count(world: World, kind: str, wanted: object) -> str | None:
    found = len(world.ledger.of(kind))
    return None if found == wanted else f"found {found}"


def _cordoned(world: World, wanted: object) -> str | None:
    found = {
        i.device
        for i in world.board.incidents
        for s in i.steps
        if s.kind == "cordon" and s.result == "done"
    }
    return None if wanted in found or wanted == found else f"cordoned are {sorted(map(str, found))}"


def _done(world: World, wanted: object) -> str | None:
    """A pair of somebody and the kinds done to him, in order."""
    if not isinstance(wanted, tuple):
        return "not a pair"
    who, expected = wanted
    found = kinds(world, who)
    return None if found == list(expected) else f"found {found}"


def _findings(world: World, wanted: object) -> str | None:
    """Rules that claim something now."""
    decision = world.board.decision
    found = sorted({f.rule for f in decision.findings}) if decision is not None else []
    wished = (
        [wanted]
        if isinstance(wanted, str)
        else list(wanted)
        if isinstance(wanted, Iterable)
        else []
    )
    return None if all(w in found for w in wished) else f"found {found}"


def _withheld(world: World, wanted: object) -> str | None:
    found = sorted(
        {s.action for i in world.board.incidents for s in i.steps if s.kind == "withheld"}
    )
    return None if wanted in found else f"found {found}"


def _calm(world: World, wanted: object) -> str | None:
    """Nothing is on the ladder and nothing is owed (but restart policies, until their time)."""
    decision = world.board.decision
    if decision is None:
        return "nothing was decided yet"
    cases = [str(c.rung) for c in decision.memory.cases.values()]
    owed = [str(d.kind) for d in decision.memory.debts if d.due_wall is None]
    frozen = sorted(world.cgroups.held_since)
    return None if not (cases or owed or frozen) else f"cases {cases}, owed {owed}, frozen {frozen}"


def _that(world: World, wanted: object) -> str | None:
    if not callable(wanted):
        return "not a question"
    return None if wanted() else "it does not hold"


_CLAIMS: dict[str, Callable[[World, object], str | None]] = {
    "alive": _alive,
    "dead": _dead,
    "freed": _freed,
    "untouched": _untouched,
    "done": _done,
    "pages": lambda world, wanted: _count(world, "page", wanted),
    "cordoned": _cordoned,
    "findings": _findings,
    "withheld": _withheld,
    "calm": _calm,
    "that": _that,
}


def _report(world: World, by: float, wrong: list[str]) -> str:
    lines = [f"by second {by:g}:", *(f"  {w}" for w in wrong), "", "what was done to whom:"]
    for entry in world.ledger.entries:
        mark = "*" if entry.kind in HARM else " "
        lines.append(
            f" {mark} {entry.at - world.began:9.3f}  {entry.kind:<16} {_name(world, entry.tenant)} {entry.device or ''} {entry.text} {entry.action}".rstrip()
        )
    for incident in world.board.incidents:
        lines.append(f"incident {incident.id}: {incident.summary} -> {incident.outcome}")
        lines += [
            f"   {s.at - world.began:9.3f}  {s.kind:<10} {s.result:<9} {s.text}"
            for s in incident.steps
        ]
    return "\n".join(lines)


def _name(world: World, tenant: TenantId | None) -> str:
    if tenant is None:
        return ""
    container = world.docker.by_tenant(tenant)
    return container.name if container is not None else tenant[:40]


def card(index: int = 0) -> DeviceId:
    """The id of the n-th GPU of a world."""
    return DeviceId(f"GPU-{index}")
