"""The seams to those who run the node: who places jobs on it, and who tells the agent what to do."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from gpuwarden.model.audit import Audited
from gpuwarden.model.command import Answer, Command
from gpuwarden.model.repair import Subject


class Cordons(Protocol):
    """Whoever places jobs on this node (Slurm, Kubernetes, Docker, an operator's command) is told that a
    device, or all of it, is out of use, and when that is over. Only what was cordoned by us is undone."""

    def cordon(self, subject: Subject, incident: str, reason: str) -> Mapping[str, str]:
        """Tell all; the same twice is the same. What each said, by its name; empty: nobody to tell.
        ``Unavailable``: one of them could not be told (the others were)."""
        ...

    def uncordon(self, subject: Subject, incident: str, still: Sequence[str]) -> Mapping[str, str]:
        """Tell all that the cordon of an incident is over; ``still``: incidents of cordons of ours that
        stand on: what is cordoned as a whole stays so until the last of them is over."""
        ...


class Audit(Protocol):
    """Where the commands of people are written down before they are carried out."""

    def audit(self, entry: Audited) -> None:
        """On disk when this returns; ``Unavailable`` when it is not. From any thread."""
        ...


class Commands(Protocol):
    """What operators ask for; a bounded queue between the API and the loop."""

    def drain(self) -> Sequence[Command]:
        """Since the last call, oldest first; never blocks."""
        ...

    def answer(self, answers: Sequence[Answer]) -> None:
        """Tell whoever asked; those who wait no longer are passed over."""
        ...
