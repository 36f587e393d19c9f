"""What an operator asks of the running agent, and what it answers."""

from dataclasses import dataclass
from enum import StrEnum

from gpuwarden.model.ids import IncidentId


class Verb(StrEnum):
    """What can be asked."""

    CORDON = "cordon"
    UNCORDON = "uncordon"
    DRAIN = "drain"
    SET_HEALTHY = "set-healthy"
    ROLL_BACK = "rollback"
    """Its subject is ``SERVICE@VERSION@HOW`` (``policy.rollback``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One wish of one operator: with the tick that heard it, it stands in the journal."""

    id: int
    """Tells commands of one agent's life apart."""
    verb: Verb
    subject: str
    """A device as a person names it (index, UUID or the beginning of one, PCI address), or ``node``."""
    reason: str = ""
    uid: int
    """Who asks, by the kernel's word."""
    name: str
    """That user's name, or ``uid N``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a command."""

    command: int
    is_done: bool
    text: str
    """What was done or, where nothing was, why not."""
    incident: IncidentId | None = None
