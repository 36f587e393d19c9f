"""What was decided of a model's training, and what became of it: on record before anything is asked for."""

from dataclasses import dataclass, field
from enum import StrEnum


class Turn(StrEnum):
    """How far a decision has come."""

    INTENDED = "intended"
    """On disk; the hook may be under way."""
    DELIVERED = "delivered"
    TOLD = "told"
    """No hook is set: people are told."""
    FAILED = "failed"
    """It surely was not taken."""
    UNKNOWN = "unknown"
    """The aggregator ended while it was under way: it is not asked for a second time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainRecord:
    """One decision."""

    id: str
    training: str
    """``full`` or ``incremental``."""
    turn: Turn
    wall: float
    why: str
    """For people: what speaks for it, with numbers and limits."""
    said: str = ""
    """How it was taken, or why not."""
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainState:
    """All that is kept of one service. Wall times are Unix seconds."""

    service: str
    since_wall: float
    """When it was first looked at."""
    upto_wall: float
    """Labels of windows that ended before are in ``labels``."""
    labels: float = 0.0
    """New ones, since the last training."""
    trained_wall: float | None = None
    """When a training was last asked for."""
    baseline: float | None = None
    """Accuracy of the first labels after that."""
    records: tuple[RetrainRecord, ...] = field(default=())
    """The newest last."""

    @property
    def last(self) -> RetrainRecord | None:
        return self.records[-1] if self.records else None
