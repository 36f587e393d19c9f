"""The real node on a simulated world: its loop, its journal's recovery, its crashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpuwarden.adapters import kernel_lines
from gpuwarden.config import Config
from gpuwarden.errors import Unavailable
from gpuwarden.model.action import Outcome
from gpuwarden.model.decision import Decision, Incident
from gpuwarden.model.memory import Memory
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.node.journal import Disk, FileJournal, Record, read
from gpuwarden.node.loop import Node
from gpuwarden.node.recover import Recovered, recover, resume
from gpuwarden.sim.node.ledger import Ledger
from gpuwarden.sim.world import World


@dataclass(slots=True)
class HeapJournal:
    """The records themselves, kept in the world: what a journal is but for its bytes."""

    ledger: Ledger
    records: list[Record] = field(default_factory=list)
    is_broken: bool = False
    keeps_snapshots: bool = False

    def begin(self, memory: Memory) -> None:
        """A new life: what stands is all that is needed of the ones before."""
        incidents = {i.id: i for r in self.records for i in r.incidents}
        self.records = [
            Record(kind="memory", memory=memory),
            Record(kind="incidents", incidents=tuple(incidents.values())),
        ]

    def intend(self, before: Memory, snapshot: Snapshot, decision: Decision) -> None:
        self._write(
            Record(
                kind="tick",
                memory=before,
                snapshot=snapshot if self.keeps_snapshots else None,
                decision=decision,
            )
        )
        for action in decision.actions:
            target = action.target.tenant if action.target is not None else None
            self.ledger.note(
                "intent", target, device=action.device, action=action.id, text=action.kind
            )

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        self._write(Record(kind="outcomes", outcomes=tuple(outcomes)))

    def keep(self, incidents: Sequence[Incident]) -> None:
        self._write(Record(kind="incidents", incidents=tuple(incidents)))

    def remember(self, memory: Memory) -> None:
        self._write(Record(kind="memory", memory=memory))

    def _write(self, record: Record) -> None:
        if self.is_broken:
            raise Unavailable("the journal cannot be written: no space left on device")
        self.records.append(record)


def heap_agent(world: World, journal: HeapJournal) -> Node:
    """A node that goes on from a journal in memory."""
    recovered = recover(journal.records)
    _rewind(world, recovered)
    return resume(world.config(), world.ports(journal), world.clock, recovered, journal.begin)


def file_agent(world: World, folder: Path, disk: Disk | None = None) -> Node:
    """A node on a journal of real files, started as the daemon starts it."""
    cfg: Config = world.config()
    recovered = recover(read(folder))
    _rewind(world, recovered)
    journal = FileJournal(folder, cfg.agent.journal_max_bytes, disk)
    return resume(
        cfg,
        world.ports(journal),
        world.clock,
        recovered,
        lambda memory: journal.begin(cfg.model_dump_json(by_alias=True), memory),
    )


def _rewind(world: World, recovered: Recovered) -> None:
    """Where reading the kernel log goes on, as ``wiring`` has it."""
    before = recovered.memory
    if before.boot_id == world.host.boot:
        world.kernel_log.rewind(-1 if before.kernel_heard is None else before.kernel_heard[0])


def inhabited(world: World, journal: HeapJournal | None = None) -> HeapJournal:
    """Start the real node in a world; its journal."""
    kept = journal or HeapJournal(world.ledger)
    world.kernel_log.reads = kernel_lines.read_message
    world.attach(lambda w: heap_agent(w, kept))
    return kept
