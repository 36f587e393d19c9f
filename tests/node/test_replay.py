"""A journal's decisions made again: the same everywhere, and a difference is named by its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gpuwarden.model.decision import Decision
from gpuwarden.model.memory import Memory
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.node.journal import FileJournal
from gpuwarden.node.replay import Difference, Replay, differences
from gpuwarden.policy.decide import decide
from tests.policy.builders import NOW, config, gpu, memory, snap, tenant, use

CFG = config("observe")


def look(at: float) -> Snapshot:
    """Forty tenants over their quota: as many claims to remember as confirmed."""
    crowd = [tenant(f"hog-{number}", quota_mib=100) for number in range(40)]
    uses = [use(who, 1_000, at=at) for who in crowd]
    return snap(at, gpus=[gpu(at=at, listed_at=at)], tenants=crowd, uses=uses)


def written(folder: Path, before: Memory, seen: Snapshot, decision: Decision) -> list[Difference]:
    journal = FileJournal(folder, 2**20)
    journal.begin(CFG.model_dump_json(by_alias=True), before)
    journal.intend(before, seen, decision)
    journal.close()
    met = Replay()
    found = list(differences(folder, met))
    assert met.ticks == 1
    return found


def confirmed() -> tuple[Memory, Snapshot, Decision]:
    before = decide(CFG, memory(), look(NOW)).memory
    seen = look(NOW + 0.1)
    return before, seen, decide(CFG, before, seen)


def test_what_has_no_order_is_no_difference(tmp_path: Path) -> None:
    before, seen, decision = confirmed()
    assert len(decision.memory.confirmed) == 40
    # The same set, as another process may lay it out.
    shuffled = frozenset(sorted(decision.memory.confirmed, reverse=True))
    other = replace(decision, memory=replace(decision.memory, confirmed=shuffled))
    assert written(tmp_path, before, seen, other) == []


def test_a_difference_is_named_by_its_place(tmp_path: Path) -> None:
    before, seen, decision = confirmed()
    wrong = replace(decision, memory=replace(decision.memory, serial=7_000, last_at=1.0))
    found = written(tmp_path, before, seen, wrong)
    assert [(d.field, d.recorded) for d in found] == [
        ("memory.last_at", "1.0"),
        ("memory.serial", "7000"),
    ]
