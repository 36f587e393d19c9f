"""All nodes of a simulated fleet and their streams, on one event loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from gpuwarden.adapters.pki.files import OwnCertificate
from gpuwarden.adapters.uplink import BACKOFF_MAX_S, BACKOFF_MIN_S
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Unavailable
from gpuwarden.sim.fleet.centre import SimCentre
from gpuwarden.sim.fleet.line import Line
from gpuwarden.sim.fleet.node import SimNode
from gpuwarden.sim.fleet.spool import HeapSpool

FAILURES_TOLD = 5
SHARED = (
    "one process, one thread and one event loop for all nodes",
    "events wait in memory, not in a file a node",
    "certificates are signed straight by the fleet's authority, not by an invitation each",
    "devices, kernels, containers and boots are worlds in memory on a clock that follows the real one",
    "nodes do not listen: the aggregator cannot ask them",
    "nodes have no sinks of their own: what each would have told by itself is only counted",
)
REAL = (
    "one mutual TLS connection and one stream a node, under a certificate of its own",
    "the agent's own loop and policy, desk, conversions, sequence numbers, window, permits, orders",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A node and its stream."""

    node: SimNode
    line: Line
    spool: HeapSpool


class Crowd:
    """``connect`` first; ``close`` ends every stream."""

    def __init__(
        self,
        centre: SimCentre,
        clock: Clock,
        count: int,
        *,
        devices: int,
        sample_every_s: float,
        batch_samples: int,
    ) -> None:
        self.clock = clock
        self.began = clock.now()
        self.members: list[Member] = []
        self.failures: list[str] = []
        self.failed = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._chance = random.Random(count)
        centre.certify([f"sim-{number}" for number in range(count)], clock)
        for number in range(count):
            node = SimNode(number, "default", clock, devices=devices, aggregator=centre.address)
            cfg = replace_cfg(node, sample_every_s, batch_samples)
            spool = HeapSpool(f"log-{number}-{int(clock.wall()):x}", clock.now)
            certificate = OwnCertificate(centre.identity_of(node.name), centre.address)
            line = Line(cfg, node.desk, spool, certificate, node.world.clock)
            self.members.append(Member(node=node, line=line, spool=spool))

    def elapsed(self) -> float:
        return self.clock.now() - self.began

    async def connect(self, pace_s: float, within_s: float) -> float:
        """Every node has its first look and its stream; seconds that it took. ``Unavailable``: not in time."""
        begun = self.clock.now()
        for member in self.members:
            member.line.look(member.node.run_to(self.elapsed()))
            self._tasks.append(asyncio.create_task(self._keep(member)))
            await asyncio.sleep(pace_s)
        waits = [asyncio.create_task(m.line.is_up.wait()) for m in self.members]
        _, missing = await asyncio.wait(waits, timeout=within_s)
        for task in missing:
            task.cancel()
        if missing:
            why = self.failures[0] if self.failures else "no answer"
            raise Unavailable(f"{len(missing)} of {len(waits)} nodes did not connect: {why}")
        return self.clock.now() - begun

    async def _keep(self, member: Member) -> None:
        """As the agent's own thread: a stream, and after its end another, with full jitter."""
        wait_s = BACKOFF_MIN_S
        while True:
            try:
                await member.line.attend()
                why = "the aggregator ended the stream"
            except grpc.RpcError as error:
                said: Any = error
                why = f"{said.code().name}: {said.details()}"
            except GpuwardenError as error:
                why = str(error)
            self.failed += 1
            if len(self.failures) < FAILURES_TOLD:
                self.failures.append(f"{member.node.name}: {why}"[:300])
            await asyncio.sleep(self._chance.uniform(0.0, wait_s))
            wait_s = min(BACKOFF_MAX_S, wait_s * 2)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10.0)

    def unacknowledged(self) -> int:
        return sum(m.spool.waiting for m in self.members)

    def waits_s(self) -> Sequence[float]:
        """How long each event waited for its acknowledgement, sorted."""
        return sorted(wait for m in self.members for wait in m.spool.waits_s)


def replace_cfg(node: SimNode, sample_every_s: float, batch_samples: int) -> Any:
    """The node's settings with another pace of samples."""
    return node.cfg.model_copy(
        update={"sample_every_s": sample_every_s, "batch_samples": batch_samples}
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    """Of sorted values; None where there are none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else None
