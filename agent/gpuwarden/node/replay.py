"""Re-runs the decisions of a journal and prints any difference: same inputs, same decision."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from pydantic import TypeAdapter

from gpuwarden.config import Config
from gpuwarden.model.decision import Decision
from gpuwarden.node.journal import Reading, Record, read
from gpuwarden.policy.decide import decide

_DECISION: TypeAdapter[Decision] = TypeAdapter(Decision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One tick whose decision would be another one now."""

    at: float
    wall: float
    field: str
    recorded: str
    replayed: str


@dataclass(slots=True)
class Replay:
    """What a replay met; ``differences`` is empty when every decision is made again as it was."""

    ticks: int = 0
    reading: Reading | None = None
    without_config: int = 0


def differences(journal: Path, replay: Replay) -> Iterator[Difference]:
    """Every difference, in order; counts go to ``replay``."""
    replay.reading = Reading()
    cfg: Config | None = None
    for record in read(journal, replay.reading):
        if record.config is not None:
            cfg = Config.model_validate_json(record.config)
        if record.kind != "tick" or record.snapshot is None:
            continue
        if cfg is None:
            replay.without_config += 1
            continue
        replay.ticks += 1
        yield from _compare(cfg, record)


def _compare(cfg: Config, record: Record) -> Iterator[Difference]:
    if record.memory is None or record.snapshot is None or record.decision is None:
        return
    again = decide(cfg, record.memory, record.snapshot)
    # Both through the same codec: a tuple read from JSON and one just made then compare alike.
    ours = _DECISION.dump_python(again, mode="json")
    theirs = _DECISION.dump_python(record.decision, mode="json")
    for item in fields(Decision):
        if ours[item.name] != theirs[item.name]:
            yield Difference(
                at=record.snapshot.at,
                wall=record.snapshot.wall,
                field=item.name,
                recorded=_short(theirs[item.name]),
                replayed=_short(ours[item.name]),
            )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 400 else text[:397] + "..."
