"""What an agent wrote into its journal, read while it writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpuwarden.model.action import Action, Kind, Outcome, Result, Withheld
from gpuwarden.model.decision import IncidentNote, NoteKind
from gpuwarden.node.journal import Record, decode, segments


@dataclass(slots=True)
class Diary:
    """The journal of a state directory, read on from where it was read last."""

    folder: Path
    records: list[Record]
    _offsets: dict[Path, int]

    @staticmethod
    def of(state_dir: Path) -> Diary:
        return Diary(folder=state_dir / "journal", records=[], _offsets={})

    def read(self) -> list[Record]:
        """Every record so far; a line that is still being written is left for later."""
        for path in segments(self.folder):
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._offsets[path] = self._offsets.get(path, 0) + len(line)
                    record = decode(line)
                    if record is not None:
                        self.records.append(record)
        return self.records

    def ordered(self) -> list[tuple[Record, Action]]:
        """Every order with the record of its decision."""
        return [(r, a) for r in self.read() if r.decision for a in r.decision.actions]

    def actions(self, *kinds: Kind, tenant: str = "") -> list[Action]:
        found = [action for _, action in self.ordered()]
        return [
            a
            for a in found
            if (not kinds or a.kind in kinds)
            and (
                not tenant or (a.target is not None and tenant in (a.target.tenant, a.target.name))
            )
        ]

    def outcomes(self, *kinds: Kind, result: Result | None = None) -> list[Outcome]:
        found = [o for r in self.read() for o in r.outcomes]
        return [
            o
            for o in found
            if (not kinds or o.kind in kinds) and (result is None or o.result is result)
        ]

    def withheld(self, budget: str = "") -> list[Withheld]:
        found = [w for r in self.read() if r.decision for w in r.decision.withheld]
        return [w for w in found if not budget or w.budget == budget]

    def notes(self, kind: NoteKind | None = None) -> list[IncidentNote]:
        found = [n for r in self.read() if r.decision for n in r.decision.incidents]
        return [n for n in found if kind is None or n.kind is kind]

    def told(self) -> Iterator[str]:
        """The timeline, a line an event."""
        for record in self.read():
            at = record.snapshot.at if record.snapshot else 0.0
            if record.decision is not None:
                for note in record.decision.incidents:
                    yield f"{at:10.3f} {note.kind.value}: {note.text}"
                for action in record.decision.actions:
                    name = action.target.name if action.target else ""
                    yield f"{at:10.3f} ordered {action.kind.value} {name} ({action.why})"
                for held in record.decision.withheld:
                    yield f"{at:10.3f} withheld {held.kind.value}: {held.budget} ({held.detail})"
            for outcome in record.outcomes:
                text = f"{outcome.kind.value} {outcome.result.value} {outcome.detail}"
                yield f"{outcome.at:10.3f} {text}"
            if record.kind not in ("tick", "outcomes", "incidents"):
                yield f"           [{record.kind}]"
