"""The work of taking reports, without a network: looked at, heard by the fleet, and put into a store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from gpuwarden.aggregator.committer import Mark
from gpuwarden.aggregator.ingest import Ingest
from gpuwarden.aggregator.store import Entry
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.clock import SystemClock
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.model.fleet import Greeting
from gpuwarden.policy.fleet.fold import FleetMemory, Heard, Joined, fold
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node

NODES = 200


def report(sequence: int) -> pb.Sample:
    """About 2 KB: eight devices, eight tenants, a finding."""
    found = pb.Sample(sequence=sequence, wall=1.0, mode="enforce")
    for index in range(8):
        found.devices.add(
            id=f"GPU-00000000-0000-0000-0000-{index:012x}",
            index=index,
            name="NVIDIA H100 80GB HBM3",
            sight=node.SIGHT_OK,
            total_bytes=80 * 2**30,
            used_bytes=index * 2**30,
            temperature_c=55.0,
        )
        found.tenants.add(
            tenant=f"docker:{index:064x}",
            name=f"team-{index}/training-job",
            device=index,
            used_bytes=index * 2**30,
        )
    found.findings.add(rule="throttle", key="throttle", severity=node.SEVERITY_WARNING)
    return found


class Keeping:
    """In the committer's place: what is offered is put into the store when somebody says so."""

    waiting = 0

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def offer(self, entry: Entry, mark: Mark) -> bool:
        self.entries.append(entry)
        return True


class Work:
    """Rounds of one message of each of ``NODES`` nodes."""

    def __init__(self, folder: Path) -> None:
        self._store = SqliteStore(folder / "guard.sqlite")
        self._keeping = Keeping()
        committer: Any = self._keeping
        self._clock = SystemClock()
        self._heard: list[Heard] = []
        nobody: Any = None
        self._ingest = Ingest(
            AggregatorConfig(),
            committer,
            self._clock,
            hear=lambda arrival: self._heard.append(arrival),  # type: ignore[arg-type]  # samples alone
            identity_of=nobody,
            enrolment=nobody,
            leadership=nobody,
            order_done=nobody,
        )
        now = self._clock.now()
        greetings = [Greeting(node=f"n{k}", boot_id="b", log_id="l") for k in range(NODES)]
        self._streams = [self._ingest.streams.join(each, 1, now) for each in greetings]
        memory = FleetMemory(started_at=now, decided_at=now, resumed_at=now)
        self._memory = fold(memory, [Joined(at=now, stream=1, greeting=g) for g in greetings])
        self._sequence = 0

    def messages(self) -> list[bytes]:
        self._sequence += 1
        batch = pb.Batch(samples=[report(self._sequence)])
        return [pb.AttendRequest(batch=batch).SerializeToString()] * NODES

    def take(self, messages: list[bytes]) -> float:
        """CPU seconds of this thread."""
        begun, now = time.thread_time(), self._clock.now()
        for stream, data in zip(self._streams, messages, strict=True):
            stream.tokens = 10.0
            self._ingest._by.add(stream, data, now)
        self._ingest.look_at_samples()
        with self._store.transaction():
            self._store.put(self._keeping.entries)
        self._memory = fold(self._memory, self._heard)
        taken = len(self._keeping.entries)
        self._keeping.entries, self._heard = [], []
        used_s = time.thread_time() - begun
        assert taken == NODES
        return used_s

    def close(self) -> None:
        self._store.close()
