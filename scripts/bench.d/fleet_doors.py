"""The doors of real agents, many in one process: each on a port of its own, with a certificate of its own.

What serves is the agent's code (``FleetDoor`` and the NodeService behind it) on a picture that the agent's loop has
made of a simulated node of 8 devices; its 64 tenants are written in, for there are no containers here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from gpuwarden.adapters.command_queue import CommandQueue
from gpuwarden.adapters.fleet_door import FleetDoor
from gpuwarden.adapters.pki.files import OwnCertificate
from gpuwarden.clock import SystemClock
from gpuwarden.model.audit import Audited
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.service import Fitness
from gpuwarden.model.status import View
from gpuwarden.model.tenant import Tenant, TenantClass, Use
from gpuwarden.policy.fleet.rights import AT_A_NODE, may
from gpuwarden.sim.fleet.node import SimNode

DEVICES, TENANTS = 8, 64
GIB = 2**30


class Picture:
    """Implements ``ViewSource``: one that does not change."""

    def __init__(self, view: View) -> None:
        self._view = view

    def view(self) -> View:
        return self._view

    def fitness(self, name: str, now: float) -> Fitness | None:
        return None

    def wait_newer(self, serial: int, timeout_s: float) -> View | None:
        return self._view if self._view.serial > serial else None


class NoAudit:
    """No order comes in through these doors."""

    def audit(self, entry: Audited) -> None:
        raise AssertionError(entry)


def picture(aggregator: str) -> View:
    node = SimNode(0, "default", SystemClock(), devices=DEVICES, aggregator=aggregator)
    view = node.run_to(5.0)
    tenants = tuple(
        Tenant(
            id=TenantId(f"docker:{number:064x}"),
            runtime="docker",
            name=f"team-{number % 8}/training-job-{number}",
            cls=TenantClass.NORMAL,
            hard_bytes=16 * GIB,
        )
        for number in range(TENANTS)
    )
    uses = tuple(
        Use(
            tenant=each.id,
            device=DeviceId(f"GPU-{number % DEVICES}"),
            used_bytes=GIB,
            listed_at=view.at,
        )
        for number, each in enumerate(tenants)
    )
    return replace(view, snapshot=replace(view.snapshot, tenants=tenants, uses=uses))


@contextmanager
def doors(folder: Path, names: Sequence[str], aggregator: str) -> Iterator[list[str]]:
    """Where each listens; ``folder`` holds a certificate of each name."""
    view, clock = picture(aggregator), SystemClock()
    addresses = []
    with ExitStack() as open_doors:
        for name in names:
            certificate = OwnCertificate(folder / name, (aggregator,))
            commands = CommandQueue(NoAudit(), clock)
            door = FleetDoor(
                "127.0.0.1:0",
                Picture(view),
                certificate,
                clock,
                lambda method, who: may(AT_A_NODE, method, who),
                commands,
            )
            door.start()
            open_doors.callback(door.stop)
            addresses.append(f"127.0.0.1:{door.port}")
        yield addresses
