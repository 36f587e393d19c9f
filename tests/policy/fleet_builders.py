"""The vocabulary of tests of the fleet: literals in, a memory out."""

from __future__ import annotations

from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import Ask, Greeting, Permit, Report
from gpuwarden.policy.fleet.fold import Arrival, FleetMemory, Heard, Joined, fold

NOW = 10_000.0
WALL = 1_700_000_000.0
CFG = AggregatorConfig()
GRACE_S = CFG.sight.grace_s


def greeting(
    node: str, *, boot_id: str = "boot-1", group: str = "default", rack: str = ""
) -> Greeting:
    domains = (("rack", rack),) if rack else ()
    return Greeting(node=node, boot_id=boot_id, log_id=f"log-{node}", group=group, domains=domains)


def report(sequence: int = 1, **more: object) -> Report:
    values: dict[str, object] = {"mode": "enforce", "devices": 8, **more}
    return Report(sequence=sequence, wall=WALL, **values)  # type: ignore[arg-type]


def sick(sequence: int = 1) -> Report:
    return report(sequence, worst=Severity.CRITICAL, faults=("xid-79",))


def ask(
    name: str = "a", *, kind: str = "cordon", subject: str = "GPU-0", age_s: float = 1.0
) -> Ask:
    return Ask(id=name, kind=kind, subject=subject, incident="inc-1", age_s=age_s)


def empty(started_at: float = 0.0) -> FleetMemory:
    """An aggregator that has listened for long."""
    return FleetMemory(started_at=started_at, decided_at=NOW, resumed_at=started_at)


def joined(node: str, *, at: float = NOW, stream: int = 1, **more: str) -> Joined:
    return Joined(at=at, stream=stream, greeting=greeting(node, **more))


def heard(
    node: str,
    told: Report | None = None,
    *asks: Ask,
    at: float = NOW,
    stream: int = 1,
) -> Heard:
    return Heard(at=at, stream=stream, node=node, report=told or report(), asks=asks)


def fleet(count: int, *more: Arrival, group: str = "default", at: float = NOW) -> FleetMemory:
    """So many healthy nodes, and what arrived after that."""
    arrivals: list[Arrival] = []
    for number in range(count):
        arrivals.append(joined(f"n{number}", at=at, group=group))
        arrivals.append(heard(f"n{number}", at=at))
    return fold(empty(), [*arrivals, *more])


def permit(node: str, *, kind: str = "cordon", granted_at: float = NOW, **more: object) -> Permit:
    values: dict[str, object] = {
        "id": f"p-{node}-{granted_at}",
        "boot_id": "boot-1",
        "ask": f"old-{node}-{granted_at}",
        "subject": "GPU-0",
        "group": "default",
        "granted_wall": WALL,
        "granted_at": granted_at,
        **more,
    }
    return Permit(node=node, kind=kind, **values)  # type: ignore[arg-type]
