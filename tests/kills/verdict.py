"""What has to be true of a play in which the agent died, beside the same play undisturbed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from gpuwarden.model.action import Kind, Result
from gpuwarden.model.decision import Incident
from gpuwarden.model.ids import TenantId
from gpuwarden.node.journal import Reading, read
from gpuwarden.node.replay import Replay, differences
from gpuwarden.sim.world import World
from tests.kills.deaths import Run

PASSED = "passed without action"
CLAIMS = {
    "tenant stopped": "stop",
    "tenant killed": "kill",
    "tenant ended on request": "term",
    "service restarted": "restart-tenant",
    "service rolled back": "roll-back",
    "tenant throttled": "throttle",
    PASSED: "",
}
"""What an incident may say of its end, the strongest first, and the effect that makes it true."""
REMEDIES = ("restart-services", "reset-gpu", "reload-driver", "reboot")
OF_SOMEBODY = frozenset({"quota", "tombstone", "reserve"})
ALLOWED = frozenset({"relocate", "restart-tenant", "roll-back"})
SLACK_S = 0.3
"""From when a hold has to end until the tick that ends it."""


def faults(run: Run, undisturbed: Run, *, gaps: int = 0) -> list[str]:
    """Everything that is wrong, in words; ``gaps``: how many the journal may have."""
    return [
        *_another_end(run, undisturbed),
        *_protected_hit(run.world),
        *_twice(run, undisturbed),
        *_remedies(run, undisturbed),
        *_killed_in_vain(run, undisturbed),
        *_unwritten(run),
        *_held_too_long(run),
        *_still_owed(run),
        *_at_once(run),
        *_unexplained(run, undisturbed),
        *_another_replay(run, gaps),
    ]


def _another_end(run: Run, undisturbed: Run) -> Iterator[str]:
    """Exactly one outcome: every tenant ends as it would have ended."""
    found, wanted = _standing(run.world), _standing(undisturbed.world)
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            yield f"{name} ends as {found.get(name)}, not as {wanted.get(name)}"
    harmed, allowed = _harmed(run.world), _harmed(undisturbed.world)
    if harmed != allowed:
        yield f"harmed are {harmed}, not {allowed}"


def _protected_hit(world: World) -> Iterator[str]:
    """Nothing is ever done to a protected one but the move and the restart its operator allows."""
    for entry in world.ledger.harm():
        allowance = world.allowances.get(entry.tenant) if entry.tenant is not None else None
        if allowance is not None and allowance.cls == "protected" and entry.kind not in ALLOWED:
            yield f"a protected tenant was hit: {entry}"


def _standing(world: World) -> dict[str, object]:
    """How everybody stands: alive, where, with which restart policy and settings."""
    standing: dict[str, object] = {}
    for container in world.docker.containers.values():
        group = container.group
        standing[container.name] = {
            "running": container.is_running,
            "restart": container.restart,
            "paused": container.is_paused,
            "frozen": group is not None and group.is_frozen,
            "settings": dict(group.settings) if group is not None and group.is_there else {},
            "devices": sorted(world.bytes_of(container.tenant)),
        }
    for process in world.kernel.alive():
        if process.owner.container_id is None:
            standing[process.comm] = "alive"
    standing["drained"] = world.cordons.is_drained
    standing["limits"] = sorted(
        (_name(world, TenantId(f"docker:{path.rpartition('/')[2]}")), device)
        for path, device in world.cards.limits
    )
    return standing


def _harmed(world: World) -> dict[str, list[str]]:
    """Who was asked or made to end, by name, and how often each process of that name ended."""
    names = {e.tenant: _name(world, e.tenant) for e in world.ledger.entries if e.tenant}
    hit = {names[e.tenant] for e in world.ledger.of("term", "kill", "stop") if e.tenant}
    ends = Counter(names[e.tenant] for e in world.ledger.of("exit") if e.tenant)
    moved = Counter(names[e.tenant] for e in world.ledger.of("relocate", "roll-back") if e.tenant)
    return {
        "hit": sorted(hit),
        "ends": sorted(f"{name} x{count}" for name, count in ends.items()),
        "moved": sorted(f"{name} x{count}" for name, count in moved.items()),
    }


def _name(world: World, tenant: TenantId | None) -> str:
    """A tenant's name; containers that came after one another share it."""
    started = next((e for e in world.ledger.of("start") if e.tenant == tenant), None)
    return started.text if started is not None else str(tenant)


