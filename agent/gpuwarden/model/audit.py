"""Who asked for what: every command that changes something is written down before it is carried out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, by the kernel's word; ``name`` is the user's, or ``uid N`` where it has none."""

    uid: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """One command."""

    at: float
    wall: float
    caller: Caller
    verb: str
    """``ack``, ``silence add``, ``silence expire``, ``notify test``, ``cordon``, ``uncordon``, ``drain``, ``set-healthy``."""
    what: str
    """On what, and with which words."""
