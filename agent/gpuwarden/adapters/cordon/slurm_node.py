"""A node as ``scontrol show node`` tells it, and the reason by which our drains are known. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuwarden.errors import Unavailable

PREFIX = "gpuwarden: "
_BETWEEN = " | "
_TEXT_MAX = 160
_REASON_MAX = 1000
#    State=MIXED+DRAIN+NOT_RESPONDING ThreadsPerCore=1 TmpDisk=0 Weight=1
_STATE = re.compile(r"^\s+State=([A-Z_+*~#!%$@^-]{1,200})(?:\s|$)", re.MULTILINE)
#    Reason=gpuwarden: inc-6985e9a1-4; GPU 0 is lost [root@2026-11-26T11:49:58]
_REASON = re.compile(
    r"^\s+Reason=(.*) \[([^\[\]@\s]{1,64})@[^\[\]\s]{1,40}\]\s*$", re.MULTILINE | re.DOTALL
)
# inc-6985e9a1-4; GPU 0 is lost
_ENTRY = re.compile(r"(inc-[0-9a-f]{1,16}-[0-9]{1,10})(?:; (.*))?\Z", re.ASCII)

_DRAINS = frozenset({"DRAIN", "DRAINED", "DRAINING", "DRNG", "FAIL", "FAILING"})
"""Flags, and older names of states, that keep new jobs off because somebody said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmNode:
    """One look. ``reason`` is empty where there is none; ``user`` is who gave it."""

    states: frozenset[str]
    reason: str = ""
    user: str = ""

    @property
    def is_drained(self) -> bool:
        """Whether somebody has taken it out of use, with jobs on it or without."""
        return not self.states.isdisjoint(_DRAINS)

    @property
    def is_down(self) -> bool:
        """Whether Slurm itself, or somebody, says that it is not there."""
        return "DOWN" in self.states

    @property
    def words(self) -> str:
        return "+".join(sorted(self.states))


def read(text: str) -> SlurmNode:
    """The node of a whole ``scontrol show node NAME``; ``Unavailable`` where it tells no state."""
    state = _STATE.search(text)
    if state is None:
        raise Unavailable(f"scontrol tells no state of the node: {' '.join(text.split())[:120]!r}")
    flags = (flag.strip("*~#!%$@^-") for flag in state[1].split("+"))
    reason = _REASON.search(text)
    return SlurmNode(
        states=frozenset(flag for flag in flags if flag),
        reason=" ".join(reason[1].split()) if reason else "",
        user=reason[2] if reason else "",
    )


def ours(node: SlurmNode, user: str) -> dict[str, str] | None:
    """What our reason says, by incident; ``None``: it is somebody else's. A reason of ours that another
    user has given again, or in which something else stands, is theirs."""
    if not node.reason.startswith(PREFIX) or node.user != user:
        return None
    entries: dict[str, str] = {}
    for part in node.reason.removeprefix(PREFIX).split(_BETWEEN):
        match = _ENTRY.match(part)
        if match is None:
            return None
        entries[match[1]] = match[2] or ""
    return entries


def reason_of(entries: Mapping[str, str]) -> str:
    """The reason that lists these incidents; texts give way before any incident does."""
    full = [f"{incident}; {text}" if text else incident for incident, text in entries.items()]
    reason = PREFIX + _BETWEEN.join(full)
    return reason if len(reason) <= _REASON_MAX else PREFIX + _BETWEEN.join(entries)


def said(reason: str) -> str:
    """A reason's text as Slurm gives it back: one line without its quotes or our own separator."""
    text = "".join(c if c.isprintable() and c not in "|\"'`\\[]" else " " for c in reason)
    return " ".join(text.split())[:_TEXT_MAX].strip()


def without(entries: Mapping[str, str], incident: str, still: Sequence[str]) -> dict[str, str]:
    """What is left of our reason once an incident is over; ``still`` rules over what stands there."""
    left = {known: text for known, text in entries.items() if known in still}
    return {**left, **{known: "" for known in still if known not in left}}