def _twice(run: Run, undisturbed: Run) -> Iterator[str]:
    """No process hears TERM twice; nobody is moved twice; no page is lost, and few come twice."""
    world = run.world
    heard = Counter(pid for e in world.ledger.of("term") for pid in e.pids)
    for pid, count in heard.items():
        if count > 1:
            yield f"{count} TERM to {pid}"
    done = Counter(e.action for e in world.ledger.harm() if e.action and e.kind != "kill")
    for action, count in done.items():
        if count > 1:
            yield f"{action} had its effect {count} times"
    pages, wanted = len(world.ledger.of("page")), len(undisturbed.world.ledger.of("page"))
    if not wanted <= pages <= wanted + world.crashes:
        yield f"{pages} pages instead of {wanted}"


def _remedies(run: Run, undisturbed: Run) -> Iterator[str]:
    """Every remedy has its effect exactly as often as when nobody dies; every cordon is given back. (One more
    is taken of a device that is locked up for longer because nobody is there to end its offender.)"""
    for kind in REMEDIES:
        found, wanted = (len(r.world.ledger.of(kind)) for r in (run, undisturbed))
        if found != wanted:
            yield f"{kind}: {found} times instead of {wanted}"
    drains, resumes = (len(run.world.ledger.of(kind)) for kind in ("drain", "resume"))
    if drains != resumes:
        yield f"{drains} drains and {resumes} resumes"


def _killed_in_vain(run: Run, undisturbed: Run) -> Iterator[str]:
    """Who has heard TERM and goes on it is not killed: a death of the agent takes nobody's grace away."""
    goes = {_name(undisturbed.world, e.tenant) for e in undisturbed.world.ledger.of("term")}
    goes -= {_name(undisturbed.world, e.tenant) for e in undisturbed.world.ledger.of("kill")}
    for entry in run.world.ledger.of("kill"):
        has_heard = run.world.ledger.of("term", tenant=entry.tenant)
        if has_heard and _name(run.world, entry.tenant) in goes:
            yield f"killed although it was about to go: {entry}"


def _unwritten(run: Run) -> Iterator[str]:
    """Every effect on somebody has an intent that was on disk before."""
    for entry in run.world.ledger.harm():
        if entry.action not in run.steps.intended:
            yield f"no intent on disk before {entry}"


def _held_too_long(run: Run) -> Iterator[str]:
    """A hold lasts no longer than it may, but for the time nobody was there to end it."""
    world = run.world
    longest = world.config().ladder.hold_ttl_s + world.crashes * run.down_s + SLACK_S
    for path, since, until in world.cgroups.holds:
        if until - since > longest:
            yield f"{path} was held for {until - since:.2f} s"
    for path in world.cgroups.held_since:
        yield f"{path} is still held"


def _still_owed(run: Run) -> Iterator[str]:
    """In the end nothing is owed and nobody is on the ladder."""
    memory = run.node.memory
    limits = {(t, d) for t, d in _living_limits(run)}
    for debt in memory.debts:
        if debt.kind is not Kind.CLEAR_LIMIT or (debt.tenant, debt.device) not in limits:
            yield f"still owed: {debt.kind.value} to {debt.target.name}"
    for case in memory.cases.values():
        yield f"still on the ladder: {case.target.name} on {case.rung.value}"
    if run.node.journal_fault:
        yield f"the journal is given up: {run.node.journal_fault}"
    for port, count in run.node.observer.port_errors.items():
        yield f"{count} unexpected exceptions of port {port}"
    if run.node.actor.port_errors:
        yield f"{run.node.actor.port_errors} unexpected exceptions in acting"


