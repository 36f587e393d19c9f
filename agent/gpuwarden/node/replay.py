"""Re-runs the decisions of a journal and prints any difference: same inputs, same decision."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from gpuwarden.config import Config
from gpuwarden.model.decision import Decision
from gpuwarden.node.journal import Reading, Record, read
from gpuwarden.policy.decide import decide

_DECISION: TypeAdapter[Decision] = TypeAdapter(Decision)
_ABSENT = "(absent)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One value of a tick's decision that would be another one now; ``field`` is its path."""

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
    # Both through the same codec: a tuple read from JSON and one just made then compare alike. As
    # Python values, because a set has no order that two lists of it would share.
    coded = _DECISION.dump_python(again, mode="json")
    ours = _DECISION.dump_python(_DECISION.validate_python(coded))
    theirs = _DECISION.dump_python(record.decision)
    for place, recorded, replayed in _unlike(theirs, ours, ""):
        yield Difference(
            at=record.snapshot.at,
            wall=record.snapshot.wall,
            field=place,
            recorded=_short(recorded),
            replayed=_short(replayed),
        )


def _unlike(theirs: object, ours: object, place: str) -> Iterator[tuple[str, object, object]]:
    """The innermost values that differ, each with its path."""
    if theirs == ours:
        return
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in dict.fromkeys((*theirs, *ours)):
            inner = f"{place}.{key}" if place else str(key)
            yield from _unlike(theirs.get(key, _ABSENT), ours.get(key, _ABSENT), inner)
    elif isinstance(theirs, tuple) and isinstance(ours, tuple) and len(theirs) == len(ours):
        for number, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            yield from _unlike(one, other, f"{place}[{number}]")
    else:
        yield place, theirs, ours


def _short(value: object) -> str:
    text = str(value) if value is _ABSENT else repr(value)
    return text if len(text) <= 400 else text[:397] + "..."