def _living_limits(run: Run) -> Iterator[tuple[TenantId, object]]:
    """Limits of those who live: those stay."""
    for debt in run.node.memory.debts:
        if run.world.is_alive(debt.tenant):
            yield debt.tenant, debt.device


def _at_once(run: Run) -> Iterator[str]:
    """One eviction in flight a device: the next begins after the bytes of the last one are back."""
    ledger = run.world.ledger
    spans: list[tuple[float, float, str]] = []
    for tenant in {e.tenant for e in ledger.of("term", "kill") if e.tenant}:
        first = min(e.at for e in ledger.of("term", "kill", "stop", tenant=tenant))
        last = max((e.at for e in ledger.of("exit", tenant=tenant)), default=first)
        spans.append((first, last, _name(run.world, tenant)))
    spans.sort()
    for before, after in pairwise(spans):
        if after[0] < before[1]:
            yield f"{after[2]} is evicted while {before[2]} still is"


def _unexplained(run: Run, undisturbed: Run) -> Iterator[str]:
    """The incidents of who was hit are those of the undisturbed play; all are closed, say what became
    of every action, and of every effect by which action it came."""
    final = {r.value for r in Result} - {Result.STARTED.value}
    told: dict[str, str] = {}
    for incident in run.world.board.incidents:
        if incident.closed_at is None:
            yield f"incident {incident.id} is open"
        for step in incident.steps:
            if not step.action or step.kind == "withheld":
                continue
            told[step.action] = step.result
            if step.result not in final:
                yield f"incident {incident.id}: {step.kind} is {step.result!r}"
        yield from _untrue(run.world, incident)
    for entry in run.world.ledger.harm():
        is_known = told.get(entry.action) in (Result.DONE, Result.UNKNOWN)
        if not is_known and not entry.action.startswith("limits/"):
            yield f"no incident tells of {entry}: {told.get(entry.action)}"
    found, wanted = _accused(run.world), _accused(undisturbed.world)
    if found != wanted:
        yield f"accused are {sorted(found.items())}, not {sorted(wanted.items())}"


def _accused(world: World) -> Counter[str]:
    """How many incidents there are of whom."""
    return Counter(i.tenant_name for i in world.board.incidents if i.rule in OF_SOMEBODY)


def _untrue(world: World, incident: Incident) -> Iterator[str]:
    """What an incident claims to have done is what the world saw, or no less where that is not known."""
    word, _, doubt = incident.outcome.partition(", ")
    if incident.tenant is None or word not in CLAIMS:
        return
    span = (incident.opened_at, incident.closed_at or world.clock.now())
    seen = {
        e.kind
        for e in world.ledger.of(*CLAIMS.values(), tenant=incident.tenant)
        if span[0] <= e.at <= span[1]
    }
    strongest = next((w for w, kind in CLAIMS.items() if kind in seen), PASSED)
    if doubt:
        order = [*CLAIMS]
        if order.index(word) > order.index(strongest):
            yield f"incident {incident.id}: {incident.outcome!r}, and the world saw {strongest!r}"
    elif word != strongest:
        yield f"incident {incident.id}: {incident.outcome!r}, and the world saw {strongest!r}"


def _another_replay(run: Run, gaps: int) -> Iterator[str]:
    """What is on disk can be read, and the same decisions are made from it again."""
    reading = Reading()
    for _ in read(run.folder, reading):
        pass
    if reading.gaps > gaps:
        yield f"the journal has {reading.gaps} gaps"
    for difference in differences(run.folder, Replay()):
        yield f"another decision at {difference.at}: {difference.field}"
